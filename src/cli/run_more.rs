//! Further flags of `run` and `create`: health, namespaces, devices, finer limits, and those that are refused.

use super::{moment, values};
use crate::container::device_requests::{parse_request, parse_rule};
use crate::container::options::{BlockIo, HealthOptions, LogDriver, RunOptions};
use crate::container::sharing::Sharing;
use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use std::collections::BTreeMap;

/// What `run` and `create` have in common beside the basic flags.
#[derive(Debug, Args)]
pub struct MoreArgs {
    /// Set an annotation of the OCI specification (name=value)
    #[arg(long)]
    annotation: Vec<String>,
    /// Connect only to some of its streams: stdin, stdout, stderr
    #[arg(short, long)]
    pub(super) attach: Vec<String>,
    /// Relative share of the time of one disk (path:weight)
    #[arg(long)]
    blkio_weight_device: Vec<String>,
    /// Cgroup namespace: private or host
    #[arg(long)]
    cgroupns: Option<String>,
    /// Let it use a device of the host's (path[:path inside][:rwm])
    #[arg(long)]
    device: Vec<String>,
    /// Allow devices by number (c 1:3 rwm)
    #[arg(long)]
    device_cgroup_rule: Vec<String>,
    /// Limit reading from a device (path:bytes a second)
    #[arg(long)]
    device_read_bps: Vec<String>,
    /// Limit reading from a device (path:operations a second)
    #[arg(long)]
    device_read_iops: Vec<String>,
    /// Limit writing to a device (path:bytes a second)
    #[arg(long)]
    device_write_bps: Vec<String>,
    /// Limit writing to a device (path:operations a second)
    #[arg(long)]
    device_write_iops: Vec<String>,
    /// A shell line that finds out whether the container is well
    #[arg(long)]
    health_cmd: Option<String>,
    /// Time between two checks (30s)
    #[arg(long, allow_hyphen_values = true)]
    health_interval: Option<String>,
    /// Failures in a row until it is unhealthy (3)
    #[arg(long, allow_hyphen_values = true)]
    health_retries: Option<i64>,
    /// Time between two checks while it starts (5s)
    #[arg(long, allow_hyphen_values = true)]
    health_start_interval: Option<String>,
    /// How long failures do not count after the start
    #[arg(long, allow_hyphen_values = true)]
    health_start_period: Option<String>,
    /// How long one check may take (30s)
    #[arg(long, allow_hyphen_values = true)]
    health_timeout: Option<String>,
    /// IPC namespace: private, shareable, host, none, container:NAME
    #[arg(long)]
    ipc: Option<String>,
    /// Where the output is kept: json-file, local or none
    #[arg(long)]
    log_driver: Option<String>,
    /// How readily memory is swapped out (0 to 100, cgroup version 1)
    #[arg(long, allow_hyphen_values = true)]
    memory_swappiness: Option<i64>,
    /// No health check, whatever the image says
    #[arg(long)]
    no_healthcheck: bool,
    /// Let processes wait for memory instead of killing them (cgroup version 1)
    #[arg(long)]
    oom_kill_disable: bool,
    /// Process numbers: host, container:NAME
    #[arg(long)]
    pid: Option<String>,
    /// Say nothing about pulling
    #[arg(short, long)]
    pub(super) quiet: bool,
    /// Remove a container that has the name already
    #[arg(long)]
    pub(super) replace: bool,
    /// Host name: host, container:NAME
    #[arg(long)]
    uts: Option<String>,
    /// User ids: host
    #[arg(long)]
    userns: Option<String>,
    #[command(flatten)]
    others: OtherArgs,
}

/// Flags of Docker's that mean nothing here, or that are refused by name.
#[derive(Debug, Args)]
pub struct OtherArgs {
    #[arg(long, hide = true)]
    cpu_count: Option<String>,
    #[arg(long, hide = true)]
    cpu_percent: Option<String>,
    #[arg(long, hide = true, default_value_t = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    #[arg(num_args = 0..=1, require_equals = true)]
    disable_content_trust: bool,
    #[arg(long, hide = true)]
    gpus: Option<String>,
    #[arg(long, hide = true)]
    io_maxbandwidth: Option<String>,
    #[arg(long, hide = true)]
    io_maxiops: Option<String>,
    #[arg(long, hide = true)]
    isolation: Option<String>,
    #[arg(long, hide = true)]
    runtime: Option<String>,
    #[arg(long, hide = true)]
    storage_opt: Vec<String>,
    #[arg(long, hide = true)]
    use_api_socket: bool,
}

impl OtherArgs {
    /// A wish that is not fulfilled is told, and not passed over.
    fn check(&self) -> Result<()> {
        let windows = [
            ("cpu-count", self.cpu_count.is_some()),
            ("cpu-percent", self.cpu_percent.is_some()),
            ("io-maxbandwidth", self.io_maxbandwidth.is_some()),
            ("io-maxiops", self.io_maxiops.is_some()),
        ];
        if let Some((flag, _)) = windows.iter().find(|(_, given)| *given) {
            bail!("--{flag} is for Windows containers only");
        }
        ensure!(
            self.disable_content_trust,
            "content trust is not supported: there is no --disable-content-trust=false"
        );
        ensure!(self.gpus.is_none(), "--gpus is not supported; pass the devices with --device");
        if let Some(isolation) = self.isolation.as_deref().filter(|i| !matches!(*i, "" | "default")) {
            bail!("invalid isolation {isolation:?}: on Linux it is default");
        }
        if let Some(runtime) = self.runtime.as_deref().filter(|r| !matches!(*r, "" | "minirun")) {
            bail!("unknown or invalid runtime name: {runtime} (minirun is its own runtime)");
        }
        ensure!(self.storage_opt.is_empty(), "--storage-opt is not supported: the size of a container is not limited");
        ensure!(!self.use_api_socket, "--use-api-socket is not supported: there is no daemon with a socket");
        Ok(())
    }
}

impl MoreArgs {
    /// Adds what the flags say.
    ///
    /// # Errors
    /// A value that makes no sense, wishes that contradict each other, and what this version cannot do.
    pub fn apply(&self, options: &mut RunOptions) -> Result<()> {
        self.others.check()?;
        options.health = self.health()?;
        self.namespaces(options)?;
        self.limits(options)?;
        for text in &self.annotation {
            let (key, value) = text.split_once('=').unwrap_or((text, ""));
            ensure!(!key.is_empty(), "invalid annotation '{text}': empty name");
            options.annotations.insert(key.to_owned(), value.to_owned());
        }
        options.devices = self.device.iter().map(|d| parse_request(d)).collect::<Result<_>>()?;
        self.device_cgroup_rule.iter().try_for_each(|rule| parse_rule(rule).map(drop))?;
        options.device_rules.clone_from(&self.device_cgroup_rule);
        options.log_driver = match self.log_driver.as_deref() {
            None | Some("" | "json-file") => LogDriver::JsonFile,
            Some("local") => LogDriver::Local,
            Some("none") => LogDriver::None,
            Some(other) => bail!("the log driver {other:?} is not supported: it is json-file, local or none"),
        };
        Ok(())
    }

    fn health(&self) -> Result<HealthOptions> {
        let times = [
            ("interval", &self.health_interval),
            ("timeout", &self.health_timeout),
            ("start-period", &self.health_start_period),
            ("start-interval", &self.health_start_interval),
        ];
        let any = self.health_cmd.is_some() || self.health_retries.is_some() || times.iter().any(|(_, t)| t.is_some());
        if self.no_healthcheck {
            ensure!(!any, "--no-healthcheck conflicts with --health-* options");
            return Ok(HealthOptions { off: true, ..HealthOptions::default() });
        }
        let mut values = [None; 4];
        for ((name, text), value) in times.iter().zip(&mut values) {
            let Some(text) = text.as_ref().filter(|text| *text != "0") else { continue };
            let time = moment::duration(text);
            let time = time.with_context(|| format!("invalid argument {text:?} for \"--health-{name}\" flag"))?;
            ensure!(!time.is_negative(), "--health-{name} cannot be negative");
            let time = i64::try_from(time.as_nanos()).unwrap_or(i64::MAX);
            ensure!(time == 0 || time >= 1_000_000, "--health-{name} cannot be less than 1ms");
            *value = Some(time).filter(|t| *t != 0);
        }
        ensure!(self.health_retries.is_none_or(|n| n >= 0), "--health-retries cannot be negative");
        let [interval, timeout, start_period, start_interval] = values;
        Ok(HealthOptions {
            off: false,
            command: self.health_cmd.clone().filter(|c| !c.is_empty()),
            interval,
            timeout,
            retries: self.health_retries.filter(|n| *n != 0),
            start_period,
            start_interval,
        })
    }

    fn namespaces(&self, options: &mut RunOptions) -> Result<()> {
        let read = |text: &Option<String>, kind: &str, allowed: &[&str]| match text {
            None => Ok(Sharing::Private),
            Some(text) => Sharing::parse(text, allowed)
                .with_context(|| format!("--{kind}: invalid mode {text:?}: it is {}", allowed.join(", "))),
        };
        options.pid = read(&self.pid, "pid", &["private", "host", "container"])?;
        options.ipc = read(&self.ipc, "ipc", &["private", "shareable", "host", "none", "container"])?;
        options.uts = read(&self.uts, "uts", &["private", "host", "container"])?;
        options.cgroup_namespace = read(&self.cgroupns, "cgroupns", &["private", "host"])?;
        if options.uts.is_foreign() && (options.hostname.is_some() || options.domainname.is_some()) {
            bail!("Conflicting options: hostname and the UTS mode");
        }
        match self.userns.as_deref() {
            None | Some("" | "host") => Ok(()),
            Some(other) => bail!("--userns: {other:?} is not supported: a container has the host's user ids (host)"),
        }
    }

    fn limits(&self, options: &mut RunOptions) -> Result<()> {
        let r = &mut options.resources;
        r.oom_kill_disable = self.oom_kill_disable;
        r.memory_swappiness = match self.memory_swappiness {
            None | Some(-1) => None,
            Some(n @ 0..=100) => Some(n as u64),
            Some(n) => bail!("Invalid value: {n}, valid memory swappiness range is 0-100"),
        };
        self.block_io(&mut r.block_io)
    }

    /// Limits of single devices.
    fn block_io(&self, limits: &mut BlockIo) -> Result<()> {
        let bytes = |text: &str| values::bytes(text).ok().and_then(|n| u64::try_from(n).ok());
        let count = |text: &str| text.parse().ok();
        let rates = |list: &[String], read: &dyn Fn(&str) -> Option<u64>| -> Result<Vec<(String, u64)>> {
            let one = |text: &String| {
                let (path, rate) = device_value(text)?;
                let rate = read(rate).with_context(|| {
                    format!("invalid rate for device: {text}. The correct format is <device-path>:<number>[<unit>]")
                })?;
                Ok((path, rate))
            };
            list.iter().map(one).collect()
        };
        let weight = |text: &String| {
            let (path, weight) = device_value(text)?;
            let weight = weight.parse().ok().filter(|w| matches!(w, 10..=1000));
            Ok((path, weight.with_context(|| format!("invalid weight for device: {text}"))?))
        };
        limits.weight_devices = self.blkio_weight_device.iter().map(weight).collect::<Result<_>>()?;
        limits.read_bps = rates(&self.device_read_bps, &bytes)?;
        limits.write_bps = rates(&self.device_write_bps, &bytes)?;
        limits.read_iops = rates(&self.device_read_iops, &count)?;
        limits.write_iops = rates(&self.device_write_iops, &count)?;
        Ok(())
    }
}

fn device_value(text: &str) -> Result<(String, &str)> {
    let (path, value) = text.rsplit_once(':').with_context(|| format!("bad format: {text}"))?;
    ensure!(path.starts_with("/dev/"), "bad format for device path: {text}");
    Ok((path.to_owned(), value))
}

/// The last of several values of one key counts.
pub(super) fn pairs(list: &[String], what: &str) -> Result<BTreeMap<String, String>> {
    let pair = |text: &String| {
        let pair = text.split_once('=').with_context(|| format!("invalid {what} {text:?}: expected name=value"))?;
        Ok((pair.0.to_owned(), pair.1.to_owned()))
    };
    list.iter().map(pair).collect()
}
