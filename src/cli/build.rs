//! `build`: arguments, what they mean, and what is said about the end.

use super::build_live::Live;
use super::build_more::MoreArgs;
use super::build_plain::Plain;
use super::build_results::{Also, Results};
use super::build_subject::open_subject;
use super::remote::pull_for_run;
use super::run_options::ContainerArgs;
use super::values::maybe_path;
use super::{App, DEFAULT_ROOT, DEFAULT_STATE, build_check, client_config, environment, output, surroundings};
use crate::build::dockerfile::Problem;
use crate::build::progress::{Event, Progress, StepId};
use crate::build::session::{Failed, Fetch, Named, Wishes, check_platform};
use crate::build::worker::clean_later;
use crate::build::{Secrets, Subject, build};
use crate::container::options::{NetworkMode, RunOptions};
use crate::image::Reference;
use crate::registry::Web;
use crate::sys::file::read_limited;
use crate::sys::tty;
use anyhow::{Context, Result, anyhow, bail};
use clap::{Args, FromArgMatches, Parser};
use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

/// `build`.
#[derive(Debug, Args)]
pub struct BuildArgs {
    /// Add a line to /etc/hosts of the commands (name:address)
    #[arg(long)]
    add_host: Vec<String>,
    /// Allow the Dockerfile's commands to be less confined (network.host, security.insecure)
    #[arg(long)]
    allow: Vec<String>,
    /// Set a variable of the Dockerfile (NAME=value, or NAME to copy it from here)
    #[arg(long)]
    build_arg: Vec<String>,
    /// Give a name to a folder or an image for FROM and --from (name=PATH, name=docker-image://IMAGE)
    #[arg(long)]
    build_context: Vec<String>,
    #[command(flatten)]
    more: MoreArgs,
    /// What to do: build, or check the Dockerfile
    #[arg(long, value_name = "METHOD")]
    call: Option<String>,
    /// The cgroup above those of the commands
    #[arg(long)]
    cgroup_parent: Option<String>,
    /// Tell what is odd about the Dockerfile, without a build
    #[arg(long)]
    check: bool,
    /// Microseconds of a period of processor time
    #[arg(long)]
    cpu_period: Option<String>,
    /// Microseconds of processor time in each period
    #[arg(long, allow_hyphen_values = true)]
    cpu_quota: Option<String>,
    /// Relative share of processor time
    #[arg(short = 'c', long)]
    cpu_shares: Option<String>,
    /// Number of processors, such as 1.5
    #[arg(long)]
    cpus: Option<String>,
    /// Processors to run on (0-3, 0,1)
    #[arg(long)]
    cpuset_cpus: Option<String>,
    /// Memory nodes to use (0-3, 0,1)
    #[arg(long)]
    cpuset_mems: Option<String>,
    /// The Dockerfile, or - for standard input [default: Dockerfile in the context]
    #[arg(short, long, value_parser = maybe_path())]
    file: Option<PathBuf>,
    /// Write the image's id to a file
    #[arg(long, value_parser = maybe_path())]
    iidfile: Option<PathBuf>,
    /// Set a label of the image (name=value)
    #[arg(long)]
    label: Vec<String>,
    /// Put the image into the store also if -o says something else
    #[arg(long)]
    load: bool,
    /// Memory limit of each command (bytes, or with k, m, g)
    #[arg(short, long)]
    memory: Option<String>,
    /// Limit of memory and swap together; -1 is without limit
    #[arg(long, allow_hyphen_values = true)]
    memory_swap: Option<String>,
    /// Write the image's digests and names to a file, as JSON
    #[arg(long, value_parser = maybe_path())]
    metadata_file: Option<PathBuf>,
    /// The network of the commands: default, none, host, or a name from `network ls`
    #[arg(long)]
    network: Option<String>,
    /// Do everything anew
    #[arg(long)]
    no_cache: bool,
    /// Do everything of these stages anew
    #[arg(long, value_name = "STAGE", value_delimiter = ',')]
    no_cache_filter: Vec<String>,
    /// Where the result goes (type=docker|registry|oci|tar|local|cacheonly[,dest=PATH]); a path alone is a folder
    #[arg(short, long)]
    output: Vec<String>,
    /// The platform: only the machine's own
    #[arg(long)]
    platform: Option<String>,
    /// What is shown: auto, plain or tty
    #[arg(long, default_value = "auto")]
    progress: String,
    /// Look for newer versions of the base images
    #[arg(long)]
    pull: bool,
    /// Push the image under all of its names
    #[arg(long)]
    push: bool,
    /// Say nothing but the image's id
    #[arg(short, long)]
    quiet: bool,
    /// Give the commands a secret (id=name[,src=FILE | ,env=NAME])
    #[arg(long)]
    secret: Vec<String>,
    /// Confinement of the commands, as of run
    #[arg(long)]
    security_opt: Vec<String>,
    /// When a command fails, open a shell in the state before it
    #[arg(long)]
    shell_on_error: bool,
    /// Size of /dev/shm
    #[arg(long)]
    shm_size: Option<String>,
    /// Make one layer of all that the build adds to its base
    #[arg(long)]
    squash: bool,
    /// Give the commands an ssh agent (default, or id[=SOCKET])
    #[arg(long)]
    ssh: Vec<String>,
    /// A name of the image
    #[arg(short, long)]
    tag: Vec<String>,
    /// The stage to build
    #[arg(long)]
    target: Option<String>,
    /// Set a resource limit (name=soft[:hard])
    #[arg(long)]
    ulimit: Vec<String>,
    /// Mount a host path or a volume in each command (source:target[:options])
    #[arg(short, long)]
    volume: Vec<String>,
    /// The build context: a folder, or - for a tar archive or a Dockerfile on standard input, or where one is on the web
    path: PathBuf,
}

/// A path that may be empty: scripts say `--file "$FILE"` whether they have one or not.
/// What says how the containers of commands are, in the words of `run`, which gives them their meaning.
#[derive(Debug, Parser)]
#[command(name = "build", disable_help_flag = true, no_binary_name = true)]
struct Words {
    #[command(flatten)]
    container: ContainerArgs,
}

impl BuildArgs {
    /// What is empty was not given.
    fn without_the_empty(self) -> BuildArgs {
        let text = |value: Option<String>| value.filter(|text| !text.is_empty());
        let path = |value: Option<PathBuf>| value.filter(|path| !path.as_os_str().is_empty());
        BuildArgs {
            cgroup_parent: text(self.cgroup_parent),
            file: path(self.file),
            iidfile: path(self.iidfile),
            metadata_file: path(self.metadata_file),
            network: text(self.network),
            platform: text(self.platform),
            target: text(self.target),
            ..self
        }
    }

    fn container(&self) -> Result<RunOptions> {
        let mut words: Vec<String> = Vec::new();
        let single = [
            ("--cgroup-parent", &self.cgroup_parent),
            ("--cpu-period", &self.cpu_period),
            ("--cpu-quota", &self.cpu_quota),
            ("--cpu-shares", &self.cpu_shares),
            ("--cpus", &self.cpus),
            ("--cpuset-cpus", &self.cpuset_cpus),
            ("--cpuset-mems", &self.cpuset_mems),
            ("--memory", &self.memory),
            ("--memory-swap", &self.memory_swap),
            ("--network", &self.network),
            ("--shm-size", &self.shm_size),
        ];
        words.extend(single.into_iter().filter_map(|(flag, value)| Some(format!("{flag}={}", value.as_ref()?))));
        let several = [
            ("--add-host", &self.add_host),
            ("--security-opt", &self.security_opt),
            ("--ulimit", &self.ulimit),
            ("--volume", &self.volume),
        ];
        words.extend(several.into_iter().flat_map(|(flag, values)| values.iter().map(move |v| format!("{flag}={v}"))));
        words.push("image".into());
        let definition = super::switches_with_values(<Words as clap::CommandFactory>::command());
        let matches = definition.try_get_matches_from(words).map_err(|e| anyhow!(e.to_string().trim().to_owned()))?;
        let options = Words::from_arg_matches(&matches)?.container.options()?;
        if let NetworkMode::Container(name) = &options.network {
            bail!("the commands of a build cannot share the network of the container {name}: give a network's name");
        }
        Ok(options)
    }

    fn wishes(&self) -> Result<Wishes> {
        let epoch = match std::env::var("SOURCE_DATE_EPOCH") {
            Ok(text) if !text.is_empty() => {
                Some(text.parse::<i64>().with_context(|| format!("SOURCE_DATE_EPOCH is {text:?} and no number"))?)
            }
            _ => None,
        };
        let args = self.build_args()?;
        let epoch = match args.get("SOURCE_DATE_EPOCH") {
            Some(text) => Some(text.parse().with_context(|| format!("SOURCE_DATE_EPOCH is {text:?} and no number"))?),
            None => epoch,
        };
        Ok(Wishes {
            args,
            target: self.target.clone(),
            no_cache: self.no_cache,
            no_cache_filter: self.no_cache_filter.iter().filter(|name| !name.is_empty()).cloned().collect(),
            pull: self.pull,
            labels: environment::labels(&self.label, &[])?,
            secrets: self.secrets()?,
            named: self.build_context.iter().map(|text| named(text)).collect::<Result<_>>()?,
            container: self.container()?,
            epoch,
            allow: self.allow.iter().cloned().collect(),
            squash: self.squash,
        })
    }

    fn build_args(&self) -> Result<BTreeMap<String, String>> {
        let is_given = |name: &str| self.build_arg.iter().any(|entry| entry.split('=').next() == Some(name));
        let proxies = client_config::proxies().filter(|(name, _)| !is_given(name));
        let mut args: BTreeMap<String, String> = proxies.map(|(name, value)| (name, value.to_owned())).collect();
        for entry in &self.build_arg {
            match entry.split_once('=') {
                Some((name, value)) => drop(args.insert(name.to_owned(), value.to_owned())),
                // Without a value here it is as if nothing had been said.
                None => args.extend(std::env::var(entry).ok().map(|value| (entry.clone(), value))),
            }
        }
        Ok(args)
    }

    fn secrets(&self) -> Result<Secrets> {
        let mut secrets = Secrets::default();
        for text in &self.secret {
            let (id, content) = secret(text).with_context(|| format!("the secret {text:?}"))?;
            secrets.contents.insert(id, content);
        }
        for text in &self.ssh {
            let (id, socket) = agent(text)?;
            secrets.agents.insert(id, socket);
        }
        Ok(secrets)
    }
}

/// `name=PATH`, `name=docker-image://IMAGE`.
fn named(text: &str) -> Result<(String, Named)> {
    let Some((name, value)) = text.split_once('=').filter(|(name, value)| !name.is_empty() && !value.is_empty()) else {
        bail!("invalid value {text:?} for --build-context: name=PATH or name=docker-image://IMAGE was expected");
    };
    if let Some(image) = value.strip_prefix("docker-image://") {
        return Ok((name.to_owned(), Named::Image(image.to_owned())));
    }
    if value.contains("://") {
        bail!("the build context {value} is an address: get it first, and give the folder");
    }
    let metadata = std::fs::metadata(value).with_context(|| format!("look at the build context {value}"))?;
    if !metadata.is_dir() {
        bail!("the build context {value} is no folder");
    }
    Ok((name.to_owned(), Named::Folder(std::path::absolute(value)?)))
}

/// The largest secret in bytes.
const SECRET_LIMIT: u64 = 500 << 10;

/// `id=name,src=FILE`, `id=name,env=NAME`; without a source the id names a variable or a file.
fn secret(text: &str) -> Result<(String, Vec<u8>)> {
    let mut fields = BTreeMap::new();
    for field in text.split(',') {
        let (key, value) = field.split_once('=').with_context(|| format!("{field:?} is no key=value"))?;
        match key.to_ascii_lowercase().as_str() {
            "type" if matches!(value, "file" | "env") => fields.insert("type", value),
            "id" => fields.insert("id", value),
            "source" | "src" => fields.insert("src", value),
            "env" => fields.insert("env", value),
            _ => bail!("unexpected key {key:?}: id, src, env and type are known"),
        };
    }
    let id = *fields.get("id").context("it has no id")?;
    let variable = |name: &str| std::env::var(name).with_context(|| format!("the variable {name} is not set"));
    let file = |path: &str| read_limited(Path::new(path), SECRET_LIMIT).with_context(|| format!("read {path}"));
    let content = match (fields.get("env"), fields.get("src"), fields.get("type")) {
        (Some(name), _, _) => variable(name)?.into_bytes(),
        (None, Some(name), Some(&"env")) => variable(name)?.into_bytes(),
        (None, Some(path), _) => file(path)?,
        (None, None, Some(&"file")) => file(id)?,
        (None, None, _) => std::env::var(id).map(String::into_bytes).or_else(|_| file(id))?,
    };
    if content.len() as u64 > SECRET_LIMIT {
        bail!("it is larger than {SECRET_LIMIT} bytes");
    }
    Ok((id.to_owned(), content))
}

fn agent(text: &str) -> Result<(String, PathBuf)> {
    use std::os::unix::fs::FileTypeExt;
    let (id, socket) = match text.split_once('=') {
        Some((id, path)) => (id, PathBuf::from(path)),
        None => {
            let socket = std::env::var_os("SSH_AUTH_SOCK");
            (text, socket.map(PathBuf::from).context("SSH_AUTH_SOCK is not set: there is no ssh agent to give")?)
        }
    };
    let metadata = std::fs::metadata(&socket).with_context(|| format!("look at {}", socket.display()))?;
    if !metadata.file_type().is_socket() {
        bail!("{} is no socket: keys are given by way of an ssh agent", socket.display());
    }
    Ok((id.to_owned(), std::path::absolute(socket)?))
}

/// Whoever shows what goes on.
enum View {
    Plain(Plain),
    Live(Live),
}

impl View {
    fn new(args: &BuildArgs) -> Result<View> {
        let is_terminal = tty::is_terminal(rustix::stdio::stderr());
        Ok(match (args.progress.as_str(), args.quiet) {
            (_, true) => View::Plain(Plain::new(true)),
            ("plain", _) => View::Plain(Plain::new(false)),
            ("quiet" | "none", _) => View::Plain(Plain::new(true)),
            ("auto", _) if !is_terminal => View::Plain(Plain::new(false)),
            ("auto" | "tty", _) if is_terminal => View::Live(Live::start()),
            ("tty", _) => bail!("--progress tty needs a terminal as standard error"),
            (other, _) => bail!("invalid progress mode {other}: auto, plain and tty are known"),
        })
    }

    fn finish(&mut self) {
        if let View::Live(live) = self {
            live.finish();
        }
    }

    fn quote(&self, step: &str) -> String {
        match self {
            View::Plain(plain) => plain.quote(step),
            View::Live(live) => live.quote(step),
        }
    }
}

impl Progress for View {
    fn tell(&self, step: StepId, event: Event) {
        match self {
            View::Plain(plain) => plain.tell(step, event),
            View::Live(live) => live.tell(step, event),
        }
    }

    fn warn(&self, text: &str) {
        match self {
            View::Plain(plain) => plain.warn(text),
            View::Live(live) => live.warn(text),
        }
    }
}

/// Images come from registries, as for `run`.
struct FromRegistry<'a> {
    app: &'a App,
    quiet: bool,
}

impl Fetch for FromRegistry<'_> {
    fn fetch(&self, name: &Reference) -> Result<()> {
        pull_for_run(self.app, &name.familiar(), None, self.quiet)
    }

    fn download(&self, address: &str, into: &File, go_on: &dyn Fn(u64) -> Result<()>) -> Result<Option<i64>> {
        Web::open(&surroundings::read(false))?.get(address, into, go_on)
    }
}

/// `minirun build`.
pub fn run(app: &App, args: BuildArgs) -> Result<u8> {
    let args = args.without_the_empty();
    args.more.check(args.quiet)?;
    let result = match build_check::is_asked_for(args.call.as_deref())? || args.check {
        true => check(app, &args),
        false => make(app, &args),
    };
    // Nobody waits for what need not be waited for.
    let _ = clean_later(&app.root);
    result
}

fn subject(app: &App, args: &BuildArgs) -> Result<Subject> {
    // BuildKit's way to ask for it.
    let keeps_git = args.build_arg.iter().any(|arg| arg == "BUILDKIT_CONTEXT_KEEP_GIT_DIR=1");
    open_subject(app, args.file.as_deref(), &args.path, keeps_git, args.quiet)
}

fn check(app: &App, args: &BuildArgs) -> Result<u8> {
    match subject(app, args)?.dockerfile() {
        Ok(file) => build_check::report(&file),
        Err(problem) => explain(app, args, &View::Plain(Plain::new(true)), problem.into()),
    }
}

fn make(app: &App, args: &BuildArgs) -> Result<u8> {
    let names = args.tag.iter().map(|name| tag(name)).collect::<Result<Vec<_>>>()?;
    let wishes = args.wishes()?;
    if let Some(platform) = &args.platform {
        platform.split(',').try_for_each(check_platform)?;
    }
    let mut results = Results::parse(&args.output, names, Also { load: args.load, push: args.push })?;
    let subject = subject(app, args)?;
    let mut view = View::new(args)?;
    let built = build(&app.root, subject, &wishes, results.outputs(), &view, &FromRegistry { app, quiet: args.quiet });
    view.finish();
    let id = match built {
        Ok(id) => id,
        Err(error) => return explain(app, args, &view, error),
    };
    let pushed = results.finish(app, id, args.quiet)?;
    let write =
        |path: &Path, text: String| std::fs::write(path, text).with_context(|| format!("write {}", path.display()));
    if let (Some(path), Some(id)) = (&args.iidfile, id) {
        write(path, id.to_string())?;
    }
    if let Some(path) = &args.metadata_file {
        write(path, format!("{:#}", results.metadata(app, id, pushed)?))?;
    }
    if let Some(id) = id.filter(|_| args.quiet) {
        output::line(&id.to_string())?;
    }
    Ok(0)
}

/// A name for the image.
pub fn tag(name: &str) -> Result<Reference> {
    let reference = Reference::parse(name).with_context(|| format!("invalid argument {name:?} for --tag"))?;
    match reference.digest() {
        None => Ok(reference),
        Some(_) => bail!("invalid argument {name:?} for --tag: a digest cannot be given"),
    }
}

/// Says what has failed and where, and how to look around there.
fn explain(app: &App, args: &BuildArgs, view: &View, error: anyhow::Error) -> Result<u8> {
    let failed = error.downcast_ref::<Failed>();
    let problem = failed.map(|failed| &failed.problem).or_else(|| error.downcast_ref::<Problem>());
    let Some(problem) = problem else { return Err(error.context("failed to solve")) };
    if let Some(failed) = failed.filter(|failed| !failed.step.is_empty() && failed.before.is_some()) {
        output::note(view.quote(&failed.step).trim_end());
    }
    let excerpt = problem.excerpt();
    if !excerpt.is_empty() {
        output::note(excerpt.trim_end());
    }
    let text = problem.to_string();
    let text = if problem.is_syntax { text } else { problem.message.clone() };
    output::complain(&anyhow!(text).context("failed to solve"));
    let Some(before) = failed.and_then(|failed| failed.before.as_ref()) else { return Ok(1) };
    let variables: String = before.env.iter().map(|e| format!("-e {} ", shell_words::quote(e))).collect();
    let id = before.image.short();
    let places = [("root", app.root.path(), DEFAULT_ROOT), ("state", app.root.state(), DEFAULT_STATE)];
    let places = places.into_iter().filter(|(_, path, default)| *path != Path::new(default));
    let places: String =
        places.map(|(flag, path, _)| format!("--{flag} {} ", shell_words::quote(&path.to_string_lossy()))).collect();
    if args.shell_on_error && tty::is_terminal(rustix::stdio::stdin()) {
        output::note("A shell in the state before this step; the build fails when you leave it.");
        open_shell(app, args, before)?;
        return Ok(1);
    }
    output::note(&format!(
        "To look around in the state before this step:\n  minirun {places}run --rm -it {variables}--entrypoint /bin/sh {id}"
    ));
    Ok(1)
}

fn open_shell(app: &App, args: &BuildArgs, before: &crate::build::session::Before) -> Result<()> {
    let mut command = std::process::Command::new(&app.program);
    command.arg("--root").arg(app.root.path()).arg("--state").arg(app.root.state());
    command.args(["run", "--rm", "-it", "--entrypoint", "/bin/sh"]);
    command.args(before.env.iter().flat_map(|entry| ["-e", entry.as_str()]));
    command.args(args.volume.iter().flat_map(|volume| ["-v", volume.as_str()]));
    command.args(args.network.iter().flat_map(|network| ["--network", network.as_str()]));
    command.arg(before.image.short());
    command.status().context("open a shell").map(drop)
}
