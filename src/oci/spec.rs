//! `spec`: a specification to begin with.

use anyhow::{Context, Result, bail};
use clap::Args;
use oci_spec::runtime::{LinuxIdMappingBuilder, LinuxNamespaceBuilder, LinuxNamespaceType, Mount, MountBuilder, Spec};
use serde::Serialize;
use std::path::{Path, PathBuf};

#[derive(Debug, Args)]
pub struct SpecArgs {
    /// The folder for config.json
    #[arg(short, long, default_value = ".")]
    bundle: PathBuf,
    /// For a user without privileges
    #[arg(long)]
    rootless: bool,
}

/// What other runtimes begin with, too: a shell on a terminal, hardly any capabilities, a read-only root.
const TEMPLATE: &str = include_str!("template.json");

/// Writes config.json.
pub fn spec(args: &SpecArgs) -> Result<()> {
    let path = args.bundle.join("config.json");
    if path.exists() {
        bail!("File {} exists. Remove it first", path.display());
    }
    let mut spec: Spec = serde_json::from_str(TEMPLATE).context("read the template")?;
    if args.rootless {
        make_rootless(&mut spec)?;
    }
    if crate::runtime::cgroup::version() == crate::runtime::cgroup::Version::V2
        && let Some(namespaces) = spec.linux_mut().as_mut().and_then(|l| l.namespaces_mut().as_mut())
    {
        namespaces.push(LinuxNamespaceBuilder::default().typ(LinuxNamespaceType::Cgroup).build()?);
    }
    let mut text = Vec::new();
    let mut writer =
        serde_json::Serializer::with_formatter(&mut text, serde_json::ser::PrettyFormatter::with_indent(b"\t"));
    spec.serialize(&mut writer).context("write the specification")?;
    text.push(b'\n');
    std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))
}

/// One user, no network of its own, no group that he is not in, no limits.
fn make_rootless(spec: &mut Spec) -> Result<()> {
    let own = |id: u32| LinuxIdMappingBuilder::default().container_id(0u32).host_id(id).size(1u32).build();
    let linux = spec.linux_mut().as_mut().context("the template has no linux part")?;
    linux.set_uid_mappings(Some(vec![own(rustix::process::geteuid().as_raw())?]));
    linux.set_gid_mappings(Some(vec![own(rustix::process::getegid().as_raw())?]));
    linux.set_resources(None);
    if let Some(namespaces) = linux.namespaces_mut() {
        namespaces.retain(|n| n.typ() != LinuxNamespaceType::Network);
        namespaces.push(LinuxNamespaceBuilder::default().typ(LinuxNamespaceType::User).build()?);
    }
    if let Some(mounts) = spec.mounts_mut() {
        mounts.iter_mut().try_for_each(adapt)?;
    }
    Ok(())
}

fn adapt(mount: &mut Mount) -> Result<()> {
    if mount.destination() == Path::new("/sys") {
        // A new one needs a network namespace of one's own.
        let options = ["rbind", "nosuid", "noexec", "nodev", "ro"].map(str::to_owned);
        *mount =
            MountBuilder::default().destination("/sys").typ("none").source("/sys").options(options.to_vec()).build()?;
    } else if let Some(options) = mount.options_mut() {
        options.retain(|o| !o.starts_with("uid=") && !o.starts_with("gid="));
    }
    Ok(())
}
