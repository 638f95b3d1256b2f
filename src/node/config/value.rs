//! Text to values: sizes, durations, addresses. Each error completes "KEY = VALUE: ...".

use std::{ops::RangeInclusive, path::PathBuf, time::Duration};

/// Binary and decimal units, the longest names first.
const UNITS: &[(&str, u64)] = &[
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("kB", 1_000),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("B", 1),
];

/// A path that is not empty.
pub(super) fn path(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() {
        return Err("it is empty".into());
    }
    Ok(text.into())
}

/// A number of bytes within bounds: `67108864`, `64MiB`, `64 MiB`, `64MB`.
pub(crate) fn bytes(text: &str, allowed: RangeInclusive<u64>) -> Result<u64, String> {
    let text = text.trim();
    let found = UNITS
        .iter()
        .find_map(|(name, unit)| Some((text.strip_suffix(name)?, *unit)));
    let (digits, unit) = found.unwrap_or((text, 1));
    let number: u64 = digits
        .trim()
        .parse()
        .map_err(|_| "it is not a number of bytes".to_owned())?;
    let bytes = number
        .checked_mul(unit)
        .ok_or_else(|| "it is larger than any size".to_owned())?;
    if allowed.contains(&bytes) {
        Ok(bytes)
    } else {
        Err("it is out of bounds".into())
    }
}

/// Bytes in the largest binary unit that fits exactly.
pub(super) fn show_bytes(bytes: u64) -> String {
    let exact = UNITS[..4]
        .iter()
        .rev()
        .find(|(_, unit)| bytes >= *unit && bytes.is_multiple_of(*unit));
    match exact {
        Some((name, unit)) => format!("{}{name}", bytes / unit),
        None => format!("{bytes}"),
    }
}

/// A duration with a unit, within bounds: `200ms`, `2s`, `1m 30s`.
pub(super) fn duration(text: &str, allowed: RangeInclusive<Duration>) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text.trim()).map_err(|_| {
        if text.trim().parse::<f64>().is_ok() {
            format!(
                "it has no unit: write {}ms or {}s",
                text.trim(),
                text.trim()
            )
        } else {
            "it is not a duration".to_owned()
        }
    })?;
    if allowed.contains(&duration) {
        Ok(duration)
    } else {
        Err("it is out of bounds".into())
    }
}

/// `host:port`, with an IPv6 host in brackets. Port 0 is any free port.
pub(super) fn address(text: &str) -> Result<String, String> {
    let (host, port) = text
        .rsplit_once(':')
        .ok_or_else(|| "it has no port".to_owned())?;
    match port.parse::<u16>() {
        Ok(_) => {}
        Err(_) => return Err(format!("its port {port:?} is not a number from 0 to 65535")),
    }
    if let Some(inner) = host.strip_prefix('[') {
        let inner = inner.strip_suffix(']');
        let parsed = inner.and_then(|inner| inner.parse::<std::net::Ipv6Addr>().ok());
        parsed.ok_or_else(|| "the host in brackets is not an IPv6 address".to_owned())?;
    } else if host.is_empty() {
        return Err("it has no host".into());
    } else if host.contains(':') {
        return Err("an IPv6 host goes in brackets: [::1]:7420".into());
    } else {
        let named = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        if let Some(bad) = host.chars().find(|c| !named(*c)) {
            return Err(format!("{bad:?} cannot be part of a host name"));
        }
    }
    Ok(text.to_owned())
}

/// `host:port` that means one machine.
pub(super) fn dialable(text: &str) -> Result<String, String> {
    let address = address(text)?;
    if is_wildcard(&address) {
        return Err("it means every address of this machine, which others cannot dial".into());
    }
    if port(&address) == Some(0) {
        return Err("port 0 means any free port, which others cannot dial".into());
    }
    Ok(address)
}

/// Whether the host means every address of the machine.
pub(super) fn is_wildcard(address: &str) -> bool {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host.parse::<std::net::IpAddr>()
        .is_ok_and(|ip| ip.is_unspecified())
}

/// Whether two listen addresses cannot be used side by side, as far as the text shows.
pub(super) fn collide(one: &str, other: &str) -> bool {
    let same_port = port(one) == port(other) && port(one) != Some(0);
    same_port && (one == other || is_wildcard(one) || is_wildcard(other))
}

fn port(address: &str) -> Option<u16> {
    let (_, port) = address.rsplit_once(':')?;
    port.parse().ok()
}
