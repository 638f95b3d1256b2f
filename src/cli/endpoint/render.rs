//! Endpoints into files, replaced all at once and only when they change.

use std::path::{Path, PathBuf};

use clap::Args;

use super::{
    super::{
        Context,
        exit::{Failure, cannot},
    },
    format::{self, Endpoints, Format, Rendered},
};
use crate::{env::fs, storage::crashsafe};

/// What is written, and where.
#[derive(Debug, Clone, Args)]
pub(super) struct RenderArguments {
    /// As what: wallaroo writes APP-WORKER.tcp-control and .tcp-data into the directory --out; a line of a template with {{worker}}, {{job}}, {{generation}}, {{ROLE}}, {{ROLE.host}} or {{ROLE.port}} is repeated for each worker
    #[arg(long, value_name = "wallaroo|env|json|hosts|template=FILE")]
    format: Option<Format>,
    /// The file, or for wallaroo the directory; without it: stdout
    #[arg(long, value_name = "PATH", requires = "format")]
    out: Option<PathBuf>,
    /// For wallaroo: the application's name
    #[arg(long, value_name = "APP")]
    prefix: Option<String>,
}

impl RenderArguments {
    pub(super) fn is_given(&self) -> bool {
        self.format.is_some()
    }

    /// Writes what is to be written; answers the files that have changed.
    pub(super) fn write(
        &self,
        context: &Context,
        endpoints: &Endpoints,
    ) -> Result<Vec<PathBuf>, Failure> {
        let Some(format) = &self.format else {
            return Err(Failure::usage("cannot render endpoints: name a --format"));
        };
        let rendered = match format {
            Format::Wallaroo => return self.write_wallaroo(context, endpoints),
            Format::Env => format::env(endpoints),
            Format::Hosts => format::hosts(endpoints),
            Format::Json => format::json(endpoints)?,
            Format::Template(path) => {
                let template = fs::read(path).map_err(|e| cannot("read", path, &e))?;
                let template = String::from_utf8(template).map_err(|_| {
                    Failure::error(format!("cannot use {}: it is not UTF-8", path.display()))
                })?;
                format::template(&template, endpoints)
            }
        };
        let Rendered { text, skipped } = rendered;
        for skipped in skipped {
            context.output.talk(&format!("note: skipped {skipped}"));
        }
        let Some(out) = &self.out else {
            context.output.raw(text.as_bytes())?;
            return Ok(Vec::new());
        };
        let changed = replace(out, text.as_bytes())?;
        Ok(changed.then(|| out.clone()).into_iter().collect())
    }

    fn write_wallaroo(
        &self,
        context: &Context,
        endpoints: &Endpoints,
    ) -> Result<Vec<PathBuf>, Failure> {
        let (Some(out), Some(prefix)) = (&self.out, &self.prefix) else {
            let why = "cannot render as wallaroo: name the directory with --out, and the application with --prefix";
            return Err(Failure::usage(why));
        };
        if prefix.contains(['/', '\0']) {
            return Err(Failure::usage(
                "cannot use --prefix: it must not contain '/'",
            ));
        }
        let mut changed = Vec::new();
        for (worker, endpoint) in endpoints {
            for role in ["control", "data"] {
                let Some(text) = format::tcp_file(endpoint, role) else {
                    let note = format!("note: skipped {worker}: it has no address in role {role}");
                    context.output.talk(&note);
                    continue;
                };
                let path = out.join(format!("{prefix}-{}.tcp-{role}", worker.worker));
                if replace(&path, text.as_bytes())? {
                    changed.push(path);
                }
            }
        }
        Ok(changed)
    }
}

/// Replaces a file's content all at once, unless it is there already; whether it was not.
fn replace(path: &Path, content: &[u8]) -> Result<bool, Failure> {
    if fs::read(path).is_ok_and(|found| found == content) {
        return Ok(false);
    }
    crashsafe::replace(path, content)
        .map_err(|error| Failure::error(format!("cannot write {}: {error}", path.display())))?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_only_when_its_content_changes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out");
        assert!(replace(&path, b"a").unwrap());
        assert!(!replace(&path, b"a").unwrap());
        assert!(replace(&path, b"b").unwrap());
        assert_eq!(fs::read(&path).unwrap(), b"b");
        assert!(replace(&dir.path().join("no/out"), b"a").is_err());
    }
}
