//! The file and the environment, layered and checked key by key against [`super::keys`].

use std::{ffi::OsString, fmt, path::Path};

use serde::Deserialize as _;
use toml::{Table, Value};

use super::{
    Config, check,
    keys::{self, KEYS, Key, Kind},
};
use crate::tls;

/// What every variable of a key begins with.
pub const PREFIX: &str = "BALANCE_PROJECTOR__";
/// What such a variable begins with where an underscore is missing. Others begin so as well: Kubernetes tells of its
/// services in variables of their names, but those have no two underscores side by side.
const NEARLY_PREFIX: &str = "BALANCE_PROJECTOR_";

/// What stops the start: all that is wrong, one fault a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// At least one.
    pub faults: Vec<Fault>,
}

/// One key that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The key's full name, such as `api.users[0].name`; the file's or variable's where there is no key.
    pub key: String,
    /// What is wrong: what it was and what it may be. Secrets are not echoed.
    pub message: String,
    /// Where it was set, where it was.
    pub origin: Option<String>,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.key, self.message)?;
        match &self.origin {
            Some(origin) => write!(f, " (set in {origin})"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the configuration is wrong:")?;
        self.faults.iter().try_for_each(|fault| write!(f, "\n  {fault}"))
    }
}

impl std::error::Error for ConfigError {}

impl ConfigError {
    /// One key whose value cannot be used.
    pub(crate) fn of(key: &str, message: impl Into<String>) -> Self {
        ConfigError { faults: vec![Fault::new(key, message)] }
    }
}

impl Fault {
    pub(super) fn new(key: impl Into<String>, message: impl Into<String>) -> Self {
        Fault { key: key.into(), message: message.into(), origin: None }
    }

    /// What it was, and what it may be; a value that may hold a secret is left out.
    pub(super) fn wrong(key: impl Into<String>, was: &impl fmt::Debug) -> Self {
        let key = key.into();
        let message = match keys::find(&key).map(|k| &k.kind) {
            Some(Kind::Properties) | None => "has a wrong value".to_owned(),
            Some(kind) if kind.is_secret() => not_shown(kind),
            Some(Kind::Texts(what)) => format!("was {was:?}, may be {what}"),
            Some(kind) => format!("was {was:?}, may be {kind}"),
        };
        Fault { key, message, origin: None }
    }
}

impl Config {
    /// Reads the file, if one is named, and the variables that begin with [`PREFIX`] over it, and checks
    /// everything; the error names every fault at once.
    pub fn load(
        path: Option<&Path>,
        env: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Config, ConfigError> {
        let mut table = path.map_or_else(|| Ok(Table::new()), read)?;
        let mut faults = Vec::new();
        let mut variables = Vec::new();
        let mut env: Vec<_> = env.into_iter().collect();
        env.sort();
        for (name, value) in env {
            match overlay(&mut table, &name, &value) {
                Ok(Some(variable)) => variables.push(variable),
                Ok(None) => {}
                Err(fault) => faults.push(fault),
            }
        }
        check_table(&table, "", &mut faults);
        let config = if faults.is_empty() { decode(table, &mut faults) } else { None };
        if let Some(config) = &config {
            faults = check::faults(config);
            // What the environment brings is no fault of the file.
            if let Some(path) = path.filter(|path| file_holds_secrets(path))
                && let Err(error) = tls::others_may_not(path)
            {
                faults.push(Fault::new(format!("{}:", error.path), error.reason));
            }
        }
        match config {
            Some(config) if faults.is_empty() => Ok(config),
            Some(_) | None => {
                for fault in faults.iter_mut().filter(|fault| fault.origin.is_none()) {
                    fault.origin = origin(&fault.key, path, &variables);
                }
                Err(ConfigError { faults })
            }
        }
    }
}

/// A variable that was laid over the file, and the key that it set.
struct Variable {
    name: String,
    key: String,
}

fn origin(key: &str, path: Option<&Path>, variables: &[Variable]) -> Option<String> {
    let set = variables.iter().find(|v| {
        key.strip_prefix(v.key.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    });
    let in_file = || path.filter(|path| file_holds(path, key)).map(|path| path.display().to_string());
    set.map(|v| v.name.clone()).or_else(in_file)
}

/// Whether a key, or the array that it is in, stands in the file.
fn file_holds(path: &Path, key: &str) -> bool {
    let Ok(table) = read(path) else { return false };
    let mut inner = &table;
    let mut names = key.split('[').next().unwrap_or_default().split('.').peekable();
    while let Some(name) = names.next() {
        match inner.get(name) {
            Some(Value::Table(table)) if names.peek().is_some() => inner = table,
            // A property of librdkafka has dots in its name.
            Some(_) => return true,
            None => {
                return inner.contains_key(&std::iter::once(name).chain(names).collect::<Vec<_>>().join("."));
            }
        }
    }
    false
}

/// Whether the file itself holds a password.
fn file_holds_secrets(path: &Path) -> bool {
    let config = read(path).ok().and_then(|table| Config::deserialize(Value::Table(table)).ok());
    config.is_some_and(|config| config.holds_secrets())
}

fn read(path: &Path) -> Result<Table, ConfigError> {
    let name = path.display().to_string();
    let fault = |message: String| ConfigError { faults: vec![Fault::new(name.clone(), message)] };
    let text = std::fs::read_to_string(path).map_err(|e| fault(format!("cannot be read: {e}")))?;
    text.parse::<Table>().map_err(|e| {
        // The error's own form quotes the line, which may hold a secret.
        let before = e.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        let line = before.matches('\n').count().saturating_add(1);
        fault(format!("is not TOML, line {line}: {}", e.message()))
    })
}

/// Lays one variable over the table, if it is one of ours.
fn overlay(table: &mut Table, name: &OsString, value: &OsString) -> Result<Option<Variable>, Fault> {
    let lossy = name.to_string_lossy();
    let Some(rest) = lossy.strip_prefix(PREFIX) else {
        let nearly = lossy.strip_prefix(NEARLY_PREFIX).is_some_and(|rest| rest.contains("__"));
        let message = format!("is ignored; a key's variable begins with {PREFIX}");
        return if nearly { Err(Fault::new(lossy, message)) } else { Ok(None) };
    };
    let key = rest.to_ascii_lowercase().replace("__", ".");
    let name = lossy.clone().into_owned();
    let unknown = || {
        Fault::new(
            name.clone(),
            "names no key; a key's variable is in capitals, two underscores for each dot",
        )
    };
    if rest.bytes().any(|b| b.is_ascii_lowercase()) {
        return Err(unknown());
    }
    let Some(text) = value.to_str() else {
        return Err(Fault::new(key, format!("is not UTF-8 in {name}")));
    };
    let (key, value) = if let Some(property) = key.strip_prefix("kafka.properties.") {
        // A shell's variable has no dot in its name: librdkafka's names have dots and no underscore.
        let property = property.replace('_', ".");
        section(table, "kafka", &unknown)
            .and_then(|kafka| section(kafka, "properties", &unknown))?
            .insert(property.clone(), Value::String(text.to_owned()));
        return Ok(Some(Variable { name, key: format!("kafka.properties.{property}") }));
    } else if let Some(row) = KEYS.iter().find(|k| k.name == key) {
        let value = value_of(row, text).ok_or_else(|| {
            let mut fault = Fault::wrong(&key, &text);
            fault.origin = Some(name.clone());
            fault
        })?;
        (key, value)
    } else {
        return Err(unknown());
    };
    let mut inner = &mut *table;
    let mut names = key.split('.').peekable();
    while let Some(name) = names.next() {
        if names.peek().is_some() {
            inner = section(inner, name, &unknown)?;
        } else {
            inner.insert(name.to_owned(), value);
            break;
        }
    }
    Ok(Some(Variable { name, key }))
}

/// The sub-table of this name, made where it is missing.
fn section<'a>(
    table: &'a mut Table,
    name: &str,
    unknown: &impl Fn() -> Fault,
) -> Result<&'a mut Table, Fault> {
    table.entry(name).or_insert_with(|| Value::Table(Table::new())).as_table_mut().ok_or_else(unknown)
}

/// The value that a variable's text stands for: arrays and tables are written as in the file.
fn value_of(key: &Key, text: &str) -> Option<Value> {
    match key.kind {
        Kind::Integer(..) => text.parse().ok().map(Value::Integer),
        Kind::Switch => text.parse().ok().map(Value::Boolean),
        Kind::Text(_) | Kind::Secret(_) | Kind::Choice(_) | Kind::Address => {
            Some(Value::String(text.to_owned()))
        }
        Kind::Texts(_) | Kind::Choices(_) | Kind::Properties | Kind::Tables(..) => {
            format!("v = {text}").parse::<Table>().ok()?.remove("v")
        }
    }
}

fn check_table(table: &Table, prefix: &str, faults: &mut Vec<Fault>) {
    for (name, value) in table {
        let full = format!("{prefix}{name}");
        if let Some(key) = KEYS.iter().find(|k| k.name == full) {
            check_value(&full, &key.kind, value, faults);
            continue;
        }
        let inner = format!("{full}.");
        if !KEYS.iter().any(|k| k.name.starts_with(&inner)) {
            faults.push(unknown(&full, KEYS.iter().filter_map(|k| k.name.strip_prefix(prefix)).map(head)));
        } else if let Some(section) = value.as_table() {
            check_table(section, &inner, faults);
        } else {
            faults.push(Fault::new(full.clone(), format!("is a section, written [{full}]")));
        }
    }
}

/// The first part of a name.
fn head(name: &'static str) -> &'static str {
    name.split('.').next().unwrap_or(name)
}

fn unknown(full: &str, here: impl Iterator<Item = &'static str>) -> Fault {
    let mut here: Vec<_> = here.collect();
    here.dedup();
    Fault::new(full, format!("is no key; the keys here are {}", here.join(", ")))
}

fn check_value(full: &str, kind: &'static Kind, value: &Value, faults: &mut Vec<Fault>) {
    let text_fits = |value: &Value, words: &[&str]| value.as_str().is_some_and(|text| words.contains(&text));
    let fits = match kind {
        Kind::Integer(min, max, _) => value.as_integer().is_some_and(|i| (*min..=*max).contains(&i)),
        Kind::Text(_) | Kind::Secret(_) => value.is_str(),
        Kind::Switch => value.is_bool(),
        Kind::Choice(words) => text_fits(value, words),
        Kind::Address => value.as_str().is_some_and(|text| text.parse::<std::net::SocketAddr>().is_ok()),
        Kind::Texts(_) => value.as_array().is_some_and(|array| array.iter().all(Value::is_str)),
        Kind::Choices(words) => value.as_array().is_some_and(|array| {
            let once = |(i, v)| !array.iter().skip(i).skip(1).any(|other| other == v);
            !array.is_empty()
                && array.iter().all(|v| text_fits(v, words))
                && array.iter().enumerate().all(once)
        }),
        Kind::Properties => value.as_table().is_some_and(|table| table.values().all(Value::is_str)),
        Kind::Tables(rows, required) => {
            let tables = value.as_array().filter(|array| array.iter().all(Value::is_table));
            for (i, table) in tables.into_iter().flatten().filter_map(Value::as_table).enumerate() {
                check_row(&format!("{full}[{i}]"), table, rows, required, faults);
            }
            tables.is_some()
        }
    };
    if fits {
        return;
    }
    let secret = kind.is_secret();
    let message = if secret { not_shown(kind) } else { format!("was {}, may be {kind}", shown(value)) };
    faults.push(Fault::new(full, message));
}

fn check_row(
    full: &str,
    table: &Table,
    rows: &'static [Key],
    required: &[&'static str],
    faults: &mut Vec<Fault>,
) {
    for (name, value) in table {
        let name = format!("{full}.{name}");
        match rows.iter().find(|k| name.strip_prefix(full).and_then(|n| n.strip_prefix('.')) == Some(k.name))
        {
            Some(key) => check_value(&name, &key.kind, value, faults),
            None => faults.push(unknown(&name, rows.iter().map(|k| k.name))),
        }
    }
    for name in required.iter().filter(|name| !table.contains_key(**name)) {
        faults.push(Fault::new(format!("{full}.{name}"), "is missing"));
    }
}

fn not_shown(kind: &Kind) -> String {
    format!("may be {kind}; its value is not shown")
}

/// A value as the file has it, on one line and bounded.
fn shown(value: &Value) -> String {
    let text = value.to_string().replace('\n', " ");
    match text.char_indices().nth(80) {
        None => text,
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
    }
}

/// The typed form; every fault that the table of keys does not know is told here.
fn decode(table: Table, faults: &mut Vec<Fault>) -> Option<Config> {
    match serde_path_to_error::deserialize::<_, Config>(Value::Table(table)) {
        Ok(config) => Some(config),
        Err(e) => {
            faults.push(Fault::new(e.path().to_string(), "has a wrong value"));
            None
        }
    }
}
