//! Where values come from: a file, the environment, flags. Each layer holds text and says where it was found.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use toml::de::{DeTable, DeValue};

use super::{SETTINGS, Setting};

/// What every environment variable of this program begins with.
pub(super) const VARIABLE_PREFIX: &str = "DOS_CLUSTER_";

/// Variables of this program that are not settings of a node.
pub const NOT_SETTINGS: &[&str] = &[
    "DOS_CLUSTER_CONFIG",
    "DOS_CLUSTER_ENDPOINTS",
    "DOS_CLUSTER_LOG",
    "DOS_CLUSTER_LOG_FORMAT",
];

/// Where a value was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Nobody set it.
    Default,
    /// A TOML file, and the line in it, from 1.
    File(PathBuf, usize),
    /// An environment variable.
    Variable(String),
    /// A flag on the command line.
    Flag(String),
    /// A default, beside a value that was set there.
    Beside(Box<Source>),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path, line) => write!(f, "{}:{line}", path.display()),
            Self::Variable(name) => write!(f, "environment variable {name}"),
            Self::Flag(name) => write!(f, "flag {name}"),
            Self::Beside(source) => write!(f, "default, beside {source}"),
        }
    }
}

/// A value as it was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Given {
    pub(super) text: String,
    pub(super) source: Source,
}

/// One thing that is wrong with the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigFault {
    /// The setting, or the name that is none.
    pub key: String,
    /// What it was set to.
    pub value: Option<String>,
    /// Where.
    pub source: Source,
    /// What is wrong with it.
    pub why: String,
    /// What is allowed instead.
    pub allowed: Option<&'static str>,
}

impl ConfigFault {
    pub(super) fn bad_value(setting: Setting, given: &Given, why: String) -> Self {
        Self {
            key: setting.key.to_owned(),
            value: Some(given.text.clone()),
            source: given.source.clone(),
            why,
            allowed: Some(setting.allowed),
        }
    }

    fn unknown(key: &str, source: Source) -> Self {
        let near = SETTINGS
            .iter()
            .map(|setting| (distance(setting.key, &key.to_lowercase()), setting.key))
            .min()
            .filter(|(distance, _)| *distance <= 3);
        let hint = match near {
            Some((_, near)) => format!("did you mean {near}?"),
            None => {
                let keys: Vec<_> = SETTINGS.iter().map(|setting| setting.key).collect();
                format!("there are {}", keys.join(", "))
            }
        };
        Self {
            key: key.to_owned(),
            value: None,
            source,
            why: format!("there is no such setting: {hint}"),
            allowed: None,
        }
    }
}

impl fmt::Display for ConfigFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.key)?;
        if let Some(value) = &self.value {
            write!(f, " = {value:?}")?;
        }
        write!(f, " ({}): {}", self.source, self.why)?;
        match self.allowed {
            Some(allowed) => write!(f, "; allowed: {allowed}"),
            None => Ok(()),
        }
    }
}

/// Everything that is wrong with the configuration; at least one fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigFaults(pub Vec<ConfigFault>);

impl std::error::Error for ConfigFaults {}

impl fmt::Display for ConfigFaults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_slice() {
            [fault] => write!(f, "the configuration is wrong: {fault}"),
            faults => {
                write!(f, "the configuration is wrong in {} places:", faults.len())?;
                faults.iter().try_for_each(|fault| write!(f, "\n  {fault}"))
            }
        }
    }
}

/// What one source sets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConfigLayer {
    pub(super) values: Vec<(Setting, Given)>,
    pub(super) faults: Vec<ConfigFault>,
    /// It could not be read to its end: what it lacks says nothing.
    pub(super) is_broken: bool,
}

impl ConfigLayer {
    /// The settings in the text of a TOML file. `path` is for messages only. Of a text with wrong syntax nothing is taken:
    /// the faults are those of the syntax, not those of what was made of it.
    #[must_use]
    pub fn from_toml(path: &Path, text: &str) -> Self {
        let mut layer = Self::default();
        let (document, errors) = DeTable::parse_recoverable(text);
        for error in errors {
            let at = error.span().map_or(0, |span| span.start);
            layer.faults.push(ConfigFault {
                key: "syntax".to_owned(),
                value: None,
                source: Source::File(path.to_owned(), line_of(text, at)),
                why: error.message().trim().replace('\n', ", "),
                allowed: None,
            });
        }
        if !layer.faults.is_empty() {
            layer.is_broken = true;
            return layer;
        }
        let mut entries: Vec<_> = document.into_inner().into_iter().collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        for (key, value) in entries {
            let source = Source::File(path.to_owned(), line_of(text, key.span().start));
            let Some(setting) = find(key.get_ref()) else {
                layer
                    .faults
                    .push(ConfigFault::unknown(key.get_ref(), source));
                continue;
            };
            let raw = text.get(value.span()).unwrap_or_default().to_owned();
            let text = match value.get_ref() {
                DeValue::String(text) => text.to_string(),
                DeValue::Integer(_) | DeValue::Float(_) => raw.replace('_', ""),
                other => {
                    let given = Given { text: raw, source };
                    let why = format!(
                        "it is of type {}, not a string or a number",
                        other.type_str()
                    );
                    layer
                        .faults
                        .push(ConfigFault::bad_value(setting, &given, why));
                    continue;
                }
            };
            layer.values.push((setting, Given { text, source }));
        }
        layer
    }

    /// The settings among environment variables. A variable with our prefix that is neither a setting nor one of
    /// [`NOT_SETTINGS`] is a fault; those that Kubernetes makes for a service called `dos-cluster...` are passed over.
    #[must_use]
    pub fn from_environment(variables: impl IntoIterator<Item = (String, String)>) -> Self {
        let mut layer = Self::default();
        let mut ours: Vec<_> = variables
            .into_iter()
            .filter(|(name, _)| name.starts_with(VARIABLE_PREFIX))
            .filter(|(name, _)| !NOT_SETTINGS.contains(&name.as_str()) && !of_a_service(name))
            .collect();
        ours.sort();
        for (name, text) in ours {
            let key = name[VARIABLE_PREFIX.len()..].to_lowercase();
            let source = Source::Variable(name.clone());
            match find(&key).filter(|setting| setting.variable() == name) {
                Some(setting) => layer.values.push((setting, Given { text, source })),
                None => layer.faults.push(ConfigFault::unknown(&key, source)),
            }
        }
        layer
    }

    /// The settings given as flags, by their keys; `None` is not given.
    #[must_use]
    pub fn from_flags<'a>(flags: impl IntoIterator<Item = (&'a str, Option<String>)>) -> Self {
        let mut layer = Self::default();
        for (key, text) in flags {
            let Some(text) = text else { continue };
            let source = Source::Flag(format!("--{}", key.replace('_', "-")));
            match find(key) {
                Some(setting) => layer.values.push((setting, Given { text, source })),
                None => layer.faults.push(ConfigFault::unknown(key, source)),
            }
        }
        layer
    }
}

fn find(key: &str) -> Option<Setting> {
    SETTINGS.iter().copied().find(|setting| setting.key == key)
}

/// `..._SERVICE_HOST`, `..._SERVICE_PORT`, `..._PORT`, `..._PORT_7420_TCP...`: made by Kubernetes, not by an operator.
fn of_a_service(name: &str) -> bool {
    let ends = ["_SERVICE_HOST", "_SERVICE_PORT", "_PORT"];
    let named_port = name.contains("_SERVICE_PORT_");
    let numbered = name
        .split("_PORT_")
        .skip(1)
        .any(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    named_port || numbered || ends.iter().any(|end| name.ends_with(end))
}

/// The line of a byte, from 1.
fn line_of(text: &str, at: usize) -> usize {
    let before = text.as_bytes().iter().take(at);
    1 + before.filter(|byte| **byte == b'\n').count()
}

/// How many letters must be added, removed or replaced.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().take(64).collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in other.iter().enumerate() {
            let replaced = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[other.len()]
}
