//! What a name after `FROM`, `--from=` or `from=` means: a context that was given by name, a stage or an image.

use super::dockerfile::Dockerfile;
use super::session::Named;
use crate::image::Reference;
use anyhow::{Result, bail};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The names that a build knows.
#[derive(Clone, Copy)]
pub struct Names<'a> {
    /// The stages.
    pub file: &'a Dockerfile,
    /// `--build-context`: these take the place of stages and images.
    pub contexts: &'a BTreeMap<String, Named>,
}

/// What a name means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// A stage before the one that says it.
    Stage(usize),
    /// A folder of the host that was given by name.
    Folder(PathBuf),
    /// Nothing to begin with.
    Scratch,
    /// An image.
    Image(String),
}

impl Names<'_> {
    /// What `FROM name` in the stage `index` means.
    pub fn base(&self, name: &str, index: usize) -> Meaning {
        if let Some(context) = self.context(name) {
            return context;
        }
        self.stage(name, index).map_or_else(|| image(name), Meaning::Stage)
    }

    /// What `--from=name` in the stage `index` means; stages have numbers here, too.
    ///
    /// # Errors
    /// A stage that comes only later, and a number that none has.
    pub fn source(&self, name: &str, index: usize) -> Result<Meaning> {
        let count = self.file.stages.len();
        let stage = match name.parse::<i64>() {
            Ok(number) => match usize::try_from(number).ok().filter(|number| *number < count) {
                Some(number) => Some(number),
                None => bail!("invalid stage index {number}: there are {count} stages, and the first is 0"),
            },
            Err(_) => self.stage(name, index).or_else(|| self.stage(name, count)),
        };
        let context = match stage {
            Some(stage) => self.replacement(stage),
            None => self.context(name),
        };
        match (context, stage) {
            (Some(context), _) => Ok(context),
            (None, None) => Ok(image(name)),
            (None, Some(stage)) if stage < index => Ok(Meaning::Stage(stage)),
            (None, Some(_)) => {
                let current = self.file.stages[index].name.clone().unwrap_or_else(|| format!("stage-{index}"));
                bail!("cannot copy from stage {name:?}, it needs to be defined before current stage {current:?}")
            }
        }
    }

    /// The context that a stage has to give way to, because it is called like it.
    pub fn replacement(&self, stage: usize) -> Option<Meaning> {
        self.context(self.file.stages[stage].name.as_deref()?)
    }

    fn context(&self, name: &str) -> Option<Meaning> {
        if ["scratch", "context"].iter().any(|reserved| name.eq_ignore_ascii_case(reserved)) {
            return None;
        }
        let wanted = Reference::familiarize(name);
        let (_, context) = self.contexts.iter().find(|(other, _)| Reference::familiarize(other) == wanted)?;
        Some(match context {
            Named::Folder(path) => Meaning::Folder(path.clone()),
            Named::Image(name) => image(name),
        })
    }

    fn stage(&self, name: &str, before: usize) -> Option<usize> {
        stage_called(self.file, name, before)
    }
}

/// The last stage of this name before a number.
pub fn stage_called(file: &Dockerfile, name: &str, before: usize) -> Option<usize> {
    let wanted = name.to_lowercase();
    file.stages[..before].iter().rposition(|stage| stage.name.as_deref() == Some(wanted.as_str()))
}

fn image(name: &str) -> Meaning {
    match name {
        "scratch" => Meaning::Scratch,
        name => Meaning::Image(name.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::dockerfile::{Source, parse};

    const FILE: &str = "FROM a AS one\nFROM b AS two\nFROM c AS Three\nFROM d\nFROM e AS two\n";

    fn with<T>(contexts: &[&str], ask: impl Fn(Names) -> T) -> T {
        let file = parse(Source::new("Dockerfile", FILE)).unwrap();
        let contexts = contexts.iter().map(|name| (name.to_string(), Named::Folder("/folder".into()))).collect();
        ask(Names { file: &file, contexts: &contexts })
    }

    fn folder() -> Meaning {
        Meaning::Folder("/folder".into())
    }

    fn image_called(name: &str) -> Meaning {
        Meaning::Image(name.into())
    }

    #[test]
    fn a_base_is_a_context_or_an_earlier_stage_or_an_image() {
        with(&[], |names| {
            assert_eq!(names.base("one", 3), Meaning::Stage(0));
            assert_eq!(names.base("THREE", 3), Meaning::Stage(2));
            assert_eq!((names.base("two", 1), names.base("two", 3)), (image_called("two"), Meaning::Stage(1)));
            // Only names: 0 may be an image.
            assert_eq!(names.base("0", 3), image_called("0"));
            assert_eq!(names.base("scratch", 0), Meaning::Scratch);
        });
        with(&["one", "docker.io/library/img:latest", "scratch"], |names| {
            assert_eq!(names.base("one", 3), folder());
            assert_eq!(names.base("img", 0), folder());
            assert_eq!(names.base("img:1", 0), image_called("img:1"));
            assert_eq!(names.base("scratch", 0), Meaning::Scratch);
            assert_eq!((names.replacement(0), names.replacement(1)), (Some(folder()), None));
        });
        with(&["img"], |names| assert_eq!(names.base("img:latest", 0), folder()));
    }

    #[test]
    fn a_source_may_be_a_number_but_no_later_stage() {
        with(&["one"], |names| {
            let source = |name: &str| names.source(name, 3).map_err(|error| error.to_string());
            assert_eq!(source("one"), Ok(folder()));
            assert_eq!(source("0"), Ok(folder()));
            assert_eq!((source("1"), source("two")), (Ok(Meaning::Stage(1)), Ok(Meaning::Stage(1))));
            assert_eq!(source("img"), Ok(image_called("img")));
            let later = "cannot copy from stage \"4\", it needs to be defined before current stage \"stage-3\"";
            assert_eq!(source("4"), Err(later.into()));
            for number in ["5", "20", "-1"] {
                assert!(source(number).unwrap_err().starts_with(&format!("invalid stage index {number}")));
            }
            let error = names.source("two", 0).unwrap_err().to_string();
            assert!(error.ends_with("it needs to be defined before current stage \"one\""), "{error}");
            assert!(names.source("three", 2).is_err());
        });
    }
}
