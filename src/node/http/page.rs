//! The status page: the node and its cluster at a glance, without scripts.

use std::fmt::Write;

use super::checks;
use crate::node::shared::Shared;

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

fn row(page: &mut String, name: &str, value: impl std::fmt::Display) {
    let _ = write!(
        page,
        "<tr><th>{}</th><td>{}</td></tr>",
        escape(name),
        escape(&value.to_string())
    );
}

/// The page.
pub(super) fn render(shared: &Shared) -> String {
    let mut page = String::from(
        "<!doctype html><meta charset=utf-8><meta http-equiv=refresh content=2><title>dos-cluster</title>\
         <style>body{font:15px system-ui;margin:2em;max-width:60em}table{border-collapse:collapse;margin:1em 0}\
         th,td{text-align:left;padding:.25em 1em .25em 0;border-bottom:1px solid #ddd}th{font-weight:600}</style>",
    );
    let identity = shared.identity();
    let name = identity.map_or_else(
        || "a waiting node".to_owned(),
        |identity| identity.node.to_string(),
    );
    let _ = write!(page, "<h1>dos-cluster: {}</h1><table>", escape(&name));
    if let Some(identity) = identity {
        row(&mut page, "cluster", identity.cluster);
    }
    row(&mut page, "clients", &shared.addresses.client);
    row(&mut page, "members", &shared.addresses.peer);
    row(&mut page, "version", env!("CARGO_PKG_VERSION"));
    if let Ok(running) = shared.running() {
        let group = running.router.group();
        let status = group.status();
        row(&mut page, "role", format!("{:?}", status.role));
        row(&mut page, "term", status.term);
        row(
            &mut page,
            "leader",
            status
                .leader
                .map_or_else(|| "none known".to_owned(), |leader| leader.to_string()),
        );
        row(&mut page, "log index", status.last_log_index);
        row(&mut page, "applied index", group.view().applied_index());
        page.push_str(
            "</table><h2>Members</h2><table><tr><th>node<th>clients<th>vote<th>log index</tr>",
        );
        for member in &status.members {
            let index = member
                .matched_index
                .map_or_else(String::new, |index| index.to_string());
            let vote = if member.voter { "voter" } else { "learner" };
            let (node, address) = (member.member.node, escape(&member.member.client_address));
            let _ = write!(
                page,
                "<tr><td>{node}<td>{address}<td>{vote}<td>{index}</tr>"
            );
        }
        page.push_str(
            "</table><h2>Workers</h2><table><tr><th>worker<th>epoch<th>journals<th>checkpoint</tr>",
        );
        let state = group.view().read();
        for worker in state.workers().take(200) {
            let newest = worker
                .newest_checkpoint()
                .map_or_else(String::new, |newest| newest.id.to_string());
            let (name, journals) = (escape(&worker.name.to_string()), worker.journals.len());
            let _ = write!(
                page,
                "<tr><td>{name}<td>{}<td>{journals}<td>{newest}</tr>",
                worker.epoch
            );
        }
    }
    let _ = write!(
        page,
        "</table><h2>Ready?</h2><pre>{}</pre>",
        escape(&checks::text(&checks::run(shared)))
    );
    page
}
