//! Endpoints as files that other programs read.

use std::{collections::BTreeMap, fmt::Write as _, net::IpAddr, path::PathBuf, str::FromStr};

use super::{super::exit::Failure, Row};
use crate::domain::{Endpoint, WorkerRef};

/// The endpoints that are rendered.
pub(super) type Endpoints = BTreeMap<WorkerRef, Endpoint>;

/// How endpoints are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Format {
    /// `APP-WORKER.tcp-control` and `APP-WORKER.tcp-data`.
    Wallaroo,
    /// Lines that a shell reads.
    Env,
    /// One document.
    Json,
    /// Lines of `/etc/hosts`.
    Hosts,
    /// A file with placeholders.
    Template(PathBuf),
}

impl FromStr for Format {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.strip_prefix("template=")) {
            ("wallaroo", _) => Ok(Self::Wallaroo),
            ("env", _) => Ok(Self::Env),
            ("json", _) => Ok(Self::Json),
            ("hosts", _) => Ok(Self::Hosts),
            (_, Some(file)) if !file.is_empty() => Ok(Self::Template(file.into())),
            _ => Err("expected wallaroo, env, json, hosts or template=FILE".to_owned()),
        }
    }
}

/// A text, and what is not in it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Rendered {
    pub(super) text: String,
    pub(super) skipped: Vec<String>,
}

/// A name as part of an environment variable's.
pub(super) fn variable(name: &str) -> String {
    let allowed = |c: char| {
        if c.is_ascii_alphanumeric() {
            c.to_ascii_uppercase()
        } else {
            '_'
        }
    };
    name.chars().map(allowed).collect()
}

/// A word of a shell, whatever is in it.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// `DOS_ENDPOINT_<WORKER>_<ROLE>='HOST:PORT'` lines. Of two workers whose variables are the same only the first is there.
pub(super) fn env(endpoints: &Endpoints) -> Rendered {
    let mut rendered = Rendered::default();
    let mut taken = std::collections::BTreeSet::new();
    for (worker, endpoint) in endpoints {
        for (role, address) in endpoint.addresses.iter() {
            let (name, role_name) = (variable(worker.worker.as_str()), variable(role));
            let name = format!("DOS_ENDPOINT_{name}_{role_name}");
            if taken.insert(name.clone()) {
                writeln!(rendered.text, "{name}={}", quoted(address)).ok();
            } else {
                let why = format!("{worker} {role}: {name} is taken already");
                rendered.skipped.push(why);
            }
        }
    }
    rendered
}

/// `HOST WORKER.JOB` lines, where HOST is an IP address and the names are of a host.
pub(super) fn hosts(endpoints: &Endpoints) -> Rendered {
    let mut rendered = Rendered::default();
    for (worker, endpoint) in endpoints {
        let name = format!("{}.{}", worker.worker, worker.job);
        let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.' || c == '_';
        if !name.chars().all(allowed) {
            let why = format!("{worker}: {name:?} is no name of a host");
            rendered.skipped.push(why);
            continue;
        }
        let mut written = std::collections::BTreeSet::new();
        for (role, address) in endpoint.addresses.iter() {
            let host = endpoint.addresses.host_and_port(role);
            let host = host.and_then(|(host, _)| host.parse::<IpAddr>().ok());
            match host {
                Some(ip) if written.insert(ip) => {
                    writeln!(rendered.text, "{ip} {name}").ok();
                }
                Some(_) => {}
                None => {
                    let why = format!("{worker} {role}: {address} is no IP address");
                    rendered.skipped.push(why);
                }
            }
        }
    }
    rendered
}

/// The endpoints as one document.
pub(super) fn json(endpoints: &Endpoints) -> Result<Rendered, Failure> {
    let rows: Vec<_> = endpoints.iter().map(Row::of).collect();
    let text = serde_json::to_string_pretty(&rows)
        .map_err(|error| Failure::error(format!("cannot write JSON: {error}")))?;
    Ok(Rendered {
        text: text + "\n",
        skipped: Vec::new(),
    })
}

/// A template's lines; one with a placeholder is there once for each worker that has what it names:
/// `{{job}}`, `{{worker}}`, `{{generation}}`, and for a role `{{ROLE}}`, `{{ROLE.host}}`, `{{ROLE.port}}`.
pub(super) fn template(template: &str, endpoints: &Endpoints) -> Rendered {
    let mut rendered = Rendered::default();
    for line in template.split_inclusive('\n') {
        if !line.contains("{{") {
            rendered.text.push_str(line);
            continue;
        }
        for (worker, endpoint) in endpoints {
            match filled(line, worker, endpoint) {
                Ok(filled) => rendered.text.push_str(&filled),
                Err(missing) => {
                    let why = format!("{worker} has no {missing:?}, which the template names");
                    rendered.skipped.push(why);
                }
            }
        }
    }
    rendered
}

/// The line for one worker; an error is the placeholder that it has nothing for.
fn filled(line: &str, worker: &WorkerRef, endpoint: &Endpoint) -> Result<String, String> {
    let mut text = String::new();
    let mut rest = line;
    while let Some((before, after)) = rest.split_once("{{") {
        let Some((name, behind)) = after.split_once("}}") else {
            break;
        };
        text.push_str(before);
        text.push_str(&value(name.trim(), worker, endpoint).ok_or(name.trim())?);
        rest = behind;
    }
    text.push_str(rest);
    Ok(text)
}

fn value(name: &str, worker: &WorkerRef, endpoint: &Endpoint) -> Option<String> {
    let addresses = &endpoint.addresses;
    match (name, name.rsplit_once('.')) {
        ("job", _) => Some(worker.job.to_string()),
        ("worker", _) => Some(worker.worker.to_string()),
        ("generation", _) => Some(endpoint.generation.to_string()),
        (_, Some((role, "host"))) => Some(addresses.host_and_port(role)?.0.to_owned()),
        (_, Some((role, "port"))) => Some(addresses.host_and_port(role)?.1.to_string()),
        (role, _) => addresses.get(role).map(ToOwned::to_owned),
    }
}

/// The content of a worker's `.tcp-control` or `.tcp-data`: `host LF port LF`.
pub(super) fn tcp_file(endpoint: &Endpoint, role: &str) -> Option<String> {
    let (host, port) = endpoint.addresses.host_and_port(role)?;
    Some(format!("{host}\n{port}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Addresses;

    fn endpoints() -> Endpoints {
        let of = |control: &str, data: &str| Endpoint {
            generation: 3,
            addresses: Addresses::new(
                [("control", control), ("data", data)]
                    .map(|(role, address)| (role.to_owned(), address.to_owned()))
                    .into(),
            )
            .unwrap(),
            by: "a test".to_owned(),
            at_unix_ms: 1,
        };
        [
            ("j/w 1".parse().unwrap(), of("it's:1", "h:2")),
            ("j/w2".parse().unwrap(), of("10.0.0.2:3131", "[::1]:3132")),
        ]
        .into()
    }

    #[test]
    fn env_lines_are_words_of_a_shell() {
        let text = env(&endpoints()).text;
        assert!(
            text.starts_with("DOS_ENDPOINT_W_1_CONTROL='it'\\''s:1'\n"),
            "{text}"
        );
        assert!(
            text.ends_with("DOS_ENDPOINT_W2_DATA='[::1]:3132'\n"),
            "{text}"
        );
    }

    #[test]
    fn hosts_are_ip_addresses_only_and_what_is_skipped_is_said() {
        let rendered = hosts(&endpoints());
        assert_eq!(rendered.text, "10.0.0.2 w2.j\n::1 w2.j\n");
        assert_eq!(rendered.skipped.len(), 1);
    }

    #[test]
    fn a_line_of_a_template_is_there_once_for_each_worker_that_can_fill_it() {
        let text = "# head\n{{ worker }}={{control.host}}/{{data.port}}\n{{ nope }}\n";
        let rendered = template(text, &endpoints());
        assert_eq!(rendered.text, "# head\nw 1=it's/2\nw2=10.0.0.2/3132\n");
        assert_eq!(rendered.skipped.len(), 2);
    }

    #[test]
    fn a_file_of_the_worker_is_host_and_port_on_lines_of_their_own() {
        let all = endpoints();
        let last = all.values().last().unwrap();
        assert_eq!(tcp_file(last, "data").unwrap(), "::1\n3132\n");
        assert_eq!(tcp_file(last, "nope"), None);
    }
}
