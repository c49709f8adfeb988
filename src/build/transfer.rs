//! `COPY` and `ADD`: what they are known by, and the layer that they make.

use super::context::Context;
use super::copy::{Fetched, Got, Known, Options, Origin, Plan, Request, plan};
use super::dockerfile::{Mount, Transfer, TransferSource};
use super::git::{Repository, Rights};
use super::glob::Glob;
use super::key::Key;
use super::mounts;
use super::sandbox::Below;
use super::stage::{Builder, Found};
use crate::image::Digest;
use crate::image::union::Union;
use crate::registry::address::{is_address, masked};
use anyhow::{Context as _, Result, bail};
use std::fs::File;
use std::path::Path;

impl Builder<'_> {
    /// Carries a `COPY` or an `ADD` out, or finds what came out of it before.
    pub fn transfer(&mut self, name: &str, keyword: &str, transfer: &Transfer) -> Result<()> {
        // Another stage is waited for before it begins.
        let from = transfer.from.as_deref().map(|from| self.origin(from)).transpose();
        let step = self.session.reporter.begin(name);
        let told = told(keyword, transfer);
        let done = from.and_then(|from| self.make(keyword, transfer, from.as_ref(), name));
        match done {
            Ok((known, is_cached)) => {
                self.tell(told, Some(&known));
                if is_cached {
                    step.cached()
                } else {
                    step.done()
                }
                Ok(())
            }
            Err(error) => {
                step.failed(format!("{error:#}"));
                Err(error)
            }
        }
    }

    fn make(
        &self,
        keyword: &str,
        transfer: &Transfer,
        from: Option<&Found>,
        name: &str,
    ) -> Result<(crate::image::Remembered, bool)> {
        // As long as the stage is the same its files need not be looked at.
        let quick = match from {
            Some(Found::Layers(layers)) => Some(self.quick_key(keyword, transfer, layers)),
            // What has a checksum need not be fetched to be known.
            None if transfer.checksum.is_some() => Some(self.quick_key(keyword, transfer, &[])),
            _ => None,
        };
        if let Some(quick) = &quick
            && let Some(known) = self.recall(quick)?
        {
            return Ok((known, true));
        }
        let plan = self.plan(keyword, transfer, from)?;
        let files = plan.known_by(Some(&self.session.memo)).context("read what is to be copied")?;
        let key = self.transfer_key(keyword, transfer, &files);
        if let Some(known) = self.recall(&key)? {
            if let Some(quick) = &quick {
                self.session.store.remember(quick, &known)?;
            }
            return Ok((known, true));
        }
        self.session.go_on()?;
        let layer = self.copy(&plan, &files, transfer.link)?;
        let keys: Vec<Digest> = quick.into_iter().chain([key]).collect();
        Ok((self.remember(&keys, name, layer)?, false))
    }

    fn plan(&self, keyword: &str, transfer: &Transfer, from: Option<&Found>) -> Result<Plan> {
        let session = self.session;
        let origin = match from {
            None => session.context.origin(),
            Some(Found::Folder(folder)) => Context::named(folder)?.origin(),
            Some(Found::Layers(layers)) => Origin {
                tree: Below::open(&session.store, layers)?.union,
                ignore: None,
                keeps_owner: true,
                name: transfer.from.clone().unwrap_or_default(),
            },
        };
        let config = self.state.config();
        let request = Request { transfer, is_add: keyword == "ADD", workdir: &config.working_dir };
        plan(&request, &origin, &|address| self.get(address, transfer.keep_git_dir))
    }

    fn get(&self, address: &str, keeps_git: bool) -> Result<Got> {
        let Some(repository) = Repository::parse(address) else { return self.download(address).map(Got::File) };
        let scratch = self.session.workshop.scratch()?;
        let rights = Rights::Given(&self.session.wishes.secrets);
        let path = repository.get(&scratch, keeps_git, rights, &|| self.session.go_on())?;
        Ok(Got::Folder(scratch, path))
    }

    /// Gets the content of an address, to a file without a name: it goes with the step.
    fn download(&self, address: &str) -> Result<Fetched> {
        let session = self.session;
        let scratch = session.workshop.scratch()?;
        let path = scratch.path().join("file");
        let file = File::options().read(true).write(true).create_new(true).open(path).context("make a file for it")?;
        let go_on = |received: u64| {
            session.go_on()?;
            match received > scratch.limit() {
                true => bail!("it is larger than {} bytes, the limit for what is unpacked", scratch.limit()),
                false => Ok(()),
            }
        };
        let modified = session.fetch.download(address, &file, &go_on)?;
        Ok(Fetched { file, modified })
    }

    fn copy(&self, plan: &Plan, files: &Known, is_linked: bool) -> Result<Digest> {
        let session = self.session;
        let below = Below::open(&session.store, self.state.layers())?.union;
        let draft = session.store.draft(&session.workshop)?;
        let options = Options { scratch: &|| session.workshop.scratch(), latest: session.wishes.epoch };
        plan.perform(files, &below, draft.dir(), &options)?;
        // A layer that lies on anything must not depend on what it lies on.
        let compared = if is_linked { Union::new(Vec::new()) } else { below };
        session.store.adopt(&session.workshop, draft, &compared, session.wishes.epoch)
    }

    fn transfer_key(&self, keyword: &str, transfer: &Transfer, files: &Known) -> Digest {
        let mut key = self.base_key(keyword, transfer);
        key.part("files", files.digest.to_string());
        key.finish()
    }

    fn quick_key(&self, keyword: &str, transfer: &Transfer, layers: &[Digest]) -> Digest {
        let mut key = self.base_key(keyword, transfer);
        key.list("from", layers.iter().map(Digest::to_string));
        key.list("sources", transfer.sources.iter().map(|source| format!("{source:?}")));
        key.list("excludes", &transfer.excludes);
        key.finish()
    }

    /// Everything but the files.
    fn base_key(&self, keyword: &str, transfer: &Transfer) -> Key {
        let names_no_owner = transfer
            .chown
            .as_ref()
            .is_none_or(|owner| owner.split(':').all(|part| part.bytes().all(|byte| byte.is_ascii_digit())));
        let below = if transfer.link && names_no_owner { &[] } else { self.state.layers() };
        let mut key = Key::new(keyword, below);
        key.part("workdir", &self.state.config().working_dir);
        key.part("destination", &transfer.destination);
        let texts = [&transfer.chown, &transfer.chmod, &transfer.checksum];
        key.list("texts", texts.map(|text| format!("{text:?}")));
        let flags = [transfer.link, transfer.parents, transfer.keep_git_dir];
        key.list("flags", flags.map(|flag| flag.to_string()));
        key.part("unpack", format!("{:?}", transfer.unpack));
        key.part("epoch", format!("{:?}", self.session.wishes.epoch));
        key
    }

    /// Where a bind mount of the context is, and what its content is known by.
    pub fn context_of_mount(&self, mount: &Mount) -> Result<(mounts::Origin, String)> {
        let context = &self.session.context;
        let source = mounts::source(mount);
        let path = context.path().context("there is no build context to mount")?;
        Ok((mounts::Origin::Folder(path.to_owned()), self.content_of(&context.origin(), source)?))
    }

    /// What a folder's content is known by.
    pub fn digest_of_folder(&self, folder: &Path, source: &str) -> Result<String> {
        self.content_of(&Context::named(folder)?.origin(), source)
    }

    /// What the content of a stage or an image is known by.
    pub fn digest_of_tree(&self, tree: &Union, name: &str, source: &str) -> Result<String> {
        let origin = Origin { tree: tree.clone(), ignore: None, keeps_owner: true, name: name.to_owned() };
        self.content_of(&origin, source)
    }

    fn content_of(&self, origin: &Origin, source: &str) -> Result<String> {
        let transfer = Transfer {
            sources: vec![TransferSource::Path(Glob::escape(source))],
            destination: "/".into(),
            ..Transfer::default()
        };
        let request = Request { transfer: &transfer, is_add: false, workdir: "/" };
        let none = |address: &str| anyhow::bail!("{address} is an address");
        let plan = plan(&request, origin, &none)?;
        Ok(plan.known_by(Some(&self.session.memo))?.digest.to_string())
    }
}

/// What BuildKit writes into the history, but no passwords: a history goes where its image goes.
fn told(keyword: &str, transfer: &Transfer) -> String {
    let mut words = vec![keyword.to_owned()];
    words.extend(transfer.chown.iter().map(|owner| format!("--chown={owner}")));
    words.extend(transfer.chmod.iter().map(|mode| format!("--chmod={mode}")));
    words.extend(transfer.sources.iter().map(|source| match source {
        TransferSource::Path(path) if is_address(path) => masked(path.clone()),
        TransferSource::Path(path) => path.clone(),
        TransferSource::Heredoc(heredoc) => format!("<<{}", heredoc.name),
    }));
    words.push(transfer.destination.clone());
    words.push("# buildkit".into());
    words.join(" ")
}
