//! The flags of `run` and `create`, and what they mean.

use super::limits::LimitArgs;
use super::network_options::NetworkArgs;
use super::remote::When;
use super::run_more::{MoreArgs, pairs};
use super::values::given;
use super::{environment, mount_spec, values};
use crate::container::options::{MountRequest, RunOptions};
use crate::container::volumes::volumes_from_mode;
use anyhow::{Result, bail};
use clap::Args;
use std::path::PathBuf;

/// What `run` and `create` have in common.
#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
pub struct ContainerArgs {
    /// Add a capability
    #[arg(long)]
    cap_add: Vec<String>,
    /// Drop a capability
    #[arg(long)]
    cap_drop: Vec<String>,
    /// The cgroup above the container's
    #[arg(long)]
    cgroup_parent: Option<String>,
    /// Write the container's id to a file
    #[arg(long)]
    pub(super) cidfile: Option<String>,
    /// NIS domain name
    #[arg(long)]
    domainname: Option<String>,
    /// Replace the image's entry point
    #[arg(long)]
    entrypoint: Option<String>,
    /// Set a variable (NAME=value, or NAME to copy it from here)
    #[arg(short, long)]
    env: Vec<String>,
    /// Read variables from a file
    #[arg(long)]
    env_file: Vec<PathBuf>,
    /// Add a group
    #[arg(long)]
    group_add: Vec<String>,
    /// Print this help
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,
    /// Host name inside
    #[arg(short = 'h', long)]
    hostname: Option<String>,
    /// Run a reaper as the first process
    #[arg(long)]
    init: bool,
    /// Keep standard input open
    #[arg(short, long)]
    pub(super) interactive: bool,
    /// Set a label (name=value)
    #[arg(short, long)]
    label: Vec<String>,
    /// Read labels from a file
    #[arg(long)]
    label_file: Vec<PathBuf>,
    /// Rotation of the log (max-size=10m, max-file=3)
    #[arg(long)]
    log_opt: Vec<String>,
    /// Mount something (type=bind|volume|tmpfs|image,src=…,dst=…,readonly)
    #[arg(long)]
    mount: Vec<String>,
    /// The container's name
    #[arg(long)]
    pub(super) name: Option<String>,
    #[command(flatten)]
    limits: LimitArgs,
    #[command(flatten)]
    network: NetworkArgs,
    /// Preference of the OOM killer (-1000 to 1000)
    #[arg(long, allow_hyphen_values = true)]
    oom_score_adj: Option<i32>,
    /// The image's platform, if it is not this machine's (os/architecture[/variant])
    #[arg(long)]
    pub(super) platform: Option<String>,
    /// All capabilities, all devices, nothing masked
    #[arg(long)]
    privileged: bool,
    /// When to get the image from its registry
    #[arg(long, value_enum, default_value = "missing")]
    pub(super) pull: When,
    /// Make the root file system read-only
    #[arg(long)]
    read_only: bool,
    /// When to start it again: no, always, unless-stopped, on-failure[:N]
    #[arg(long, default_value = "no")]
    restart: String,
    /// Remove the container when it ends
    #[arg(long)]
    pub(super) rm: bool,
    /// Confinement (no-new-privileges, systempaths=unconfined, apparmor=PROFILE)
    #[arg(long)]
    security_opt: Vec<String>,
    /// Size of /dev/shm
    #[arg(long)]
    shm_size: Option<String>,
    /// The signal that asks it to stop
    #[arg(long)]
    stop_signal: Option<String>,
    /// Seconds until it is killed after that
    #[arg(long, allow_hyphen_values = true)]
    stop_timeout: Option<i64>,
    /// Set a kernel parameter of the container's namespaces (name=value)
    #[arg(long)]
    sysctl: Vec<String>,
    /// Mount memory (path[:options])
    #[arg(long)]
    tmpfs: Vec<String>,
    /// Give it a terminal
    #[arg(short, long)]
    pub(super) tty: bool,
    /// Set a resource limit (name=soft[:hard])
    #[arg(long)]
    ulimit: Vec<String>,
    /// User and group (name|uid[:group|gid])
    #[arg(short, long)]
    user: Option<String>,
    /// Mount a host path or a volume (source:target[:options])
    #[arg(short, long)]
    volume: Vec<String>,
    /// Mount what another container has mounted (container[:ro])
    #[arg(long)]
    volumes_from: Vec<String>,
    /// Working directory
    #[arg(short, long)]
    workdir: Option<String>,
    #[command(flatten)]
    pub(super) more: MoreArgs,
    /// The image, and the command with its arguments, whose flags are its own
    // One argument: behind the first word of a trailing one nothing is taken for a flag of ours.
    #[arg(required = true, num_args = 1.., trailing_var_arg = true, value_names = ["IMAGE", "COMMAND"])]
    image_and_command: Vec<String>,
}

impl ContainerArgs {
    /// The image.
    pub(super) fn image(&self) -> &str {
        self.image_and_command.first().map_or("", String::as_str)
    }

    /// Gives the flags their meaning.
    ///
    /// # Errors
    /// A value that makes no sense, and wishes that contradict each other.
    pub(super) fn options(&self) -> Result<RunOptions> {
        let restart = values::restart(&self.restart)?;
        if self.rm && restart != Default::default() {
            bail!("Conflicting options: --restart and --rm");
        }
        let host = environment::of_host;
        let caps = |flag, list: &[String]| list.iter().map(|c| values::capability(flag, c)).collect::<Result<_>>();
        let (log, log_details) = values::log_opts(&self.log_opt)?;
        let mut options = RunOptions {
            command: self.image_and_command.iter().skip(1).cloned().collect(),
            entrypoint: self.entrypoint.clone(),
            env: environment::env(&self.env, &self.env_file, &host)?,
            workdir: given(self.workdir.as_ref()).map(absolute_workdir).transpose()?,
            user: given(self.user.as_ref()).map(str::to_owned),
            group_add: self.group_add.clone(),
            hostname: given(self.hostname.as_ref()).map(values::hostname).transpose()?,
            domainname: self.domainname.clone(),
            tty: self.tty,
            interactive: self.interactive,
            remove: self.rm,
            init: self.init,
            read_only: self.read_only,
            privileged: self.privileged,
            cap_add: caps("CapAdd", &self.cap_add)?,
            cap_drop: caps("CapDrop", &self.cap_drop)?,
            security: values::security_opts(&self.security_opt)?,
            mounts: self.mounts()?,
            volumes_from: self.volumes_from()?,
            extra_hosts: self.network.extra_hosts()?,
            labels: environment::labels(&self.label, &self.label_file)?,
            stop_signal: given(self.stop_signal.as_ref()).map(values::signal).transpose()?,
            stop_timeout: self.stop_timeout,
            restart,
            resources: self.limits.of_new_container()?,
            ulimits: self.ulimit.iter().map(|u| values::ulimit(u)).collect::<Result<_>>()?,
            shm_size: self.shm_size()?,
            sysctls: pairs(&self.sysctl, "sysctl")?,
            oom_score_adj: self.oom_score_adj,
            cgroup_parent: self.cgroup_parent.clone(),
            log,
            log_details,
            ..RunOptions::default()
        };
        self.more.apply(&mut options)?;
        self.network.apply(&mut options)?;
        Ok(options)
    }

    /// Nothing at all would be of no use to anybody: 0 asks for the usual.
    fn shm_size(&self) -> Result<Option<u64>> {
        let size = given(self.shm_size.as_ref()).map(values::bytes).transpose()?;
        Ok(size.and_then(|size| u64::try_from(size).ok()).filter(|size| *size > 0))
    }

    fn mounts(&self) -> Result<Vec<MountRequest>> {
        // Only a relative path needs it.
        let here = std::env::current_dir().unwrap_or_default();
        let mut mounts = Vec::new();
        for spec in &self.volume {
            mounts.push(mount_spec::volume(spec, &here)?);
        }
        for spec in &self.mount {
            mounts.push(mount_spec::mount(spec, &here)?);
        }
        for spec in &self.tmpfs {
            mounts.push(mount_spec::tmpfs(spec)?);
        }
        mount_spec::check_duplicates(&mounts)?;
        Ok(mounts)
    }

    fn volumes_from(&self) -> Result<Vec<String>> {
        for spec in &self.volumes_from {
            if spec.is_empty() {
                bail!("volumes-from specification cannot be an empty string");
            }
            if let Some((_, mode)) = spec.split_once(':') {
                volumes_from_mode(mode)?;
            }
        }
        Ok(self.volumes_from.clone())
    }
}

fn absolute_workdir(dir: &str) -> Result<String> {
    if dir.starts_with('/') {
        Ok(dir.to_owned())
    } else {
        bail!("the working directory {dir:?} is invalid, it needs to be an absolute path")
    }
}
