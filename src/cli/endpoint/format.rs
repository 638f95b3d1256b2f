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

/// `DOS_ENDPOINT_<WORKER>_<ROLE>='HOST:PORT'` lines. Two addresses whose variables are the same are an error: whichever was
/// left out, its reader would be sent to another worker or to none.
pub(super) fn env(endpoints: &Endpoints) -> Result<Rendered, Failure> {
    let mut rendered = Rendered::default();
    let mut taken = BTreeMap::new();
    for (worker, endpoint) in endpoints {
        for (role, address) in endpoint.addresses.iter() {
            let (name, role_name) = (variable(worker.worker.as_str()), variable(role));
            let name = format!("DOS_ENDPOINT_{name}_{role_name}");
            if let Some((other, other_role)) = taken.insert(name.clone(), (worker, role)) {
                let why = format!(
                    "cannot write endpoints as env: {other} {other_role} and {worker} {role} are both {name}"
                );
                let step = "--format json, or `endpoint render --worker` for each of them";
                return Err(Failure::error(why).try_next(step));
            }
            writeln!(rendered.text, "{name}={}", quoted(address)).ok();
        }
    }
    Ok(rendered)
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

/// The content of a worker's `.tcp-control` or `.tcp-data`: `host LF port LF`.
pub(super) fn tcp_file(endpoint: &Endpoint, role: &str) -> Option<String> {
    let (host, port) = endpoint.addresses.host_and_port(role)?;
    Some(format!("{host}\n{port}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::endpoint::testing::endpoint;

    fn endpoints() -> Endpoints {
        [
            endpoint("j/w 1", &[("control", "it's:1"), ("data", "h:2")]),
            endpoint(
                "j/w2",
                &[("control", "10.0.0.2:3131"), ("data", "[::1]:3132")],
            ),
        ]
        .into()
    }

    #[test]
    fn env_lines_are_words_of_a_shell() {
        let text = env(&endpoints()).unwrap().text;
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
    fn two_addresses_of_one_variable_are_an_error_that_names_both() {
        let two = |one, other| {
            [
                endpoint(one, &[("a", "h:1")]),
                endpoint(other, &[("a", "h:2")]),
            ]
        };
        let failure = env(&two("j/w-2", "j/w.2").into()).unwrap_err();
        for word in ["j/w-2 a and j/w.2 a", "DOS_ENDPOINT_W_2_A"] {
            assert!(failure.message.contains(word), "{failure:?}");
        }
        assert!(env(&two("j/w2", "j/w_2").into()).is_ok());
        // The role is a part of it, too.
        let split = [
            endpoint("j/w", &[("a_b", "h:1")]),
            endpoint("j/w_a", &[("b", "h:2")]),
        ];
        let failure = env(&split.into()).unwrap_err();
        assert!(
            failure.message.contains("j/w a_b and j/w_a b"),
            "{failure:?}"
        );
    }

    #[test]
    fn hosts_are_ip_addresses_only_and_what_is_skipped_is_said() {
        let rendered = hosts(&endpoints());
        assert_eq!(rendered.text, "10.0.0.2 w2.j\n::1 w2.j\n");
        assert_eq!(rendered.skipped.len(), 1);
    }

    #[test]
    fn a_file_of_the_worker_is_host_and_port_on_lines_of_their_own() {
        let all = endpoints();
        let last = all.values().last().unwrap();
        assert_eq!(tcp_file(last, "data").unwrap(), "::1\n3132\n");
        assert_eq!(tcp_file(last, "nope"), None);
    }
}
