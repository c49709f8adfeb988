//! The functions that Docker adds to Go's templates.

use gotmpl::{FuncMap, Result, TemplateError, Value};
use serde_json::{Map, Number, Value as Json};
use std::sync::Arc;

/// Keeps `pad` from filling the memory.
const PAD_LIMIT: i64 = 4096;

/// The functions for rows and documents.
pub fn rows() -> FuncMap {
    let mut functions = FuncMap::new();
    let mut add = |name: &str, function: fn(&[Value]) -> Result<Value>| {
        functions.insert(name.to_string(), Arc::new(function));
    };
    add("json", |args| Ok(text(json(one("json", args)?).to_string())));
    add("lower", |args| Ok(text(string("lower", one("lower", args)?)?.to_lowercase())));
    add("upper", |args| Ok(text(string("upper", one("upper", args)?)?.to_uppercase())));
    add("title", |args| Ok(text(title(string("title", one("title", args)?)?))));
    add("split", split);
    add("join", join);
    add("pad", pad);
    add("truncate", truncate);
    add("len", len);
    add("index", index);
    add("label", label);
    functions
}

/// The functions for headings, which stay as they are but for their padding.
pub fn headers() -> FuncMap {
    let mut functions = rows();
    for name in ["json", "lower", "upper", "title", "split", "join", "truncate", "index", "len"] {
        let itself = |args: &[Value]| Ok(args.first().cloned().unwrap_or(Value::Nil));
        functions.insert(name.to_string(), Arc::new(itself));
    }
    functions.insert(
        "label".into(),
        Arc::new(|args| {
            let key = string("label", two("label", args)?.1)?;
            Ok(text(key.rsplit('.').next().unwrap_or(key).replace(['-', '_'], " ")))
        }),
    );
    functions
}

fn text(value: String) -> Value {
    Value::String(value.into())
}

fn count(name: &str, expected: usize, args: &[Value]) -> TemplateError {
    TemplateError::ArgCount { name: name.to_string(), expected, got: args.len() }
}

fn one<'a>(name: &str, args: &'a [Value]) -> Result<&'a Value> {
    match args {
        [only] => Ok(only),
        _ => Err(count(name, 1, args)),
    }
}

fn two<'a>(name: &str, args: &'a [Value]) -> Result<(&'a Value, &'a Value)> {
    match args {
        [first, second] => Ok((first, second)),
        _ => Err(count(name, 2, args)),
    }
}

fn string<'a>(name: &str, value: &'a Value) -> Result<&'a str> {
    match value {
        Value::String(string) => Ok(string),
        Value::Nil => Ok(""),
        other => Err(wrong(name, "string", other)),
    }
}

fn wrong(name: &str, expected: &str, value: &Value) -> TemplateError {
    TemplateError::Exec(format!("wrong type of value for {name}; expected {expected}; got {}", value.type_name()))
}

fn number(name: &str, value: &Value) -> Result<i64> {
    value.as_int().ok_or_else(|| wrong(name, "int", value))
}

fn json(value: &Value) -> Json {
    match value {
        Value::Bool(yes) => Json::Bool(*yes),
        Value::Int(number) => Json::from(*number),
        Value::Uint(number) => Json::from(*number),
        Value::Float(number) => Number::from_f64(*number).map_or(Json::Null, Json::Number),
        Value::String(string) => Json::String(string.to_string()),
        Value::List(items) => Json::Array(items.iter().map(json).collect()),
        Value::Map(map) => {
            Json::Object(map.iter().map(|(key, value)| (key.to_string(), json(value))).collect::<Map<_, _>>())
        }
        Value::Nil | Value::Function(_) => Json::Null,
    }
}

/// Every word with a capital, as Go's `strings.Title`.
fn title(string: &str) -> String {
    let mut in_word = false;
    let mut out = String::with_capacity(string.len());
    for c in string.chars() {
        if in_word {
            out.push(c);
        } else {
            out.extend(c.to_uppercase());
        }
        in_word = c.is_alphanumeric() || matches!(c, '_' | '\'');
    }
    out
}

fn split(args: &[Value]) -> Result<Value> {
    let (whole, separator) = two("split", args)?;
    let (whole, separator) = (string("split", whole)?, string("split", separator)?);
    let part = |part: &str| Value::String(part.into());
    if separator.is_empty() {
        return Ok(Value::List(whole.chars().map(|c| part(c.encode_utf8(&mut [0; 4]))).collect()));
    }
    Ok(Value::List(whole.split(separator).map(part).collect()))
}

fn join(args: &[Value]) -> Result<Value> {
    let (list, separator) = two("join", args)?;
    let parts: Vec<String> = match list {
        Value::List(items) => items.iter().map(Value::to_string).collect(),
        Value::Nil => Vec::new(),
        other => return Err(wrong("join", "list", other)),
    };
    Ok(text(parts.join(string("join", separator)?)))
}

fn pad(args: &[Value]) -> Result<Value> {
    let [source, before, after] = args else { return Err(count("pad", 3, args)) };
    let source = string("pad", source)?;
    if source.is_empty() {
        return Ok(text(String::new()));
    }
    let spaces = |value| number("pad", value).map(|width| " ".repeat(width.clamp(0, PAD_LIMIT) as usize));
    Ok(text(spaces(before)? + source + &spaces(after)?))
}

fn truncate(args: &[Value]) -> Result<Value> {
    let (source, length) = two("truncate", args)?;
    let length = usize::try_from(number("truncate", length)?).unwrap_or(0);
    Ok(text(string("truncate", source)?.chars().take(length).collect()))
}

/// As Go's, but what is absent is empty: Docker's documents have typed lists and maps there.
fn len(args: &[Value]) -> Result<Value> {
    let value = one("len", args)?;
    match value.len() {
        Some(length) => Ok(Value::Int(i64::try_from(length).unwrap_or(i64::MAX))),
        None if matches!(value, Value::Nil) => Ok(Value::Int(0)),
        None => Err(TemplateError::Exec(format!("len of type {}", value.type_name()))),
    }
}

/// As Go's, where a key that a map of texts lacks gives an empty text.
fn index(args: &[Value]) -> Result<Value> {
    let Some((value, keys)) = args.split_first() else { return Err(count("index", 1, args)) };
    let mut value = value.clone();
    for key in keys {
        let found = match (&value, key) {
            (Value::Nil, Value::String(_)) => text(String::new()),
            _ => value.index(key)?,
        };
        value = match (&value, found) {
            (Value::Map(map), Value::Nil) if map.values().all(|value| matches!(value, Value::String(_))) => {
                text(String::new())
            }
            (_, found) => found,
        };
    }
    Ok(value)
}

/// One label of a row, whose labels are a list `k=v,k=v` or a map.
fn label(args: &[Value]) -> Result<Value> {
    let (row, key) = two("label", args)?;
    let key = string("label", key)?;
    let found = match row.field("Labels") {
        Some(Value::Map(map)) => map.get(key).map(Value::to_string),
        Some(Value::String(list)) => {
            list.split(',').find_map(|label| label.strip_prefix(key)?.strip_prefix('=')).map(str::to_string)
        }
        _ => None,
    };
    Ok(text(found.unwrap_or_default()))
}
