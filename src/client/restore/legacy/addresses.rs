//! Where a worker is reached behind its restore: what is given, and what is in force of the roles that are not.

use std::collections::BTreeMap;

use super::{family::Family, install::ROLES};
use crate::{
    client::{Client, ClientError, Floor, restore::RestoreOptions},
    domain::Addresses,
};

/// The addresses to make known, and what is to be said of those that were not given.
#[derive(Debug, Clone, Default)]
pub(super) struct Merged {
    /// `None`: none was given, so nothing is changed.
    pub(super) endpoint: Option<Addresses>,
    pub(super) warnings: Vec<String>,
}

/// Looks up what is in force: the takeover replaces all roles at once, and one that is not given is not meant to go.
///
/// # Errors
/// As any call; `Refused` when there would be too many roles.
pub(super) async fn merge(
    client: &Client,
    options: &RestoreOptions,
    family: &Family,
) -> Result<Merged, ClientError> {
    let Some(given) = &options.endpoint else {
        return Ok(Merged::default());
    };
    let worker = &options.worker;
    let in_force = client
        .endpoints(None, Some(worker), Floor::Linearizable)
        .await?;
    let in_force = in_force.endpoints.get(worker);
    let known = in_force.map(|endpoint| &endpoint.addresses);
    let mut merged: BTreeMap<String, String> = BTreeMap::new();
    let both = known.into_iter().chain([given]);
    for (role, address) in both.flat_map(Addresses::iter) {
        merged.insert(role.to_owned(), address.to_owned());
    }
    let mut warnings = Vec::new();
    for (role, suffix) in ROLES {
        let file = family.file(suffix);
        warnings.extend(match merged.get(role) {
            _ if given.get(role).is_some() => None,
            Some(address) => Some(format!(
                "no {role} address is given, so {file} holds {address}, which the cluster has: give --{role} if it has moved, too"
            )),
            None => Some(format!(
                "no {role} address is given and the cluster has none, so {file} keeps the one that the worker wrote: give --{role} if it has moved, too"
            )),
        });
    }
    let endpoint = Addresses::new(merged).map_err(|error| ClientError::Refused {
        what: format!("restore worker {worker}"),
        why: error.to_string(),
    })?;
    Ok(Merged {
        endpoint: Some(endpoint),
        warnings,
    })
}
