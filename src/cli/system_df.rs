//! `system df`: what takes room on the disk, and what of it nobody needs.

use super::system_volumes::{VolumeUse, volume_uses};
use super::template::{Format, render_one};
use super::{App, image_list, output, ps, units};
use crate::build::prune::{self, Kept};
use crate::container::containers::Container;
use crate::container::state::Snapshot;
use crate::image::{Digest, LayerUse, Listed, Store, Summary};
use crate::sys::depth;
use anyhow::Result;
use clap::Args;
use jiff::Timestamp;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

/// `system df`.
#[derive(Debug, Args)]
#[command(after_help = "\
Layers that several images share count once. What is reclaimable is what would be free if everything that no container
uses were removed: layers that only unused images have, layers of containers that are not running, and volumes that no
container mounts. Templates know .Type .TotalCount .Active .Size .Reclaimable, and with -v .Images .Containers .Volumes
.BuildCache.")]
pub struct DfArgs {
    /// A Go template, `json`, or `table` and a template
    #[arg(long, default_value = "", hide_default_value = true)]
    format: String,
    /// Show each image, container and volume
    #[arg(short, long)]
    verbose: bool,
}

const COLUMNS: [(&str, &str); 5] =
    [("Type", "TYPE"), ("TotalCount", "TOTAL"), ("Active", "ACTIVE"), ("Size", "SIZE"), ("Reclaimable", "RECLAIMABLE")];

/// Everything that takes room.
struct Usage {
    images: Vec<Summary>,
    documents: BTreeMap<Digest, Listed>,
    layers: LayerUse,
    containers: Vec<(Container, Snapshot, u64, Value)>,
    volumes: Vec<VolumeUse>,
    kept: Vec<Kept>,
}

/// `minirun system df`.
pub fn run(app: &App, args: &DfArgs) -> Result<u8> {
    depth::make_room();
    let usage = Usage::measure(app)?;
    let text = match (args.verbose, args.format.as_str()) {
        (false, format) => {
            let format = Format::parse(format, &COLUMNS, &COLUMNS.map(|(field, _)| field))?;
            format.rows(&usage.rows())?
        }
        (true, "") => usage.tables()?,
        (true, format) => render_one(format, &usage.document())? + "\n",
    };
    output::print(&text)?;
    Ok(0)
}

impl Usage {
    fn measure(app: &App) -> Result<Usage> {
        let store = Store::open(&app.root);
        let everything = store.list()?.images;
        let parents: BTreeSet<Digest> = everything.iter().filter_map(|l| l.image.parent).collect();
        let mut seen = BTreeSet::new();
        let mut images = image_list::all(&store)?;
        // One row an image; what only led to others is theirs.
        images.retain(|i| (i.reference.is_some() || !parents.contains(&i.id)) && seen.insert(i.id));
        let layers = store.layer_use(&everything)?;
        let documents = everything.into_iter().map(|listed| (listed.image.id, listed)).collect();
        let mut containers = Vec::new();
        for (container, snapshot, row) in ps::all(app)? {
            let size = container.writable_size().unwrap_or(0);
            containers.push((container, snapshot, size, row));
        }
        let volumes = volume_uses(app, containers.iter().map(|(container, ..)| container))?;
        let kept = prune::list(&app.root)?;
        Ok(Usage { images, documents, layers, containers, volumes, kept })
    }

    /// How many containers were made from an image.
    fn users(&self, image: Digest) -> usize {
        self.containers.iter().filter(|(container, ..)| container.record.image == image).count()
    }

    fn rows(&self) -> [Value; 4] {
        let needed: BTreeSet<Digest> = self.containers.iter().flat_map(|(c, ..)| c.layers().iter().copied()).collect();
        let active = self.images.iter().filter(|i| self.users(i.id) > 0).count();
        let images = (self.images.len(), active, self.layers.total(), self.layers.without(&needed));
        let running = self.containers.iter().filter(|(_, snapshot, ..)| snapshot.status.is_up()).count();
        let size = |only_down: bool| {
            let counted = self.containers.iter().filter(|(_, s, ..)| !only_down || !s.status.is_up());
            counted.map(|(_, _, size, _)| size).sum::<u64>()
        };
        let containers = (self.containers.len(), running, size(false), size(true));
        let volumes = (
            self.volumes.len(),
            self.volumes.iter().filter(|v| v.links > 0).count(),
            self.volumes.iter().map(|v| v.size).sum(),
            self.volumes.iter().filter(|v| v.links == 0).map(|v| v.size).sum(),
        );
        let kept = prune::usage(&self.kept);
        let cache = (kept.total, kept.active, kept.size, kept.reclaimable);
        [row("Images", images), row("Containers", containers), row("Local Volumes", volumes), row("Build Cache", cache)]
    }

    fn image_rows(&self) -> Vec<Value> {
        let now = Timestamp::now();
        let rows = self.images.iter().map(|image| {
            let mut row = image_list::row(image, image.id.short(), now);
            let layers = self.documents.get(&image.id).map_or(&[][..], |listed| listed.image.layers());
            let (shared, unique) = self.layers.shared_and_unique(layers);
            row["Size"] = units::exact_size(image.size).into();
            row["SharedSize"] = units::exact_size(shared).into();
            row["UniqueSize"] = units::exact_size(unique).into();
            row["Containers"] = self.users(image.id).to_string().into();
            row
        });
        rows.collect()
    }

    fn container_rows(&self) -> Vec<Value> {
        let rows = self.containers.iter().map(|(_, _, size, row)| {
            let mut row = row.clone();
            row["Size"] = units::exact_size(*size).into();
            row
        });
        rows.collect()
    }

    fn volume_rows(&self) -> Vec<Value> {
        self.volumes.iter().map(VolumeUse::row).collect()
    }

    fn cache_rows(&self) -> Vec<Value> {
        let rows = self.kept.iter().map(|kept| {
            let age = SystemTime::now().duration_since(kept.last_used()).unwrap_or_default().as_secs();
            let age = units::age(i64::try_from(age).unwrap_or(0)) + " ago";
            json!({
                "ID": kept.id().chars().take(12).collect::<String>(),
                "CacheType": kept.kind(),
                "Description": kept.description(),
                "Size": units::exact_size(kept.size()),
                "CreatedSince": age,
                "LastUsedSince": age,
                "UsageCount": if kept.is_in_use() { "1" } else { "0" },
                "Shared": kept.is_shared().to_string(),
            })
        });
        rows.collect()
    }

    fn document(&self) -> Value {
        json!({
            "Images": self.image_rows(),
            "Containers": self.container_rows(),
            "Volumes": self.volume_rows(),
            "BuildCache": self.cache_rows(),
        })
    }

    fn tables(&self) -> Result<String> {
        let images = ["Repository", "Tag", "ID", "CreatedSince", "Size", "SharedSize", "UniqueSize", "Containers"];
        let containers = ["ID", "Image", "Command", "LocalVolumes", "Size", "RunningFor", "Status", "Names"];
        let volumes = [("Name", "VOLUME NAME"), ("Links", "LINKS"), ("Size", "SIZE")];
        let cache = [
            ("ID", "CACHE ID"),
            ("CacheType", "CACHE TYPE"),
            ("Size", "SIZE"),
            ("CreatedSince", "CREATED"),
            ("LastUsedSince", "LAST USED"),
            ("UsageCount", "USAGE"),
            ("Shared", "SHARED"),
        ];
        let table = |columns: &[(&str, &str)], fields: &[&str], rows: &[Value]| {
            Format::parse("", columns, fields).and_then(|format| format.rows(rows))
        };
        Ok(format!(
            "Images space usage:\n\n{}\nContainers space usage:\n\n{}\nLocal Volumes space usage:\n\n{}\n\
             Build cache usage: {}\n\n{}",
            table(&image_list::COLUMNS, &images, &self.image_rows())?,
            table(&ps::COLUMNS, &containers, &self.container_rows())?,
            table(&volumes, &["Name", "Links", "Size"], &self.volume_rows())?,
            units::exact_size(prune::usage(&self.kept).size),
            table(&cache, &cache.map(|(field, _)| field), &self.cache_rows())?,
        ))
    }
}

fn row(kind: &str, (total, active, size, reclaimable): (usize, usize, u64, u64)) -> Value {
    let share =
        if size == 0 { String::new() } else { format!(" ({}%)", u128::from(reclaimable) * 100 / u128::from(size)) };
    json!({
        "Type": kind,
        "TotalCount": total.to_string(),
        "Active": active.to_string(),
        "Size": units::exact_size(size),
        "Reclaimable": units::exact_size(reclaimable) + &share,
    })
}
