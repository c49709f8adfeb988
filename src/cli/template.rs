//! `--format`: `json`, tables, and Go's templates with Docker's functions.

use super::table::{Table, printable};
use super::template_functions::{headers, rows as row_functions};
use anyhow::{Result, anyhow};
use gotmpl::{FuncMap, MissingKey, Template, TemplateError, Value as Data};
use serde_json::Value;
use std::borrow::Cow;

/// How the rows of a listing are shown.
pub struct Format {
    shape: Shape,
}

enum Shape {
    Json,
    Plain(Compiled),
    Table { line: Compiled, header: String },
}

/// A template with its text, which error messages quote.
struct Compiled {
    text: String,
    template: Template,
}

impl Format {
    /// Reads the value of `--format`; nothing, or `table` alone, shows the `default` fields.
    ///
    /// `columns` are all fields that a row has, each with its heading.
    ///
    /// # Errors
    /// A template that does not parse.
    pub fn parse(text: &str, columns: &[(&str, &str)], default: &[&str]) -> Result<Format> {
        let text = text.replace("\\t", "\t").replace("\\n", "\n");
        let shape = match (text.trim(), text.strip_prefix("table")) {
            ("json", _) => Shape::Json,
            ("" | "table", _) => {
                let fields: Vec<String> = default.iter().map(|field| format!("{{{{.{field}}}}}")).collect();
                Format::table(&fields.join("\t"), columns)?
            }
            (_, Some(line)) if line.starts_with([' ', '\t', '{']) => Format::table(line.trim_matches(' '), columns)?,
            _ => Shape::Plain(Compiled::new(&text, row_functions())?),
        };
        Ok(Format { shape })
    }

    fn table(line: &str, columns: &[(&str, &str)]) -> Result<Shape> {
        let names = columns.iter().map(|(field, heading)| ((*field).into(), Data::String((*heading).into())));
        let header = Compiled::new(line, headers())?;
        let header = header.run(&Data::Map(std::sync::Arc::new(names.collect())), MissingKey::Invalid);
        let header = header.map_err(|error| anyhow!("template parsing error: template: {error}"))?;
        Ok(Shape::Table { line: Compiled::new(line, row_functions())?, header })
    }

    /// The rows as text, with a newline at the end of every line.
    ///
    /// # Errors
    /// A field that a row does not have, or a function used on what it does not take.
    pub fn rows(&self, rows: &[Value]) -> Result<String> {
        let mut out = String::new();
        match &self.shape {
            Shape::Json => rows.iter().for_each(|row| out += &format!("{row}\n")),
            Shape::Plain(line) => {
                for row in rows {
                    out += &line.row(row, &str::to_string)?;
                    out.push('\n');
                }
            }
            Shape::Table { line, header } => {
                let mut table = Table::default();
                let mut add = |text: &str| {
                    text.split('\n').for_each(|line| table.row(line.split('\t').map(str::to_string).collect()));
                };
                add(header);
                for row in rows {
                    add(&line.row(row, &printable)?);
                }
                out = table.render();
            }
        }
        Ok(out)
    }
}

/// One document through a template, as `inspect --format` does it; without a newline at the end.
///
/// A key that a map of free keys (labels, ports) lacks shows as `<no value>`.
///
/// # Errors
/// A template that does not parse, or a field that the document does not have.
pub fn render_one(template: &str, document: &Value) -> Result<String> {
    Ok(render(template, document)?.0)
}

/// The same, and whether a map of free keys lacked one.
///
/// # Errors
/// As above.
pub fn render(template: &str, document: &Value) -> Result<(String, bool)> {
    match template.trim() {
        "json" => Ok((document.to_string(), false)),
        _ => fill(template, document),
    }
}

/// The same for a template in which `json` alone is only a word.
///
/// # Errors
/// As above.
pub fn fill(template: &str, document: &Value) -> Result<(String, bool)> {
    let template = template.replace("\\t", "\t").replace("\\n", "\n");
    let compiled = Compiled::new(&template, row_functions())?;
    compiled.look(document, &str::to_string).map_err(|error| match error {
        TemplateError::MissingKey { key } => {
            let place = compiled.place(&key).executing();
            anyhow!("template parsing error: {place}: map has no entry for key \"{key}\"")
        }
        error => anyhow!("template parsing error: template: {error}"),
    })
}

/// What Go's fields are called where that differs from the document; templates may use either name.
const GO_NAMES: [(&str, &str); 20] = [
    ("ID", "Id"),
    ("ID", "id"),
    ("Status", "status"),
    ("From", "from"),
    ("Time", "time"),
    ("TimeNano", "timeNano"),
    ("Scope", "scope"),
    ("NanoCPUs", "NanoCpus"),
    ("CPUShares", "CpuShares"),
    ("CPUPeriod", "CpuPeriod"),
    ("CPUQuota", "CpuQuota"),
    ("CPURealtimePeriod", "CpuRealtimePeriod"),
    ("CPURealtimeRuntime", "CpuRealtimeRuntime"),
    ("CPUCount", "CpuCount"),
    ("CPUPercent", "CpuPercent"),
    ("DNS", "Dns"),
    ("DNSOptions", "DnsOptions"),
    ("DNSSearch", "DnsSearch"),
    ("HostIP", "HostIp"),
    ("APIVersion", "ApiVersion"),
];

/// The document with these fields under both names.
fn with_go_names<'a>(document: &'a Value, names: &[(&str, &str)]) -> Cow<'a, Value> {
    if names.is_empty() {
        return Cow::Borrowed(document);
    }
    let mut document = document.clone();
    add_names(&mut document, names);
    Cow::Owned(document)
}

/// Maps with keys of the user's, which have but one name.
const FREE_MAPS: [&str; 7] = ["Annotations", "Attributes", "DriverOpts", "Labels", "Options", "Sysctls", "Tmpfs"];

fn add_names(value: &mut Value, names: &[(&str, &str)]) {
    match value {
        Value::Object(map) => {
            let own = map.iter_mut().filter(|(key, _)| !FREE_MAPS.contains(&key.as_str()));
            own.for_each(|(_, value)| add_names(value, names));
            for (go, own) in names {
                if let Some(value) = map.get(*own).filter(|_| !map.contains_key(*go)).cloned() {
                    map.insert((*go).to_owned(), value);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| add_names(item, names)),
        _ => {}
    }
}

impl Compiled {
    fn new(text: &str, functions: FuncMap) -> Result<Compiled> {
        let parsed = Template::new("").missing_key(MissingKey::Error).funcs(functions).parse(&with_label_calls(text));
        let template = parsed.map_err(|error| anyhow!("template parsing error: {error}"))?;
        Ok(Compiled { text: text.to_string(), template })
    }

    fn run(&self, data: &Data, missing: MissingKey) -> Result<String, TemplateError> {
        self.template.clone().missing_key(missing).execute_to_string(data)
    }

    /// A document's fields by either of their names, and whether a map of free keys lacked one.
    fn look(&self, document: &Value, text: &dyn Fn(&str) -> String) -> Result<(String, bool), TemplateError> {
        let mut names: Vec<(&str, &str)> = Vec::new();
        loop {
            let data = data(&with_go_names(document, &names), text);
            match self.run(&data, MissingKey::Error) {
                Ok(text) => return Ok((text, false)),
                Err(TemplateError::MissingKey { key }) if !names.iter().any(|(go, _)| *go == key) => {
                    let before = names.len();
                    names.extend(GO_NAMES.iter().filter(|(go, _)| *go == key));
                    if names.len() > before {
                        continue;
                    }
                    return match self.place(&key).is_free() {
                        true => Ok((self.run(&data, MissingKey::Invalid)?, true)),
                        false => Err(TemplateError::MissingKey { key }),
                    };
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn row(&self, row: &Value, text: &dyn Fn(&str) -> String) -> Result<String> {
        self.look(row, text).map(|(text, _)| text).map_err(|error| match error {
            TemplateError::MissingKey { key } => {
                let place = self.place(&key).executing();
                anyhow!("{place}: can't evaluate field {key} in type *formatter.SubContext")
            }
            error => anyhow!("template: {error}"),
        })
    }

    /// The first place of the text that mentions a field, which the library does not tell.
    fn place(&self, key: &str) -> Place<'_> {
        let name = |c: char| c.is_alphanumeric() || c == '_';
        let dotted = format!(".{key}");
        let found = self.text.match_indices(&dotted).find(|(at, _)| !self.text[at + dotted.len()..].starts_with(name));
        let at = found.map_or(0, |(at, _)| at);
        let chained = |c: char| name(c) || matches!(c, '.' | '$');
        let start = self.text[..at].rfind(|c| !chained(c)).map_or(0, |before| before + 1);
        let start = if self.text.is_char_boundary(start) { start } else { at };
        let end = self.text[at..].find(|c| !chained(c)).map_or(self.text.len(), |length| at + length);
        let before = &self.text[..start];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let expression = &self.text[start..end];
        Place {
            line: before.matches('\n').count() + 1,
            column: start - line_start,
            expression,
            first: start == at,
            key: key.into(),
        }
    }
}

/// Where a template goes wrong.
struct Place<'a> {
    line: usize,
    column: usize,
    expression: &'a str,
    /// Whether the key is the first of its chain.
    first: bool,
    key: String,
}

impl Place<'_> {
    fn executing(&self) -> String {
        format!("template: :{}:{}: executing \"\" at <{}>", self.line, self.column, self.expression)
    }

    /// Whether the key may well be one of a map with any keys: Docker's own fields begin in upper case.
    fn is_free(&self) -> bool {
        !self.first && !self.key.starts_with(|c: char| c.is_ascii_uppercase())
    }
}

/// `.Label "k"` is a method of Docker's rows; here it becomes a function.
fn with_label_calls(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(".Label ") {
        let (before, after) = rest.split_at(at);
        let arguments = &after[".Label ".len()..];
        let is_call =
            before.ends_with(['{', '(', ' ', '|', '-']) && arguments.trim_start().starts_with(['"', '`', '$']);
        out += before;
        out += if is_call { "label . " } else { ".Label " };
        rest = arguments;
    }
    out + rest
}

/// A document in the template library's own type, its texts through `text`.
fn data(value: &Value, text: &dyn Fn(&str) -> String) -> Data {
    match value {
        Value::Null => Data::Nil,
        Value::Bool(yes) => Data::Bool(*yes),
        Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => Data::Int(number),
            (None, Some(number)) => Data::Uint(number),
            (None, None) => Data::Float(number.as_f64().unwrap_or_default()),
        },
        Value::String(string) => Data::String(text(string).into()),
        Value::Array(items) => Data::List(items.iter().map(|item| data(item, text)).collect()),
        Value::Object(map) => Data::Map(std::sync::Arc::new(
            map.iter().map(|(key, value)| (key.as_str().into(), data(value, text))).collect(),
        )),
    }
}

#[cfg(test)]
mod tests;
