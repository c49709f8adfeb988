//! Devices of the host that a container may use, and limits for block devices: asked for by path, looked up at each
//! start, because their numbers are not the same for ever.

use super::options::{BlockIo, RunOptions};
use anyhow::{Context, Result, anyhow, bail};
use oci_spec::runtime::{
    LinuxBlockIo, LinuxDevice, LinuxDeviceBuilder, LinuxDeviceCgroup, LinuxDeviceCgroupBuilder, LinuxDeviceType,
    LinuxThrottleDevice, LinuxThrottleDeviceBuilder, LinuxWeightDevice, LinuxWeightDeviceBuilder,
};
use rustix::fs::FileType;
use serde::{Deserialize, Serialize};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// One `--device HOST[:CONTAINER[:rwm]]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRequest {
    /// A device of the host, or a folder of some.
    pub host: String,
    /// Where it is in the container.
    pub container: String,
    /// What may be done with it: letters of `rwm`.
    pub access: String,
}

/// Devices found, and the rules that let a container use them.
#[derive(Clone, Debug, Default)]
pub struct Granted {
    /// Nodes to make.
    pub devices: Vec<LinuxDevice>,
    /// Access beyond the default devices'.
    pub rules: Vec<LinuxDeviceCgroup>,
    /// Limits of block devices.
    pub block_io: Option<LinuxBlockIo>,
}

/// Looks up what a container was promised.
///
/// # Errors
/// What is not there, or no device.
pub fn find(options: &RunOptions) -> Result<Granted> {
    let mut granted = Granted::default();
    // It has them all already.
    for request in options.devices.iter().filter(|_| !options.privileged) {
        let add = || anyhow!("error gathering device information while adding custom device {:?}", request.host);
        let found = collect(Path::new(&request.host), Path::new(&request.container), true);
        let found = found.with_context(|| add().to_string())?;
        if found.is_empty() {
            bail!("{}: not a device node", add());
        }
        for device in found {
            granted.rules.push(
                LinuxDeviceCgroupBuilder::default()
                    .allow(true)
                    .typ(device.typ())
                    .major(device.major())
                    .minor(device.minor())
                    .access(request.access.clone())
                    .build()?,
            );
            granted.devices.push(device);
        }
    }
    for rule in options.device_rules.iter().filter(|_| !options.privileged) {
        granted.rules.push(parse_rule(rule)?);
    }
    granted.block_io = block_io(&options.resources.block_io)?;
    Ok(granted)
}

/// The device at a path of the host, or all below it.
fn collect(host: &Path, container: &Path, first: bool) -> Result<Vec<LinuxDevice>> {
    // The user's own word may be a link; what lies in a folder is taken as it is.
    let metadata = if first { host.metadata() } else { host.symlink_metadata() };
    let metadata = metadata.with_context(|| format!("look at {}", host.display()))?;
    let kind = match FileType::from_raw_mode(metadata.mode()) {
        FileType::CharacterDevice => LinuxDeviceType::C,
        FileType::BlockDevice => LinuxDeviceType::B,
        FileType::Directory => {
            let mut found = Vec::new();
            for entry in std::fs::read_dir(host).with_context(|| format!("list {}", host.display()))? {
                let name = entry.with_context(|| format!("list {}", host.display()))?.file_name();
                // It may have gone just now; the container's own terminals and memory stay its own.
                if !["pts", "shm", "fd", "mqueue", ".lxc", "console"].iter().any(|own| name == *own) {
                    found.extend(collect(&host.join(&name), &container.join(&name), false).unwrap_or_default());
                }
            }
            return Ok(found);
        }
        _ => return Ok(Vec::new()),
    };
    let device = LinuxDeviceBuilder::default()
        .path(container)
        .typ(kind)
        .major(rustix::fs::major(metadata.rdev()))
        .minor(rustix::fs::minor(metadata.rdev()))
        .file_mode(metadata.mode() & 0o777)
        .uid(metadata.uid())
        .gid(metadata.gid())
        .build()?;
    Ok(vec![device])
}

/// Reads `c 1:3 rwm`.
///
/// # Errors
/// Docker's for another form.
pub fn parse_rule(text: &str) -> Result<LinuxDeviceCgroup> {
    let bad = || anyhow!("invalid device cgroup format '{text}'");
    let [kind, numbers, access] = text.split(' ').collect::<Vec<_>>()[..] else { return Err(bad()) };
    let (major, minor) = numbers.split_once(':').ok_or_else(bad)?;
    let kind = match kind {
        "a" => LinuxDeviceType::A,
        "b" => LinuxDeviceType::B,
        "c" => LinuxDeviceType::C,
        _ => return Err(bad()),
    };
    if access.is_empty() || access.len() > 3 || !access.bytes().all(|b| b"rwm".contains(&b)) {
        return Err(bad());
    }
    let number = |part: &str| match part {
        "*" => Ok(None),
        digits => digits.parse::<u32>().map(|n| Some(i64::from(n))).map_err(|_| bad()),
    };
    let mut builder = LinuxDeviceCgroupBuilder::default().allow(true).typ(kind).access(access);
    if let Some(major) = number(major)? {
        builder = builder.major(major);
    }
    if let Some(minor) = number(minor)? {
        builder = builder.minor(minor);
    }
    Ok(builder.build()?)
}

fn numbers(path: &str) -> Result<(i64, i64)> {
    let metadata = Path::new(path).metadata().with_context(|| format!("look at the block device {path}"))?;
    if FileType::from_raw_mode(metadata.mode()) != FileType::BlockDevice {
        bail!("{path} is not a block device");
    }
    Ok((rustix::fs::major(metadata.rdev()).into(), rustix::fs::minor(metadata.rdev()).into()))
}

/// Limits of block devices in the specification's form.
///
/// # Errors
/// A path that is no block device.
pub fn block_io(asked: &BlockIo) -> Result<Option<LinuxBlockIo>> {
    if *asked == BlockIo::default() {
        return Ok(None);
    }
    let throttle = |list: &[(String, u64)]| -> Result<Option<Vec<LinuxThrottleDevice>>> {
        let one = |(path, rate): &(String, u64)| {
            let (major, minor) = numbers(path)?;
            Ok(LinuxThrottleDeviceBuilder::default().major(major).minor(minor).rate(*rate).build()?)
        };
        let all = list.iter().map(one).collect::<Result<Vec<_>>>()?;
        Ok(Some(all).filter(|a| !a.is_empty()))
    };
    let weight = |(path, weight): &(String, u16)| -> Result<LinuxWeightDevice> {
        let (major, minor) = numbers(path)?;
        Ok(LinuxWeightDeviceBuilder::default().major(major).minor(minor).weight(*weight).build()?)
    };
    let mut block_io = LinuxBlockIo::default();
    block_io.set_weight(asked.weight);
    let weights = asked.weight_devices.iter().map(weight).collect::<Result<Vec<_>>>()?;
    block_io.set_weight_device(Some(weights).filter(|w| !w.is_empty()));
    block_io.set_throttle_read_bps_device(throttle(&asked.read_bps)?);
    block_io.set_throttle_write_bps_device(throttle(&asked.write_bps)?);
    block_io.set_throttle_read_iops_device(throttle(&asked.read_iops)?);
    block_io.set_throttle_write_iops_device(throttle(&asked.write_iops)?);
    Ok(Some(block_io))
}

/// Reads `HOST[:CONTAINER[:rwm]]`.
///
/// # Errors
/// Docker's for another form, and a host path that is not absolute.
pub fn parse_request(text: &str) -> Result<DeviceRequest> {
    let is_mode = |t: &str| !t.is_empty() && t.len() <= 3 && t.bytes().all(|b| b"rwm".contains(&b));
    let (host, container, access) = match text.split(':').collect::<Vec<_>>()[..] {
        [host] => (host, host, "rwm"),
        [host, mode] if is_mode(mode) => (host, host, mode),
        [host, container] => (host, container, "rwm"),
        [host, container, mode] if is_mode(mode) => (host, container, mode),
        [_, _, mode] => bail!("invalid device specification: {text}: {mode:?} is not of the letters r, w and m"),
        _ => bail!("invalid device specification: {text}"),
    };
    for path in [host, container] {
        if !path.starts_with('/') || PathBuf::from(path).components().any(|c| c.as_os_str() == "..") {
            bail!("invalid device specification: {text}: {path:?} is not an absolute path");
        }
    }
    Ok(DeviceRequest { host: host.into(), container: container.into(), access: access.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_and_rules_have_dockers_forms() {
        let r = |text| parse_request(text).map(|r| (r.host, r.container, r.access)).ok();
        let all = |a: &str, b: &str, c: &str| Some((a.to_owned(), b.to_owned(), c.to_owned()));
        assert_eq!(r("/dev/fuse"), all("/dev/fuse", "/dev/fuse", "rwm"));
        assert_eq!(r("/dev/fuse:r"), all("/dev/fuse", "/dev/fuse", "r"));
        assert_eq!(r("/dev/a:/dev/b"), all("/dev/a", "/dev/b", "rwm"));
        assert_eq!(r("/dev/a:/dev/b:rw"), all("/dev/a", "/dev/b", "rw"));
        for bad in ["", "fuse", "/dev/a:/dev/b:x", "/dev/a:b", "/dev/a:/b:r:w", "/dev/../etc"] {
            assert_eq!(r(bad), None, "{bad}");
        }
        let rule = parse_rule("c 1:* rwm").unwrap();
        assert_eq!((rule.major(), rule.minor(), rule.allow()), (Some(1), None, true));
        for bad in ["", "c 1:3", "x 1:3 r", "c 1 r", "c a:3 r", "c 1:3 q", "c 1:3 "] {
            assert!(parse_rule(bad).is_err(), "{bad}");
        }
    }
}
