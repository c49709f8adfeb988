//! Importing: the tar of a whole root file system becomes an image of one layer.

use super::apply;
use super::config::{ContainerConfig, History, ImageConfig, RootFs};
use super::diff;
use super::digest::Digest;
use super::feed::{self, Wanted, with_feed};
use super::layer::{Meta, NewLayer};
use super::platform::Wanted as Platform;
use super::reference::Reference;
use super::store::Store;
use anyhow::{Context, Result, bail};
use std::io::Read;

/// What `import` was asked for.
#[derive(Clone, Debug, Default)]
pub struct ImportOptions {
    /// The new image's name.
    pub reference: Option<Reference>,
    /// What the image says of containers.
    pub config: ContainerConfig,
    /// A remark for the history; without one it is `Imported from -`.
    pub message: Option<String>,
    /// What it runs on; without it that is this machine's platform.
    pub platform: Option<Platform>,
    /// When the image says it was made; without it that is now.
    pub date: Option<jiff::Timestamp>,
}

impl Store {
    /// Makes an image of the tar in `source` (plain or compressed) and returns its id.
    ///
    /// # Errors
    /// What is no tar archive, or an empty one, leaves nothing behind.
    pub fn import(&self, source: impl Read + Send, options: ImportOptions) -> Result<Digest> {
        // Nobody is kept waiting for an archive that comes slowly.
        let layer = NewLayer::inside(self.root.staging()?)?;
        let limit = layer.limit();
        let unpacked =
            with_feed(source, Wanted::default(), limit, |feed| apply::unpack(feed, &layer.fs, None, limit, ()));
        let ((unpacked, ()), seen) = unpacked.context("import the archive")?;
        if seen.plain_bytes == 0 {
            bail!("import the archive: it is empty");
        }
        // Writing to the disk and hashing do not wait for each other.
        let (synced, hashed) = std::thread::scope(|scope| {
            let sync = || layer.sync(unpacked.files);
            let syncing = std::thread::Builder::new().spawn_scoped(scope, sync);
            let hashed = feed::hashing(|sink| diff::write_tree(&layer.fs, sink));
            let ended = || anyhow::anyhow!("the syncing thread has ended unexpectedly");
            let synced = syncing.map_or_else(|_| sync(), |thread| thread.join().unwrap_or_else(|_| Err(ended())));
            (synced, hashed)
        });
        synced?;
        let ((), diff_id, tar) = hashed.context("read the unpacked archive")?;
        let meta = Meta { size: unpacked.size, files: unpacked.files, tar };
        let _making = self.root.lock_for_making()?;
        layer.publish(&self.root, &diff_id, &meta)?;
        let platform = options.platform.unwrap_or_else(Platform::host);
        let variant = Some(platform.variant).filter(|variant| !variant.is_empty());
        let created = Some(options.date.unwrap_or_else(jiff::Timestamp::now).to_string());
        let comment = options.message.unwrap_or_else(|| "Imported from -".into());
        let image = ImageConfig {
            created: created.clone(),
            architecture: platform.architecture,
            os: platform.os,
            other: variant.map(|variant| ("variant".to_owned(), variant.into())).into_iter().collect(),
            config: Some(options.config),
            rootfs: RootFs { diff_ids: vec![diff_id], ..RootFs::default() },
            history: vec![History { created, comment, ..History::default() }],
            ..ImageConfig::default()
        };
        self.publish(&image, options.reference.as_ref(), None)
    }
}
