//! Where a worker is reached: its addresses by role, and their generation.

use std::collections::BTreeMap;

use super::limits::{ADDRESS_BYTES_MAX, ROLE_BYTES_MAX, ROLES_PER_WORKER_MAX};

/// The addresses of a worker, each `HOST:PORT` in a role of its own: 1 to [`ROLES_PER_WORKER_MAX`] of them.
///
/// A role is a free name, such as `control` or `data`: 1 to [`ROLE_BYTES_MAX`] bytes of `a`-`z`, `0`-`9`, `_` and `-`.
/// An address has at most [`ADDRESS_BYTES_MAX`] bytes, none of them blank or a control character.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addresses(BTreeMap<String, String>);

/// Why something is no set of addresses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Nothing to reach the worker at.
    #[error("no address is given: give at least one, as ROLE=HOST:PORT")]
    Empty,
    /// More than a worker may have.
    #[error("{count} addresses are too many: at most {ROLES_PER_WORKER_MAX} are allowed")]
    TooMany {
        /// How many.
        count: usize,
    },
    /// Not a name of a role.
    #[error("{role:?} is no role: use 1 to {ROLE_BYTES_MAX} of a-z, 0-9, '_' and '-'")]
    BadRole {
        /// What was given, its first bytes only.
        role: String,
    },
    /// Not a `HOST:PORT`.
    #[error(
        "{address:?} is no address of role {role}: write it as HOST:PORT, with a port from 1 to 65535 and at most {ADDRESS_BYTES_MAX} bytes"
    )]
    BadAddress {
        /// The role.
        role: String,
        /// What was given, its first bytes only.
        address: String,
    },
}

/// The beginning of a text that may be of any length.
fn beginning(text: &str) -> String {
    text[..text.floor_char_boundary(ADDRESS_BYTES_MAX)].to_owned()
}

fn is_role(role: &str) -> bool {
    let allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-');
    (1..=ROLE_BYTES_MAX).contains(&role.len()) && role.bytes().all(allowed)
}

/// The host, without the brackets of an IPv6 address, and the port.
fn split(address: &str) -> Option<(&str, u16)> {
    let (host, port) = address.rsplit_once(':')?;
    let digits = (1..=5).contains(&port.len()) && port.bytes().all(|byte| byte.is_ascii_digit());
    let port = port.parse().ok().filter(|port| digits && *port > 0)?;
    let bracketed = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    // A colon outside of brackets leaves open where the port begins.
    let host = match bracketed {
        Some(inside) => inside,
        None if host.contains([':', '[', ']']) => return None,
        None => host,
    };
    (!host.is_empty()).then_some((host, port))
}

fn is_address(address: &str) -> bool {
    let printable = !address.contains(|c: char| c.is_whitespace() || c.is_control());
    address.len() <= ADDRESS_BYTES_MAX && printable && split(address).is_some()
}

impl Addresses {
    /// Checks addresses by role.
    ///
    /// # Errors
    /// When there is none, there are too many, or a role or an address is malformed.
    pub fn new(by_role: BTreeMap<String, String>) -> Result<Self, AddressError> {
        if by_role.is_empty() {
            return Err(AddressError::Empty);
        }
        if by_role.len() > ROLES_PER_WORKER_MAX {
            return Err(AddressError::TooMany {
                count: by_role.len(),
            });
        }
        for (role, address) in &by_role {
            if !is_role(role) {
                return Err(AddressError::BadRole {
                    role: beginning(role),
                });
            }
            if !is_address(address) {
                return Err(AddressError::BadAddress {
                    role: role.clone(),
                    address: beginning(address),
                });
            }
        }
        Ok(Self(by_role))
    }

    /// Each role with its address, by role.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .map(|(role, address)| (role.as_str(), address.as_str()))
    }

    /// Whether any worker could have an address in this role.
    #[must_use]
    pub fn may_have(role: &str) -> bool {
        is_role(role)
    }

    /// The address in a role.
    #[must_use]
    pub fn get(&self, role: &str) -> Option<&str> {
        self.0.get(role).map(String::as_str)
    }

    /// Host (without the brackets of an IPv6 address) and port in a role.
    #[must_use]
    pub fn host_and_port(&self, role: &str) -> Option<(&str, u16)> {
        self.get(role).and_then(split)
    }
}

/// The addresses in force, in the replicated record of a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// How many times the addresses were set, this time included.
    pub generation: u64,
    /// The addresses.
    pub addresses: Addresses,
    /// Who set them, in its own words; for people.
    pub by: String,
    /// The proposer's wall clock, in milliseconds since 1970; for people.
    pub at_unix_ms: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(role: &str, address: &str) -> Result<Addresses, AddressError> {
        Addresses::new([(role.to_owned(), address.to_owned())].into())
    }

    #[test]
    fn an_address_is_a_host_and_a_port() {
        let table = [
            ("10.0.0.7:3131", ("10.0.0.7", 3131)),
            ("[::1]:65535", ("::1", 65535)),
            ("w1.example:1", ("w1.example", 1)),
        ];
        for (address, parts) in table {
            let addresses = one("control", address).unwrap();
            assert_eq!(addresses.get("control"), Some(address));
            assert_eq!(addresses.host_and_port("control"), Some(parts));
        }
        let long = format!("{}:1", "h".repeat(ADDRESS_BYTES_MAX - 1));
        let bad = [
            "", "h", "h:", ":1", "h:0", "h:65536", "h:+1", "h 1:1", "h\n:1", "::1:1", "[]:1",
            "h:1\n", &long,
        ];
        for bad in bad {
            assert!(
                matches!(one("control", bad), Err(AddressError::BadAddress { .. })),
                "{bad:?}"
            );
        }
        assert!(one("control", &long[1..]).is_ok());
    }

    #[test]
    fn a_role_is_a_short_plain_name() {
        let longest = "r".repeat(ROLE_BYTES_MAX);
        for good in ["control", "data-2", "a_b", &longest] {
            assert!(one(good, "h:1").is_ok(), "{good}");
            assert!(Addresses::may_have(good), "{good}");
        }
        for bad in ["", "Data", "a b", "ä", "a=b", &format!("{longest}r")] {
            assert!(
                matches!(one(bad, "h:1"), Err(AddressError::BadRole { .. })),
                "{bad:?}"
            );
            assert!(!Addresses::may_have(bad), "{bad:?}");
        }
    }

    #[test]
    fn there_is_at_least_one_address_and_not_too_many() {
        let many = |count: usize| {
            let role = |number| (format!("r{number}"), "h:1".to_owned());
            Addresses::new((0..count).map(role).collect())
        };
        assert_eq!(many(0), Err(AddressError::Empty));
        assert!(many(ROLES_PER_WORKER_MAX).is_ok());
        let count = ROLES_PER_WORKER_MAX + 1;
        assert_eq!(many(count), Err(AddressError::TooMany { count }));
    }
}
