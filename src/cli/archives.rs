//! Commands that move images and root file systems into archives and out of them.

use super::image_tools::source_date;
use super::progress::{Lines, Stream};
use super::values::given;
use super::{App, output, web};
use crate::build::change::apply_changes;
use crate::container::containers::Containers;
use crate::container::export::export as export_container;
use crate::image::progress::{Step, Watched};
use crate::image::{
    ContainerConfig, FolderMembers, ImportOptions, LoadEvent, Reference, Saving, Store, TarMembers, Wanted,
};
use crate::journal;
use crate::registry::address;
use crate::sys::depth;
use crate::sys::file::Aside;
use crate::sys::tty;
use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use std::fs::File;
use std::io::{self, BufWriter, ErrorKind, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

/// `import`.
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// Change the configuration by a Dockerfile instruction
    #[arg(short, long, allow_hyphen_values = true)]
    change: Vec<String>,
    /// A remark for the history
    #[arg(short, long)]
    message: Option<String>,
    /// The platform, if it is not this machine's (os/architecture[/variant])
    #[arg(long)]
    platform: Option<String>,
    /// The archive (tar, also with gzip, bzip2, xz or zstd), the address of one, or - for standard input
    source: PathBuf,
    /// The image's name
    name: Option<String>,
}

/// `load`.
#[derive(Debug, Args)]
pub struct LoadArgs {
    /// The archive or the folder of an OCI layout; standard input if it is not given
    #[arg(short, long)]
    input: Option<PathBuf>,
    /// Say only what was loaded
    #[arg(short, long)]
    quiet: bool,
}

/// `save`.
#[derive(Debug, Args)]
pub struct SaveArgs {
    /// Leave out the layers of this image, which whoever loads the archive has already
    #[arg(long, value_name = "IMAGE")]
    exclude: Vec<String>,
    /// What to write
    #[arg(long, value_enum, default_value_t)]
    format: SaveFormat,
    /// Where to write it, instead of standard output
    #[arg(short, long)]
    output: Option<PathBuf>,
    /// Names or ids; a repository without a tag means all of its tags
    #[arg(required = true)]
    images: Vec<String>,
}

/// What `save` writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum SaveFormat {
    /// As `docker save`, and an OCI layout at the same time
    #[default]
    DockerArchive,
    /// A tar of an OCI layout
    OciArchive,
    /// The folder of an OCI layout
    OciDir,
}

/// `export`.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// Where to write it, instead of standard output
    #[arg(short, long)]
    output: Option<PathBuf>,
    /// Name or id
    container: String,
}

/// `minirun import`.
pub fn import(app: &App, args: ImportArgs) -> Result<u8> {
    let reference = args.name.as_deref().map(Reference::parse).transpose()?;
    let platform = given(args.platform.as_ref()).map(Wanted::parse).transpose()?;
    if let Some(platform) = platform.as_ref().filter(|platform| !platform.is_met("linux", "")) {
        bail!("import for {platform}: the operating system is not supported");
    }
    // The tree may be deep.
    depth::make_room();
    let mut config = ContainerConfig::default();
    apply_changes(&mut config, &args.change)?;
    let address = args.source.to_str().filter(|text| address::is_address(text));
    let message = args.message.or_else(|| Some(format!("Imported from {}", address::without_secrets(address?))));
    let options = ImportOptions { reference, config, message, platform, date: source_date()? };
    let source = match address {
        Some(address) => {
            output::note(&format!("Downloading from {}", address::without_secrets(address)));
            web::get(app, address)?
        }
        None if args.source.as_os_str() == "-" => standard_input()?,
        None => open(&args.source)?,
    };
    if source.metadata().is_ok_and(|m| m.is_dir()) {
        bail!("{} is a directory, not an archive", args.source.display());
    }
    let total = source.metadata().ok().filter(|m| m.is_file()).map(|m| m.len());
    let lines = Lines::passing();
    let source = Watched::new(source, &lines, String::new(), total, Step::Importing);
    let id = Store::open(&app.root).import(source, options)?;
    drop(lines);
    journal::image(&app.root, "import", &id.to_string(), args.name.as_deref().unwrap_or(""));
    output::line(&id.to_string())?;
    Ok(0)
}

/// `minirun load`.
pub fn load(app: &App, args: &LoadArgs) -> Result<u8> {
    let source = match &args.input {
        Some(path) => open(path)?,
        None => standard_input()?,
    };
    // Each layer in the making keeps folders open.
    depth::make_room();
    let lines = Lines::new(Stream::Output, args.quiet);
    let mut complaint = Ok(());
    let mut tell = |event: LoadEvent| {
        if let LoadEvent::Image(loaded) = &event {
            let name = loaded.reference.as_ref().map(Reference::familiar).unwrap_or_default();
            journal::image(&app.root, "load", &loaded.image.to_string(), &name);
        }
        let text = match event {
            LoadEvent::Image(loaded) => match &loaded.reference {
                Some(reference) => format!("Loaded image: {}", reference.familiar()),
                None => format!("Loaded image ID: {}", loaded.image),
            },
            LoadEvent::Renamed { reference, old } => format!(
                "The image {} already exists, renaming the old one with ID {old} to empty string",
                reference.familiar()
            ),
        };
        complaint = lines.line(&text);
    };
    let store = Store::open(&app.root);
    if let Err(error) = store.load(source, &lines, &mut tell) {
        // Layers that came before what was wrong; the error is what counts.
        let _ = store.sweep_up(&|| Containers::open(&app.root).image_uses());
        app.root.empty_trash();
        return Err(error);
    }
    complaint?;
    Ok(0)
}

/// `minirun save`.
pub fn save(app: &App, args: &SaveArgs) -> Result<u8> {
    let store = Store::open(&app.root);
    let images = store.select(&args.images)?;
    let without = store.select(&args.exclude)?;
    // A layer's tar is made with a folder open for each level of its tree.
    depth::make_room();
    let for_docker = args.format == SaveFormat::DockerArchive;
    let saving = Saving { images: &images, without: &without, for_docker };
    let lines = Lines::passing();
    if args.format == SaveFormat::OciDir {
        let Some(path) = &args.output else { bail!("a folder needs a name: use the -o flag") };
        save_folder(&store, saving, path, &lines)?;
    } else {
        let target = Target::open(args.output.as_deref())?;
        store.save(saving, &mut TarMembers::new(target.file()), &lines)?;
        target.publish()?;
    }
    for selected in &images {
        let id = selected.image.id.to_string();
        journal::image(&app.root, "save", &id, &id);
    }
    Ok(0)
}

fn save_folder(store: &Store, saving: Saving, path: &Path, lines: &Lines) -> Result<()> {
    if std::fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_some()) {
        bail!("write the folder {}: it is there already, and not empty", path.display());
    }
    let aside = crate::sys::file::aside(path).with_context(|| format!("{} has no name", path.display()))?;
    let saved = FolderMembers::new(&aside).and_then(|mut out| store.save(saving, &mut out, lines));
    let saved = saved
        .and_then(|()| std::fs::rename(&aside, path).with_context(|| format!("put the folder at {}", path.display())));
    if saved.is_err() {
        let _ = std::fs::remove_dir_all(&aside);
    }
    saved
}

/// `minirun export`.
pub fn export(app: &App, args: &ExportArgs) -> Result<u8> {
    let container = Containers::open(&app.root).find(&args.container)?;
    let target = Target::open(args.output.as_deref())?;
    // A tall stack of layers keeps a directory of each open.
    depth::make_room();
    let lines = Lines::passing();
    {
        let out = BufWriter::with_capacity(1 << 20, target.file());
        let mut out = Watched::new(out, &lines, String::new(), None, Step::Exporting);
        export_container(&container, &mut out)?;
        out.flush().context("write the archive")?;
    }
    target.publish()?;
    Ok(0)
}

fn leads_into_proc(path: &Path) -> bool {
    path.read_link().is_ok_and(|target| target.starts_with("/proc"))
}

/// What a link leads to.
fn beside(path: &Path, link: &Path) -> PathBuf {
    path.parent().unwrap_or(Path::new("")).join(link)
}

/// Our own standard output or error, if that is what a path or a link leads to: opened anew it would lose what is
/// there and begin at the start.
fn own_stream(path: &Path) -> Option<io::Result<OwnedFd>> {
    let own = Path::new("/proc/self/fd").canonicalize().ok()?;
    let target = path.read_link().map(|link| beside(path, &link)).unwrap_or_default();
    [path, &target].into_iter().find_map(|path| {
        let name =
            path.file_name().filter(|_| path.parent().and_then(|p| p.canonicalize().ok()).as_ref() == Some(&own));
        match name?.to_str()? {
            "1" => Some(io::stdout().as_fd().try_clone_to_owned()),
            "2" => Some(io::stderr().as_fd().try_clone_to_owned()),
            _ => None,
        }
    })
}

/// Where an archive goes.
pub(super) enum Target {
    /// Standard output, or something else that is no file.
    Stream(File),
    /// A file, which appears when it is whole.
    File(Aside, PathBuf),
}

impl Target {
    pub(super) fn open(path: Option<&Path>) -> Result<Target> {
        let Some(path) = path else {
            let stdout = io::stdout();
            if tty::is_terminal(&stdout) {
                bail!("cowardly refusing to save to a terminal. Use the -o flag or redirect");
            }
            return Ok(Target::Stream(stdout.as_fd().try_clone_to_owned().context("use standard output")?.into()));
        };
        let shown = || format!("write to {}", path.display());
        if let Some(stream) = own_stream(path) {
            return Ok(Target::Stream(stream.with_context(shown)?.into()));
        }
        match path.metadata() {
            Ok(there) if there.is_dir() => bail!("{}: it is a folder", shown()),
            // Another process's output, which may be a file, too.
            Ok(there) if !there.is_file() || leads_into_proc(path) => Ok(Target::Stream(
                File::options().write(true).truncate(there.is_file()).open(path).with_context(shown)?,
            )),
            // Whoever has a link there wants to keep it.
            Ok(_) => {
                let path = path.canonicalize().with_context(shown)?;
                Ok(Target::File(Aside::new(&path).with_context(shown)?, path))
            }
            Err(error) => match path.read_link() {
                Ok(link) if error.kind() == ErrorKind::NotFound => Target::open(Some(&beside(path, &link))),
                Ok(_) => Err(error).with_context(shown),
                Err(_) => Ok(Target::File(Aside::new(path).with_context(shown)?, path.to_owned())),
            },
        }
    }

    pub(super) fn file(&self) -> &File {
        match self {
            Target::Stream(file) => file,
            Target::File(aside, _) => aside.file(),
        }
    }

    pub(super) fn publish(self) -> Result<()> {
        match self {
            Target::Stream(_) => Ok(()),
            Target::File(aside, path) => aside.publish().with_context(|| format!("put the file at {}", path.display())),
        }
    }
}

fn open(path: &Path) -> Result<File> {
    File::open(path).with_context(|| format!("open {}", path.display()))
}

fn standard_input() -> Result<File> {
    let stdin = io::stdin();
    if tty::is_terminal(&stdin) {
        bail!("requested to read an archive from standard input, but that is a terminal");
    }
    Ok(stdin.as_fd().try_clone_to_owned().context("read standard input")?.into())
}
