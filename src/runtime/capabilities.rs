//! Capabilities: names of the specification to the sets of the kernel.

use crate::sys::process;
use anyhow::{Context, Result};
use caps::{CapSet, Capability, CapsHashSet};
use oci_spec::runtime::{Capabilities as Names, LinuxCapabilities};

/// The five capability sets of a process.
#[derive(Clone, Debug, Default)]
pub struct Capabilities {
    bounding: CapsHashSet,
    effective: CapsHashSet,
    permitted: CapsHashSet,
    inheritable: CapsHashSet,
    ambient: CapsHashSet,
}

impl Capabilities {
    /// The sets that the specification asks for; what is absent is empty.
    ///
    /// # Errors
    /// A capability that this program does not know.
    pub fn from_spec(spec: &LinuxCapabilities) -> Result<Capabilities> {
        Ok(Capabilities {
            bounding: set(spec.bounding())?,
            effective: set(spec.effective())?,
            permitted: set(spec.permitted())?,
            inheritable: set(spec.inheritable())?,
            ambient: set(spec.ambient())?,
        })
    }

    /// Whether anything must survive the change to an ordinary user.
    pub fn any_permitted(&self) -> bool {
        !self.permitted.is_empty()
    }

    /// Takes away for good what is not in the bounding set. Needs CAP_SETPCAP, so it comes before the user changes.
    pub fn limit(&self) -> Result<()> {
        for capability in caps::all().difference(&self.bounding) {
            match caps::drop(None, CapSet::Bounding, *capability) {
                Ok(()) => {}
                // One that this kernel does not know cannot be there.
                Err(_) if !caps::has_cap(None, CapSet::Bounding, *capability).unwrap_or(false) => {}
                Err(e) => return Err(e).with_context(|| format!("drop {capability} from the bounding set")),
            }
        }
        // The kernel may have younger ones than we know.
        let known = caps::all().iter().map(|capability| u32::from(capability.index())).max();
        process::drop_capabilities_from(known.map_or(0, |last| last + 1)).context("drop unknown capabilities")
    }

    /// Sets the other four sets, when user and groups are final.
    pub fn apply(&self) -> Result<()> {
        let reachable = caps::read(None, CapSet::Permitted)?;
        // What the engine itself lacks cannot be given; Docker treats its own limits the same way.
        let within = |set: &CapsHashSet| set.intersection(&reachable).copied().collect::<CapsHashSet>();
        caps::clear(None, CapSet::Ambient).context("clear the ambient capabilities")?;
        caps::set(None, CapSet::Effective, &within(&self.effective)).context("set the effective capabilities")?;
        caps::set(None, CapSet::Permitted, &within(&self.permitted)).context("set the permitted capabilities")?;
        caps::set(None, CapSet::Inheritable, &within(&self.inheritable)).context("set the inheritable capabilities")?;
        // The kernel keeps only those ambient that are inheritable; other runtimes pass over the rest, too.
        let ambient = within(&self.ambient).intersection(&self.inheritable).copied().collect::<CapsHashSet>();
        if ambient.is_empty() {
            return Ok(());
        }
        caps::set(None, CapSet::Ambient, &ambient).context("set the ambient capabilities")
    }
}

fn set(names: &Option<Names>) -> Result<CapsHashSet> {
    names
        .iter()
        .flatten()
        .map(|name| {
            let name = format!("CAP_{}", name.to_string().trim_start_matches("CAP_"));
            name.parse::<Capability>().with_context(|| format!("unknown capability {name}"))
        })
        .collect()
}
