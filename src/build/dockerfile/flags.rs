//! The flags of one instruction, taken out one by one.

use super::suggest::suggestion;

/// What stands before an instruction's arguments.
pub struct Flags {
    all: Vec<(String, Option<String>)>,
    taken: Vec<&'static str>,
}

impl Flags {
    pub fn new(words: Vec<String>) -> Flags {
        let split = |word: String| {
            let word = word.trim_start_matches('-');
            match word.split_once('=') {
                Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                None => (word.to_owned(), None),
            }
        };
        Flags { all: words.into_iter().map(split).collect(), taken: Vec::new() }
    }

    /// All values of a flag that may be given several times.
    pub fn values(&mut self, name: &'static str) -> Result<Vec<String>, String> {
        self.taken.push(name);
        let (mine, rest) = std::mem::take(&mut self.all).into_iter().partition(|(key, _)| key == name);
        self.all = rest;
        let mine: Vec<(String, Option<String>)> = mine;
        mine.into_iter().map(|(_, value)| value.ok_or_else(|| format!("missing a value on flag: --{name}"))).collect()
    }

    /// The value of a flag that may be given once.
    pub fn value(&mut self, name: &'static str) -> Result<Option<String>, String> {
        let mut values = self.values(name)?;
        match values.len() {
            0 | 1 => Ok(values.pop()),
            _ => Err(format!("duplicate flag specified: --{name}")),
        }
    }

    /// A flag that is on, off, or not there.
    pub fn switch(&mut self, name: &'static str) -> Result<Option<bool>, String> {
        for (_, value) in self.all.iter_mut().filter(|(key, value)| key == name && value.is_none()) {
            *value = Some("true".into());
        }
        match self.value(name)?.map(|value| value.to_ascii_lowercase()).as_deref() {
            None => Ok(None),
            Some("true") => Ok(Some(true)),
            Some("false") => Ok(Some(false)),
            Some(other) => Err(format!("expecting boolean value for flag --{name}, not: {other}")),
        }
    }

    /// # Errors
    /// A flag that nobody has asked for.
    pub fn finish(self) -> Result<(), String> {
        match self.all.first() {
            None => Ok(()),
            Some((name, _)) => Err(format!("unknown flag: --{name}{}", suggestion(name, &self.taken))),
        }
    }
}
