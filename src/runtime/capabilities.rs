//! Capabilities: names of the specification to the sets of the kernel.

use crate::sys::process;
use anyhow::{Context, Result};
use caps::{CapSet, Capability};
use oci_spec::runtime::{Capabilities as Names, LinuxCapabilities};

/// The five capability sets of a process, each a bit for each number.
#[derive(Clone, Debug, Default)]
pub struct Capabilities {
    bounding: u64,
    effective: u64,
    permitted: u64,
    inheritable: u64,
    ambient: u64,
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
        self.permitted != 0
    }

    /// Takes away for good what is not in the bounding set. Needs CAP_SETPCAP, so it comes before the user changes.
    pub fn limit(&self) -> Result<()> {
        process::limit_capabilities(self.bounding).context("drop capabilities from the bounding set")
    }

    /// Sets the other four sets, when user and groups are final.
    pub fn apply(&self) -> Result<()> {
        caps::clear(None, CapSet::Ambient).context("clear the ambient capabilities")?;
        // What the engine itself lacks cannot be given; Docker treats its own limits the same way.
        let reachable = process::set_capabilities(self.effective, self.permitted, self.inheritable)
            .context("set the effective, permitted and inheritable capabilities")?;
        // The kernel keeps only those ambient that are inheritable; other runtimes pass over the rest, too.
        let ambient = self.ambient & self.inheritable & reachable;
        let mut each = (0..64).filter(|number| ambient >> number & 1 != 0);
        each.try_for_each(process::raise_ambient_capability).context("set the ambient capabilities")
    }
}

/// The names of capabilities of a specification that the caller cannot give, as he cannot have them himself.
///
/// # Errors
/// A capability that this program does not know.
pub fn unavailable(spec: &LinuxCapabilities) -> Result<Vec<String>> {
    let all = Capabilities::from_spec(spec)?;
    let asked = all.bounding | all.effective | all.permitted | all.inheritable | all.ambient;
    let lacking = process::unreachable_capabilities(asked);
    Ok(caps::all().into_iter().filter(|c| lacking & c.bitmask() != 0).map(|c| c.to_string()).collect())
}

fn set(names: &Option<Names>) -> Result<u64> {
    let bit = |name: &oci_spec::runtime::Capability| -> Result<u64> {
        let name = format!("CAP_{}", name.to_string().trim_start_matches("CAP_"));
        let known = name.parse::<Capability>().with_context(|| format!("unknown capability {name}"))?;
        Ok(1 << known.index())
    };
    names.iter().flatten().try_fold(0, |set, name| Ok(set | bit(name)?))
}
