//! A file with placeholders, filled with endpoints.

use std::{collections::BTreeSet, fmt};

use super::format::{Endpoints, Rendered};
use crate::domain::{Addresses, Endpoint, WorkerRef};

/// A template's lines. One with a placeholder is there once for each worker that has what it names: `{{job}}`,
/// `{{worker}}`, `{{generation}}`, and for a role `{{ROLE}}`, `{{ROLE.host}}`, `{{ROLE.port}}`.
#[derive(Debug)]
pub(super) struct Template {
    lines: Vec<Vec<Part>>,
}

#[derive(Debug)]
enum Part {
    Text(String),
    Placeholder(Placeholder),
}

/// What is between `{{` and `}}`.
#[derive(Debug)]
struct Placeholder {
    name: String,
    value: Value,
}

#[derive(Debug)]
enum Value {
    Job,
    Worker,
    Generation,
    Address(String),
    Host(String),
    Port(String),
}

/// What is wrong with a template.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {fault}; known are {}", Known(.roles))]
pub(super) struct TemplateError {
    /// Counted from 1.
    line: usize,
    fault: Fault,
    /// The roles that the workers have, if they were looked at.
    roles: BTreeSet<String>,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum Fault {
    #[error("{{{{{rest} is not closed with }}}}")]
    Unclosed { rest: String },
    #[error("{{{{{name}}}}} is no placeholder")]
    Unknown { name: String },
    #[error("{{{{{name}}}}} is of a role that no worker has")]
    NobodyHas { name: String },
}

/// The names that a template may use.
struct Known<'a>(&'a BTreeSet<String>);

impl fmt::Display for Known<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{{{{job}}}}, {{{{worker}}}}, {{{{generation}}}}, {{{{ROLE}}}}, {{{{ROLE.host}}}} and {{{{ROLE.port}}}}"
        )?;
        if self.0.is_empty() {
            return Ok(());
        }
        let roles: Vec<_> = self.0.iter().map(String::as_str).collect();
        write!(f, ", of the roles {}", roles.join(", "))
    }
}

impl Template {
    /// # Errors
    /// When a placeholder is not closed, or names what no worker could ever have.
    pub(super) fn parse(text: &str) -> Result<Self, TemplateError> {
        let numbered = text.split_inclusive('\n').zip(1..);
        let lines = numbered.map(|(line, number)| {
            parts(line).map_err(|fault| TemplateError {
                line: number,
                fault,
                roles: BTreeSet::new(),
            })
        });
        Ok(Self {
            lines: lines.collect::<Result<_, _>>()?,
        })
    }

    /// The lines for these workers. What some of them do not have is skipped, and said.
    ///
    /// # Errors
    /// When a role is named that none of them has.
    pub(super) fn fill(&self, endpoints: &Endpoints) -> Result<Rendered, TemplateError> {
        self.check_roles(endpoints)?;
        let mut rendered = Rendered::default();
        for line in &self.lines {
            let literal = |part: &Part| matches!(part, Part::Text(_));
            if line.iter().all(literal) {
                for part in line {
                    if let Part::Text(text) = part {
                        rendered.text.push_str(text);
                    }
                }
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
        Ok(rendered)
    }

    fn check_roles(&self, endpoints: &Endpoints) -> Result<(), TemplateError> {
        let addresses = endpoints.values().flat_map(|found| found.addresses.iter());
        let roles: BTreeSet<_> = addresses.map(|(role, _)| role.to_owned()).collect();
        for (line, number) in self.lines.iter().zip(1..) {
            let unknown = line.iter().find_map(|part| match part {
                Part::Placeholder(placeholder) => {
                    let role = placeholder.value.role()?;
                    (!roles.contains(role)).then_some(placeholder)
                }
                Part::Text(_) => None,
            });
            if let Some(Placeholder { name, .. }) = unknown {
                return Err(TemplateError {
                    line: number,
                    fault: Fault::NobodyHas { name: name.clone() },
                    roles,
                });
            }
        }
        Ok(())
    }
}

fn parts(line: &str) -> Result<Vec<Part>, Fault> {
    let mut parts = Vec::new();
    let mut rest = line;
    while let Some((before, after)) = rest.split_once("{{") {
        let Some((name, behind)) = after.split_once("}}") else {
            let rest = after.trim_end().to_owned();
            return Err(Fault::Unclosed { rest });
        };
        parts.push(Part::Text(before.to_owned()));
        parts.push(Part::Placeholder(Placeholder::parse(name.trim())?));
        rest = behind;
    }
    parts.push(Part::Text(rest.to_owned()));
    Ok(parts)
}

impl Placeholder {
    fn parse(name: &str) -> Result<Self, Fault> {
        let value = match (name, name.rsplit_once('.')) {
            ("job", _) => Value::Job,
            ("worker", _) => Value::Worker,
            ("generation", _) => Value::Generation,
            (_, Some((role, "host"))) => Value::Host(role.to_owned()),
            (_, Some((role, "port"))) => Value::Port(role.to_owned()),
            (role, _) => Value::Address(role.to_owned()),
        };
        let name = name.to_owned();
        if value.role().is_some_and(|role| !Addresses::may_have(role)) {
            return Err(Fault::Unknown { name });
        }
        Ok(Self { name, value })
    }
}

impl Value {
    fn role(&self) -> Option<&str> {
        match self {
            Self::Job | Self::Worker | Self::Generation => None,
            Self::Address(role) | Self::Host(role) | Self::Port(role) => Some(role),
        }
    }

    fn of(&self, worker: &WorkerRef, endpoint: &Endpoint) -> Option<String> {
        let addresses = &endpoint.addresses;
        match self {
            Self::Job => Some(worker.job.to_string()),
            Self::Worker => Some(worker.worker.to_string()),
            Self::Generation => Some(endpoint.generation.to_string()),
            Self::Address(role) => addresses.get(role).map(ToOwned::to_owned),
            Self::Host(role) => Some(addresses.host_and_port(role)?.0.to_owned()),
            Self::Port(role) => Some(addresses.host_and_port(role)?.1.to_string()),
        }
    }
}

/// The line for one worker; an error is the placeholder that it has nothing for.
fn filled<'a>(
    line: &'a [Part],
    worker: &WorkerRef,
    endpoint: &Endpoint,
) -> Result<String, &'a str> {
    let mut text = String::new();
    for part in line {
        match part {
            Part::Text(part) => text.push_str(part),
            Part::Placeholder(placeholder) => {
                let value = placeholder.value.of(worker, endpoint);
                text.push_str(&value.ok_or(placeholder.name.as_str())?);
            }
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::endpoint::testing::endpoint;

    fn endpoints() -> Endpoints {
        let both = [("control", "h:1"), ("data", "[::1]:2")];
        [endpoint("j/w1", &both), endpoint("j/w2", &both[..1])].into()
    }

    #[test]
    fn a_line_is_there_once_for_each_worker_that_can_fill_it() {
        let text = "# head }}\n{{ worker }}={{control.host}}/{{job}}@{{generation}}\n{{data.port}} {{data}}\nend";
        let rendered = Template::parse(text).unwrap().fill(&endpoints()).unwrap();
        let wanted = "# head }}\nw1=h/j@3\nw2=h/j@3\n2 [::1]:2\nend";
        assert_eq!(rendered.text, wanted);
        let skipped = "j/w2 has no \"data.port\", which the template names";
        assert_eq!(rendered.skipped, [skipped]);
    }

    #[test]
    fn a_placeholder_that_is_not_closed_or_that_nobody_could_fill_is_an_error() {
        let known = "; known are {{job}}, {{worker}}, {{generation}}, {{ROLE}}, {{ROLE.host}} and {{ROLE.port}}";
        let table = [
            ("a\nb {{worker\n", "line 2: {{worker is not closed with }}"),
            ("{{worker }\n}}", "line 1: {{worker } is not closed with }}"),
            ("{{Worker}}", "line 1: {{Worker}} is no placeholder"),
            (
                "\n\n{{ control.hots }}",
                "line 3: {{control.hots}} is no placeholder",
            ),
            ("{{}}", "line 1: {{}} is no placeholder"),
            ("{{a.b.host}}", "line 1: {{a.b.host}} is no placeholder"),
        ];
        for (text, wanted) in table {
            let error = Template::parse(text).unwrap_err().to_string();
            assert_eq!(error, format!("{wanted}{known}"), "{text:?}");
        }
    }

    #[test]
    fn a_role_that_none_of_the_workers_has_is_an_error_that_says_which_there_are() {
        let template = Template::parse("{{worker}}\n{{contrl.host}}\n").unwrap();
        let error = template.fill(&endpoints()).unwrap_err().to_string();
        let wanted = "line 2: {{contrl.host}} is of a role that no worker has; known are ";
        assert!(error.starts_with(wanted), "{error}");
        assert!(error.ends_with(", of the roles control, data"), "{error}");
    }
}
