//! What a Dockerfile says, as plain data. Variables are not expanded here: [`super::scope`] does that, in the order of
//! the instructions.

use super::source::{Lines, Source, Warning};
use std::sync::Arc;

/// A whole file.
#[derive(Clone, Debug)]
pub struct Dockerfile {
    /// Where it was read from, for excerpts.
    pub source: Arc<Source>,
    /// `# syntax=`, `# escape=`, `# check=`.
    pub directives: Directives,
    /// `ARG`s before the first `FROM`.
    pub global_args: Vec<GlobalArg>,
    /// In the order of the file; at least one.
    pub stages: Vec<Stage>,
    /// What is odd about it.
    pub warnings: Vec<Warning>,
}

/// The parser directives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directives {
    /// The frontend image that was asked for; it is not run.
    pub syntax: Option<String>,
    /// `\` or a backtick.
    pub escape: char,
    /// Options of the checks, as in `skip=all;error=true`.
    pub check: Option<String>,
}

/// One definition of an `ARG` before the first `FROM`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GlobalArg {
    pub arg: Arg,
    pub lines: Lines,
}

/// A name, and its default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arg {
    pub name: String,
    pub default: Option<String>,
}

/// From one `FROM` to the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stage {
    /// As in `AS NAME`, in lower case.
    pub name: Option<String>,
    /// An image, an earlier stage or `scratch`; may hold variables.
    pub base: String,
    /// `--platform`; may hold variables.
    pub platform: Option<String>,
    /// The `FROM` itself.
    pub lines: Lines,
    /// The text of the `FROM`.
    pub original: String,
    /// What follows it.
    pub instructions: Vec<Instruction>,
}

/// One instruction of a stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instruction {
    pub kind: Kind,
    /// Where it stands, continuation lines and heredocs included.
    pub lines: Lines,
    /// Its text with continuation lines joined and comments dropped, without heredoc bodies.
    pub original: String,
}

/// What an instruction is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    Add(Transfer),
    Arg(Vec<Arg>),
    Cmd(Command),
    Copy(Transfer),
    Entrypoint(Command),
    Env(Vec<Pair>),
    Expose(Vec<String>),
    Healthcheck(Healthcheck),
    Label(Vec<Pair>),
    Maintainer(String),
    /// The text of an instruction for whoever builds on this image.
    OnBuild(String),
    Run(Run),
    Shell(Vec<String>),
    StopSignal(String),
    User(String),
    Volume(Vec<String>),
    Workdir(String),
}

/// A command in one of its two forms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// `["program", "argument"]`.
    Exec(Vec<String>),
    /// Text for the stage's shell.
    Shell(String),
}

/// `name=value`. Quotes and variables in both are as they stand in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    pub name: String,
    pub value: String,
    /// Written as `ENV name value`.
    pub is_old_form: bool,
}

/// `RUN`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    pub command: Command,
    /// The bodies of the heredocs in the command, in order.
    pub heredocs: Vec<Heredoc>,
    /// `--mount`, in order; may hold variables.
    pub mounts: Vec<MountText>,
    /// `--network`.
    pub network: Option<RunNetwork>,
    /// `--security`.
    pub security: Option<RunSecurity>,
    /// `--device`, as text.
    pub devices: Vec<String>,
}

/// `--network` of a `RUN`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunNetwork {
    Default,
    None,
    Host,
}

/// `--security` of a `RUN`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunSecurity {
    Sandbox,
    Insecure,
}

/// What a `RUN` gives to the kernel, when its heredocs are taken into account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Script {
    /// A program and its arguments.
    Exec(Vec<String>),
    /// Text for the stage's shell.
    Shell(String),
    /// A file with a `#!` line: it is shown to the command as `/dev/pipes/NAME`, read-only and executable, and run.
    File { name: String, content: String },
}

/// The value of one `--mount`: its comma-separated fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountText {
    /// The whole value.
    pub text: String,
    /// Keys in lower case; values may hold variables.
    pub fields: Vec<(String, Option<String>)>,
}

/// A mount of a `RUN`, expanded and checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    pub kind: MountKind,
    /// Where; made absolute by whoever knows the working directory. Empty: what the kind says.
    pub target: String,
    pub read_only: bool,
    /// `from=`: a stage, an image; `None` is the context (bind) or nothing (cache).
    pub from: Option<String>,
    /// `source=` within it.
    pub source: Option<String>,
    /// `id=` of a cache, a secret or an ssh agent. A secret always has one: `source=` or the target's last name else.
    pub id: Option<String>,
    pub sharing: Sharing,
    /// `required=` of a secret or an ssh agent.
    pub required: bool,
    /// `size=` of a tmpfs, bytes.
    pub size: Option<u64>,
    pub mode: Option<u32>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    /// `env=` of a secret: the variable that gets its content.
    pub env: Option<String>,
}

/// What is mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MountKind {
    Bind,
    Cache,
    Tmpfs,
    Secret,
    Ssh,
}

/// Who may use a cache at the same time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sharing {
    #[default]
    Shared,
    Private,
    Locked,
}

/// `COPY` or `ADD`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transfer {
    pub sources: Vec<TransferSource>,
    pub destination: String,
    /// `--from`, only of `COPY`: a stage by name or number, or an image.
    pub from: Option<String>,
    pub chown: Option<String>,
    pub chmod: Option<String>,
    pub link: bool,
    pub parents: bool,
    pub excludes: Vec<String>,
    /// Only of `ADD`.
    pub checksum: Option<String>,
    /// Only of `ADD`.
    pub keep_git_dir: bool,
    /// Only of `ADD`: whether archives are unpacked; by default local ones are.
    pub unpack: Option<bool>,
}

/// What is copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TransferSource {
    /// A path or pattern, or for `ADD` an address.
    Path(String),
    /// A file of this name and content.
    Heredoc(Heredoc),
}

/// `<<NAME` and its body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heredoc {
    pub name: String,
    /// As it stands in the file, each line with its line feed.
    pub content: String,
    /// Whether variables in it are expanded: its name was not quoted.
    pub expand: bool,
    /// `<<-`: leading tabs do not count.
    pub strip_tabs: bool,
}

/// `HEALTHCHECK`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Healthcheck {
    /// `NONE`.
    Off,
    /// Times are in nanoseconds; 0 means inherited.
    Check { command: Command, interval: i64, timeout: i64, start_period: i64, start_interval: i64, retries: i64 },
}

impl Heredoc {
    /// The content as the file's reader sees it.
    pub fn text(&self) -> String {
        match self.strip_tabs {
            false => self.content.clone(),
            true => self.content.split_inclusive('\n').map(|line| line.trim_start_matches('\t')).collect(),
        }
    }
}

impl Run {
    /// What is run. A command that is nothing but one heredoc is that heredoc's text.
    pub fn script(&self) -> Script {
        let text = match &self.command {
            Command::Exec(words) => return Script::Exec(words.clone()),
            Command::Shell(text) => text,
        };
        let Some(first) = self.heredocs.first() else { return Script::Shell(text.clone()) };
        let is_all = self.heredocs.len() == 1 && text.starts_with("<<") && !text.contains(char::is_whitespace);
        if is_all {
            let content = first.text();
            return match content.starts_with("#!") {
                true => Script::File { name: first.name.clone(), content },
                false => Script::Shell(content),
            };
        }
        let bodies = self.heredocs.iter().map(|h| format!("\n{}{}", h.content, h.name));
        Script::Shell(std::iter::once(text.clone()).chain(bodies).collect())
    }
}
