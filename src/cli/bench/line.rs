//! One run as it is printed: a line of JSON for programs, whose names are shared with the measurements of other systems, and a row of
//! a table for people.

use serde::Serialize;

use super::{cluster::Cluster, workload::Name};
use crate::{
    cli::{
        exit::Failure,
        output::{Output, table},
    },
    env::time,
};

/// What every line begins with.
#[derive(Debug, Serialize)]
pub(super) struct Head {
    peer: &'static str,
    version: &'static str,
    fsync_at_quorum: bool,
    /// Built without optimisation: the figures say nothing.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    debug_build: bool,
    workload: Name,
    t: u64,
    nodes: usize,
}

impl Head {
    pub(super) fn new(workload: Name, cluster: &Cluster) -> Self {
        Self {
            peer: "dos-cluster",
            version: env!("CARGO_PKG_VERSION"),
            fsync_at_quorum: true,
            debug_build: cfg!(debug_assertions),
            workload,
            t: time::unix_millis() / 1000,
            nodes: cluster.endpoints.len(),
        }
    }

    pub(super) fn name(&self) -> String {
        format!("{:?}", self.workload)
    }
}

/// What can be printed.
pub(super) trait Printed: Serialize {
    /// The columns of its table.
    const COLUMNS: &'static [&'static str];

    /// Its row in it.
    fn row(&self) -> Vec<String>;
}

/// A run, printed.
#[derive(Debug)]
pub(super) struct Line {
    json: String,
    columns: &'static [&'static str],
    row: Vec<String>,
}

impl Line {
    pub(super) fn of<P: Printed>(printed: &P) -> Result<Self, Failure> {
        let json = serde_json::to_string(printed);
        Ok(Self {
            json: json.map_err(|error| Failure::error(format!("cannot write JSON: {error}")))?,
            columns: P::COLUMNS,
            row: printed.row(),
        })
    }

    /// The line to stdout, at once.
    pub(super) fn print(&self, output: &Output) -> Result<(), Failure> {
        output.raw(format!("{}\n", self.json).as_bytes())
    }

    /// The rows to stderr: a table for each kind, in the order in which the kinds came.
    pub(super) fn tables(lines: &[Self], output: &Output) {
        let same = |a: &Self, b: &Self| a.columns == b.columns;
        for kind in lines.chunk_by(same) {
            let rows: Vec<_> = kind.iter().map(|line| line.row.clone()).collect();
            if let Some(first) = kind.first() {
                output.talk(&table(first.columns, &rows));
            }
        }
    }
}

/// Three digits of milliseconds.
pub(super) fn millis(micros: u64) -> String {
    format!("{:.2}", float(micros) / 1e3)
}

#[expect(clippy::cast_precision_loss, reason = "figures of three digits")]
pub(super) fn float(count: u64) -> f64 {
    count as f64
}

pub(super) fn round(figure: f64, digits: i32) -> f64 {
    let scale = 10f64.powi(digits);
    (figure * scale).round() / scale
}
