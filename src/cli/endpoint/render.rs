//! Endpoints into files.

use std::path::{Path, PathBuf};

use clap::Args;

use super::{
    super::{
        Context,
        exit::{Failure, cannot},
    },
    format::{self, Endpoints, Format, Rendered},
    replace::replace,
    template::{Template, TemplateError},
};
use crate::env::fs;

/// What is written, and where.
#[derive(Debug, Clone, Args)]
pub(super) struct RenderArguments {
    /// As what: wallaroo writes APP-WORKER.tcp-control and .tcp-data into the directory --out; a line of a template with {{worker}}, {{job}}, {{generation}}, {{ROLE}}, {{ROLE.host}} or {{ROLE.port}} is repeated for each worker that has it, and any other name is an error
    #[arg(long, value_name = "wallaroo|env|json|hosts|template=FILE")]
    format: Option<Format>,
    /// The file, or for wallaroo the directory. Without it `render` writes to stdout; `watch` needs it, for whole documents on stdout have no end that a reader could tell. An existing file keeps its owner and mode
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

    /// Whether it can be carried out at all: what is said here need not wait for the cluster. With `again_and_again` it is
    /// written more than once.
    pub(super) fn check(&self, again_and_again: bool) -> Result<(), Failure> {
        let Some(format) = &self.format else {
            return Ok(());
        };
        if *format == Format::Wallaroo {
            self.wallaroo()?;
        }
        if again_and_again && self.out.is_none() {
            let why = "cannot watch with --format: name the file to be written with --out";
            let step = "without --format each change is a line on stdout, with -o json an object";
            return Err(Failure::usage(why).try_next(step));
        }
        if let Format::Template(path) = format {
            template(path)?;
        }
        Ok(())
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
            Format::Env => format::env(endpoints)?,
            Format::Hosts => format::hosts(endpoints),
            Format::Json => format::json(endpoints)?,
            Format::Template(path) => {
                let filled = template(path)?.fill(endpoints);
                filled.map_err(|error| of_template(path, &error))?
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

    /// The directory, and the application's name.
    fn wallaroo(&self) -> Result<(&Path, &str), Failure> {
        let (Some(out), Some(prefix)) = (&self.out, &self.prefix) else {
            let why = "cannot render as wallaroo: name the directory with --out, and the application with --prefix";
            return Err(Failure::usage(why));
        };
        if prefix.contains(['/', '\0']) {
            return Err(Failure::usage(
                "cannot use --prefix: it must not contain '/'",
            ));
        }
        Ok((out, prefix))
    }

    fn write_wallaroo(
        &self,
        context: &Context,
        endpoints: &Endpoints,
    ) -> Result<Vec<PathBuf>, Failure> {
        let (out, prefix) = self.wallaroo()?;
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

/// The template in a file.
fn template(path: &Path) -> Result<Template, Failure> {
    let text = fs::read(path).map_err(|e| cannot("read", path, &e))?;
    let text = String::from_utf8(text)
        .map_err(|_| Failure::error(format!("cannot use {}: it is not UTF-8", path.display())))?;
    Template::parse(&text).map_err(|error| of_template(path, &error))
}

fn of_template(path: &Path, error: &TemplateError) -> Failure {
    Failure::error(format!("cannot use template {}: {error}", path.display()))
}
