//! `pull` and `push`, also when `run` needs an image that is not there.

use super::progress::{Lines, Stream};
use super::values::given;
use super::{App, output, surroundings};
use crate::container::containers::Containers;
use crate::image::{Digest, Interrupted, PullOptions, Pushed, Reference, Store, Wanted};
use crate::journal;
use crate::registry::Registries;
use crate::sys::depth;
use anyhow::{Context, Result, bail};
use clap::{ArgAction, Args, ValueEnum};

/// `pull`.
#[derive(Debug, Args)]
pub struct PullArgs {
    /// Pull all tags of the repository
    #[arg(short, long)]
    all_tags: bool,
    #[arg(long, hide = true)]
    disable_content_trust: bool,
    /// The platform, if it is not this machine's (os/architecture[/variant])
    #[arg(long)]
    platform: Option<String>,
    /// Say only what was pulled
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    safety: Safety,
    /// The image's name
    image: String,
}

/// `push`.
#[derive(Debug, Args)]
pub struct PushArgs {
    /// Push all tags of the repository
    #[arg(short, long)]
    all_tags: bool,
    #[arg(long, hide = true)]
    disable_content_trust: bool,
    /// Say only what was pushed
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    safety: Safety,
    /// The image's name
    image: String,
}

/// How much a registry is trusted.
#[derive(Debug, Args)]
pub struct Safety {
    /// Check the registry's certificate, and insist on TLS
    #[arg(long, default_value_t = true, default_missing_value = "true", action = ArgAction::Set)]
    #[arg(num_args = 0..=1, require_equals = true)]
    tls_verify: bool,
}

impl Safety {
    /// The way to the registries.
    pub fn registries(&self) -> Result<Registries> {
        Registries::open(&surroundings::read(!self.tls_verify))
    }
}

/// When `run` and `create` pull.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, ValueEnum)]
pub enum When {
    /// Each time
    Always,
    /// If it is not there
    #[default]
    #[value(alias = "")]
    Missing,
    /// Not at all
    Never,
}

/// `minirun pull`.
pub fn pull(app: &App, args: &PullArgs) -> Result<u8> {
    let reference = Reference::parse(&args.image)?;
    let platform = given(args.platform.as_ref()).map(Wanted::parse).transpose()?;
    let named = has_tag(&args.image);
    if args.all_tags && named {
        bail!("tag can't be used with --all-tags/-a");
    }
    let registries = args.safety.registries()?;
    let pulling = Pulling { app, registries: &registries, platform, quiet: args.quiet, stream: Stream::Output };
    // Each layer in the making keeps folders open.
    depth::make_room();
    if args.all_tags {
        let tags = Store::open(&app.root).remote_tags(&registries, &reference)?;
        for tag in &tags {
            pulling.one(tag)?;
        }
        return Ok(0);
    }
    if !named && !args.quiet {
        output::line("Using default tag: latest")?;
    }
    pulling.one(&reference)?;
    Ok(0)
}

/// Pulls for `run` and `create`; whatever is said goes to standard error.
pub fn pull_for_run(app: &App, image: &str, platform: Option<Wanted>, quiet: bool) -> Result<()> {
    let reference = Reference::parse(image)?;
    let registries = Registries::open(&surroundings::read(false))?;
    depth::make_room();
    Pulling { app, registries: &registries, platform, quiet, stream: Stream::Errors }.one(&reference)
}

fn has_tag(name: &str) -> bool {
    name.rsplit('/').next().unwrap_or(name).contains([':', '@'])
}

/// What several pulls have in common.
struct Pulling<'a> {
    app: &'a App,
    registries: &'a Registries,
    platform: Option<Wanted>,
    quiet: bool,
    stream: Stream,
}

impl Pulling<'_> {
    fn one(&self, reference: &Reference) -> Result<()> {
        if reference.familiar_name() == "scratch" {
            bail!("'scratch' is a reserved name");
        }
        let lines = Lines::new(self.stream, self.quiet);
        let say = |text: &str| if self.quiet { Ok(()) } else { lines.line(text) };
        let begun = |name: &str| drop(say(&format!("{name}: Pulling from {}", reference.path())));
        let options = PullOptions { platform: self.platform.clone(), progress: &lines, begun: &begun };
        let store = Store::open(&self.app.root);
        let pulled = store.pull(self.registries, reference, &options).inspect_err(|error| {
            if !error.is::<Interrupted>() {
                // Layers that came before what was wrong; the error is what counts.
                let _ = store.sweep_up(&|| Containers::open(&self.app.root).image_uses());
                self.app.root.empty_trash();
            }
        })?;
        let familiar = reference.familiar();
        journal::image(&self.app.root, "pull", &familiar, &reference.familiar_name());
        say(&format!("Digest: {}", pulled.digest))?;
        say(&match pulled.is_new {
            true => format!("Status: Downloaded newer image for {familiar}"),
            false => format!("Status: Image is up to date for {familiar}"),
        })?;
        if self.stream == Stream::Output {
            lines.line(&reference.to_string())?;
        }
        Ok(())
    }
}

/// `minirun push`.
pub fn push(app: &App, args: &PushArgs) -> Result<u8> {
    let reference = Reference::parse(&args.image)?;
    let store = Store::open(&app.root);
    let named = has_tag(&args.image);
    if args.all_tags && named {
        bail!("tag can't be used with --all-tags/-a");
    }
    let wanted = if args.all_tags { store.local_tags(&reference)? } else { vec![reference.clone()] };
    if wanted.is_empty() {
        bail!("An image does not exist locally with the tag: {}", reference.familiar_name());
    }
    // A layer's tar is made with a folder open for each level of its tree.
    depth::make_room();
    let lines = Lines::new(Stream::Output, args.quiet);
    let say = |text: &str| if args.quiet { Ok(()) } else { lines.line(text) };
    if !named && !args.all_tags {
        say("Using default tag: latest")?;
    }
    let registries = args.safety.registries()?;
    say(&format!("The push refers to repository [{}]", reference.name()))?;
    for tagged in &wanted {
        let pushed = send(app, &registries, tagged, &lines)?;
        let tag = tagged.tag().unwrap_or_default();
        say(&format!("{tag}: digest: {} size: {}", pushed.digest, pushed.size))?;
        if args.quiet {
            lines.line(&tagged.to_string())?;
        }
    }
    Ok(0)
}

/// Pushes what a build has made; whatever is said goes to standard error. Gives the digest of the last manifest.
pub fn push_built(app: &App, names: &[Reference], quiet: bool) -> Result<Option<Digest>> {
    if names.is_empty() {
        return Ok(None);
    }
    depth::make_room();
    let registries = Registries::open(&surroundings::read(false))?;
    let lines = Lines::new(Stream::Errors, quiet);
    let mut digest = None;
    for name in names {
        let pushed = send(app, &registries, name, &lines).with_context(|| format!("push {}", name.familiar()))?;
        if !quiet {
            lines.line(&format!("pushed {name}: digest: {} size: {}", pushed.digest, pushed.size))?;
        }
        digest = Some(pushed.digest);
    }
    Ok(digest)
}

fn send(app: &App, registries: &Registries, name: &Reference, lines: &Lines) -> Result<Pushed> {
    let pushed = Store::open(&app.root).push(registries, name, lines)?;
    journal::image(&app.root, "push", &name.familiar(), &name.familiar_name());
    Ok(pushed)
}
