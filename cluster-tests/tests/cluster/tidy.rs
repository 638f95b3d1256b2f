//! The house keeps its order: imports go down only, and files stay short.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

/// Modules of `src`, by floor.
const FLOORS: [&[&str]; 5] = [
    &["domain", "codec", "pb"],
    &["env", "storage"],
    &["raft"],
    &["node"],
    &["client", "gateway", "cli"],
];
/// Floor 4's client is linked by workers, without floors 1 to 3: of floor 1 it has the door to the outside world only.
const CLIENT_MAY_USE: &[&str] = &["domain", "codec", "pb", "env", "client"];
const LINES_MAX: usize = 800;
/// Tests are lists: a little more is still read with ease.
const TEST_LINES_MAX: usize = 1000;

fn floor(module: &str) -> Option<usize> {
    FLOORS.iter().position(|modules| modules.contains(&module))
}

/// The modules of the crate that a source file names: after `crate::`, also inside braces.
fn modules_used(source: &str) -> BTreeSet<String> {
    let mut used = BTreeSet::new();
    let code: String = source
        .lines()
        .map(without_comment)
        .collect::<Vec<_>>()
        .join("\n");
    for (at, _) in code.match_indices("crate::") {
        let before = code[..at].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '$') {
            continue;
        }
        let rest = &code[at + "crate::".len()..];
        match rest.strip_prefix('{') {
            Some(list) => used.extend(heads(list)),
            None => used.extend(identifier(rest)),
        }
    }
    used
}

fn without_comment(line: &str) -> &str {
    line.split("//").next().unwrap_or_default()
}

fn identifier(text: &str) -> Option<String> {
    let text = text.trim_start();
    let end = text
        .find(|c: char| !(c.is_alphanumeric() || c == '_'))
        .unwrap_or(text.len());
    (end > 0).then(|| text[..end].to_owned())
}

/// The first identifier of each item of a `{...}` list whose opening brace was just read.
fn heads(list: &str) -> Vec<String> {
    let (mut depth, mut start, mut found) = (1, 0, Vec::new());
    for (at, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if (depth == 1 && c == ',') || depth == 0 {
            found.extend(identifier(&list[start..at]));
            start = at + 1;
        }
        if depth == 0 {
            break;
        }
    }
    found
}

/// What is wrong with the imports of one file of `module`.
fn upward(module: &str, source: &str) -> Vec<String> {
    let Some(own) = floor(module) else {
        return Vec::new();
    };
    let used = modules_used(source).into_iter();
    let bad = used.filter(|used| match floor(used) {
        _ if module == "client" => {
            floor(used).is_some() && !CLIENT_MAY_USE.contains(&used.as_str())
        }
        Some(floor) => floor > own,
        None => false,
    });
    bad.map(|used| format!("{module} (floor {own}) uses crate::{used}"))
        .collect()
}

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Tests of a floor may look down from a floor above: the client's are run against real nodes.
fn is_test(path: &Path) -> bool {
    path.iter()
        .any(|part| part == "tests" || part == "tests.rs")
}

#[test]
fn imports_go_down_only_and_no_file_is_too_long() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../src");
    let (mut files, mut faults) = (Vec::new(), Vec::new());
    sources(&root, &mut files);
    assert!(files.len() > 50, "the sources are found: {files:?}");
    let mut floors_seen = BTreeSet::new();
    for path in files {
        let source = std::fs::read_to_string(&path).unwrap();
        let relative = path.strip_prefix(&root).unwrap();
        let first = relative.iter().next().unwrap().to_str().unwrap();
        let module = first.strip_suffix(".rs").unwrap_or(first);
        match floor(module) {
            Some(floor) => drop(floors_seen.insert(floor)),
            None if ["lib", "main", "docs"].contains(&module) => {}
            None => faults.push(format!(
                "src/{}: {module} is on no floor",
                relative.display()
            )),
        }
        if !is_test(relative) {
            let faulty = upward(module, &source).into_iter();
            faults.extend(faulty.map(|fault| format!("src/{}: {fault}", relative.display())));
        }
        let (lines, lines_max) = (
            source.lines().count(),
            if is_test(relative) {
                TEST_LINES_MAX
            } else {
                LINES_MAX
            },
        );
        if lines > lines_max {
            faults.push(format!(
                "src/{}: {lines} lines, at most {lines_max}",
                relative.display()
            ));
        }
    }
    assert_eq!(floors_seen.len(), FLOORS.len(), "every floor is there");
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn an_upward_import_is_found_however_it_is_written() {
    let clean = "use crate::domain::Offset;\n// use crate::node::Node;\nuse crate::{codec::{key, value}, storage::wal};";
    assert_eq!(upward("storage", clean), Vec::<String>::new());
    for planted in [
        "use crate::node::Node;",
        "pub(in crate::node) use crate::{domain, node::{a, b}};",
        "use crate::{\n    codec::{key, value},\n    node,\n};",
        "let x = crate::node::start();",
    ] {
        assert_eq!(upward("storage", planted).len(), 1, "{planted}");
    }
    assert_eq!(
        upward("client", "use crate::{env::fs, storage::wal, raft};").len(),
        2
    );
    assert_eq!(upward("domain", "use crate::env::time;").len(), 1);
}
