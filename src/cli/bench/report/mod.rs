//! `--report`: the lines of earlier runs as a page with charts, which needs nothing but a browser. Lines of other systems that have
//! the same names fit in.

mod chart;

use std::{fmt::Write, path::Path};

use serde_json::Value;

use crate::{
    cli::exit::{self, Failure},
    env::fs,
};
use chart::{Axis, bars, curves, escape, figure};

const STYLE: &str = "body{font:15px system-ui,sans-serif;margin:2em;max-width:60em;color:#222;background:#fff}\
    table{border-collapse:collapse;margin:1em 0;font-size:13px}\
    th,td{text-align:left;padding:.25em .8em .25em 0;border-bottom:1px solid #ddd}\
    svg{display:block;margin:1em 0;max-width:100%}\
    svg text{font:12px system-ui,sans-serif;dominant-baseline:middle;fill:#222}\
    svg text.name{text-anchor:end}svg text.tick{text-anchor:middle}\
    svg line{stroke:#ddd}svg polyline{fill:none;stroke-width:2}";

/// What is charted of all runs that have it: a field, what it is, and what it says.
const CHARTS: [(&str, &str, &str); 4] = [
    (
        "mb_s",
        "Throughput, MB/s",
        "MB are millions of bytes of payload.",
    ),
    (
        "ops_s",
        "Operations a second",
        "Appends that a majority has synced; in C1 checkpoints.",
    ),
    (
        "server_cpu_s_per_gb",
        "CPU seconds of all servers for a GB",
        "A GB is a thousand million bytes of payload.",
    ),
    (
        "device_write_per_byte",
        "Bytes written to the disk for a byte of payload",
        "Three copies on one disk make 3 the least.",
    ),
];

/// Single figures of a run, as a table has them.
const COLUMNS: [&str; 15] = [
    "writers",
    "window",
    "payload",
    "journal_bytes",
    "ops_s",
    "mb_s",
    "p50_us",
    "p99_us",
    "max_us",
    "server_cpu_s_per_gb",
    "device_write_per_byte",
    "other_cpu_s",
    "next_ack_ms",
    "lost_bytes",
    "errors",
];

/// The page of the runs in a file.
pub(super) fn of_file(path: &Path) -> Result<String, Failure> {
    let bytes = fs::read(path).map_err(|error| exit::cannot("read", path, &error))?;
    let text = String::from_utf8_lossy(&bytes);
    let mut runs = Vec::new();
    for (index, line) in text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.is_empty())
    {
        runs.push(serde_json::from_str(line).map_err(|error| {
            let (number, path) = (index + 1, path.display());
            Failure::error(format!("cannot use line {number} of {path}: {error}"))
                .try_next("a file of what `dos-cluster bench` printed to stdout")
        })?);
    }
    Ok(page(&runs))
}

fn page(runs: &[Value]) -> String {
    let mut page = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>dos-cluster bench</title>\
         <style>{STYLE}</style>\n<h1>dos-cluster bench</h1>\n"
    );
    let debug = runs.iter().any(|run| run["debug_build"] == true);
    if debug {
        page.push_str(
            "<p><strong>Built without optimisation: the figures say nothing.</strong></p>\n",
        );
    }
    let (limits, runs): (Vec<&Value>, Vec<&Value>) =
        runs.iter().partition(|run| run["peer"] == "limit");
    for limit in limits {
        page.push_str(&machine(limit));
    }
    let (growing, single): (Vec<&Value>, Vec<&Value>) =
        runs.iter().partition(|run| run["workload"] == "S1");
    page.push_str(&latencies(&single));
    for (field, title, note) in CHARTS {
        let rows: Vec<_> = single
            .iter()
            .filter_map(|run| Some((name(run), run[field].as_f64()?)))
            .collect();
        if !rows.is_empty() {
            section(&mut page, title, note, &bars(&rows));
        }
    }
    page.push_str(&kills(&single));
    page.push_str(&growth(&growing));
    page.push_str(&table(&runs));
    page.push_str("</html>\n");
    page
}

fn section(page: &mut String, title: &str, note: &str, content: &str) {
    let _ = write!(
        page,
        "<h2>{}</h2>\n<p>{}</p>\n{content}",
        escape(title),
        escape(note)
    );
}

/// What a run is called beside others.
fn name(run: &Value) -> String {
    let words = ["peer", "workload", "how", "from", "cache"];
    let words = words.iter().filter_map(|field| run[*field].as_str());
    words
        .filter(|word| *word != "dos-cluster")
        .collect::<Vec<_>>()
        .join(" ")
}

/// What the machine can do, field by field.
fn machine(limit: &Value) -> String {
    let mut rows = String::new();
    let mut row = |name: &str, value: String| {
        let _ = write!(rows, "<tr><th>{}</th><td>{value}</td></tr>", escape(name));
    };
    for field in [
        "sync_overwrite_p50_us",
        "sync_grow_p50_us",
        "grpc_p50_us",
        "loopback_copy_mb_s",
    ] {
        row(field, limit[field].as_f64().map_or("-".to_owned(), figure));
    }
    for log in limit["three_logs"].as_array().into_iter().flatten() {
        let bytes = log["bytes_per_sync"].as_u64().unwrap_or_default();
        let rate = log["mb_s"].as_f64().map_or("-".to_owned(), figure);
        row(
            &format!("three logs, MB/s, synced every {bytes} bytes"),
            rate,
        );
    }
    let mut page = String::new();
    let note = "Measured in the same run; files as the servers have them.";
    section(
        &mut page,
        "What the machine can do",
        note,
        &format!("<table>{rows}</table>\n"),
    );
    page
}

/// How many took how long: the rare ones get as much room as the common ones.
fn latencies(runs: &[&Value]) -> String {
    let named = runs.iter().filter_map(|run| {
        let points = run["distribution_us"].as_array()?.iter();
        let points = points.filter_map(|point| {
            let (percent, micros) = (point[0].as_f64()?, point[1].as_f64()?);
            (percent < 100.0).then(|| (rarity(percent), (micros.max(1.0) / 1e3).log10()))
        });
        Some((name(run), points.collect::<Vec<_>>()))
    });
    let named: Vec<_> = named.collect();
    let mut page = String::new();
    if named.is_empty() {
        return page;
    }
    let ticks = [0.0, 50.0, 90.0, 99.0, 99.9, 99.99];
    let ticks = ticks.map(|percent| (rarity(percent), format!("{percent} %")));
    let x = Axis::of("appends that took no longer", ticks.to_vec());
    let points = named.iter().flat_map(|(_, points)| points);
    let y = Axis::logarithmic("ms", points.map(|point| point.1));
    let note = "From the append to its acknowledgement, which says that a majority has synced it.";
    section(&mut page, "Latency", note, &curves(&x, &y, &named));
    page
}

/// 0 for all, 1 for the slowest tenth, 2 for the slowest hundredth.
fn rarity(percent: f64) -> f64 {
    -(1.0 - percent / 100.0).log10()
}

/// How long nobody got an acknowledgement, each time that a leader was killed.
fn kills(runs: &[&Value]) -> String {
    let mut rows = Vec::new();
    let mut lost = 0;
    for run in runs {
        let rounds = run["next_ack_ms_all"].as_array().into_iter().flatten();
        let rounds = rounds.filter_map(Value::as_f64).zip(1..);
        rows.extend(rounds.map(|(took, round)| (format!("{} {round}", name(run)), took)));
        lost += run["lost_bytes"].as_u64().unwrap_or_default();
    }
    let mut page = String::new();
    if !rows.is_empty() {
        let title = "Milliseconds from the kill of the leader to the next acknowledgement";
        let note = format!("Of what was acknowledged, {lost} bytes were lost.");
        section(&mut page, title, &note, &bars(&rows));
    }
    page
}

/// What an operation costs as the work grows.
fn growth(runs: &[&Value]) -> String {
    let cost = |run: &Value, size: f64| {
        let micros = run["server_cpu_us_per_op"].as_f64()?;
        Some((size.log2(), micros))
    };
    let mut page = String::new();
    let (journals, writers): (Vec<&Value>, Vec<&Value>) = runs
        .iter()
        .partition(|run| run["journal_bytes"].as_u64().is_some());
    let by = |runs: Vec<&Value>, field: &str, unit: f64| -> Vec<(f64, f64)> {
        let points = runs.into_iter();
        let points = points.filter_map(|run| cost(run, run[field].as_f64()? / unit));
        points.collect()
    };
    for (title, axis, points) in [
        (
            "Cost of an append by the number of writers",
            "writers",
            by(writers, "writers", 1.0),
        ),
        (
            "Cost of an append by the size of the journal",
            "MiB in the journal",
            by(journals, "journal_bytes", f64::from(1 << 20)),
        ),
    ] {
        if points.is_empty() {
            continue;
        }
        let ticks = points.iter().map(|(size, _)| (*size, figure(size.exp2())));
        let x = Axis::of(axis, ticks.collect());
        let highest = points.iter().map(|point| point.1).fold(1.0, f64::max);
        let ticks = (0..=4).map(|quarter| f64::from(quarter) / 4.0 * highest);
        let y = Axis::of("us", ticks.map(|micros| (micros, figure(micros))).collect());
        let note = "CPU microseconds of all servers for one append.";
        section(
            &mut page,
            title,
            note,
            &curves(&x, &y, &[(axis.to_owned(), points)]),
        );
    }
    page
}

/// Every run with its figures.
fn table(runs: &[&Value]) -> String {
    let mut rows = String::from("<tr><th>run</th>");
    for column in COLUMNS {
        let _ = write!(rows, "<th>{column}</th>");
    }
    for run in runs {
        let _ = write!(rows, "</tr>\n<tr><td>{}</td>", escape(&name(run)));
        for column in COLUMNS {
            let shown = run[column].as_f64().map_or(String::new(), figure);
            let _ = write!(rows, "<td>{shown}</td>");
        }
    }
    let mut page = String::new();
    let content = format!("<table>{rows}</tr></table>\n");
    section(&mut page, "All runs", "us are microseconds.", &content);
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_shows_what_the_lines_have() {
        let runs: Vec<Value> = [
            r#"{"peer":"limit","workload":"probe","grpc_p50_us":100,"three_logs":[{"bytes_per_sync":4096,"mb_s":40.0}]}"#,
            r#"{"peer":"dos-cluster","workload":"W3","mb_s":80.5,"ops_s":20000,"distribution_us":[[0.0,900],[50.0,1800],[100.0,9000]]}"#,
            r#"{"peer":"other <&>","workload":"W3","mb_s":50.0}"#,
            r#"{"peer":"dos-cluster","workload":"R1","how":"restore","from":"all","cache":"cold","mb_s":300.0}"#,
            r#"{"peer":"dos-cluster","workload":"F1","next_ack_ms_all":[900.0,null,1100.5],"lost_bytes":0}"#,
            r#"{"peer":"dos-cluster","workload":"S1","writers":1,"server_cpu_us_per_op":50.0}"#,
            r#"{"peer":"dos-cluster","workload":"S1","writers":2,"server_cpu_us_per_op":40.0}"#,
        ]
        .iter()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
        let page = page(&runs);
        for shown in [
            "What the machine can do",
            "synced every 4096 bytes",
            "Throughput",
            "R1 restore all cold",
            "other &lt;&amp;&gt; W3",
            "F1 2",
            "acknowledged, 0 bytes were lost",
            "by the number of writers",
            "80.5",
        ] {
            assert!(page.contains(shown), "{shown}: {page}");
        }
        assert!(!page.contains("by the size of the journal"));
        assert!(!page.contains("NaN") && !page.contains("inf"), "{page}");
        assert_eq!(page.matches("<svg").count(), page.matches("</svg>").count());
    }

    #[test]
    fn a_file_that_holds_something_else_is_refused_with_its_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("results");
        let file = fs::open_or_create(&path).unwrap();
        fs::write_all_at(&file, b"{}\nno json\n", 0).unwrap();
        let failure = of_file(&path).unwrap_err();
        assert!(
            failure.message.contains("line 2 of "),
            "{}",
            failure.message
        );
    }
}
