use super::*;

fn parse(arguments: &[&str]) -> Result<Cli, clap::Error> {
    help::parse(std::iter::once(&"dos-cluster").chain(arguments))
}

#[test]
fn the_command_tree_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn every_command_has_an_example_in_its_help() {
    fn check(command: &clap::Command, path: &str) {
        for child in command
            .get_subcommands()
            .filter(|child| !child.is_hide_set())
        {
            let path = format!("{path} {}", child.get_name());
            let help = child
                .get_after_help()
                .map(ToString::to_string)
                .unwrap_or_default();
            assert!(
                help.contains("Example") && help.contains("dos-cluster "),
                "{path}: {help:?}"
            );
            assert!(child.get_about().is_some(), "{path}");
            check(child, &path);
        }
    }
    check(&Cli::command(), "dos-cluster");
}

/// The examples in the help, as words.
fn examples(command: &clap::Command, found: &mut Vec<Vec<String>>) {
    for child in command.get_subcommands() {
        let help = child
            .get_after_help()
            .map(ToString::to_string)
            .unwrap_or_default();
        let help = help.replace("\\\n", " ");
        for line in help.lines().filter(|line| line.starts_with("  ")) {
            let line = line
                .split(" # ")
                .next()
                .unwrap_or(line)
                .trim_end_matches(" ...");
            let words = line.split(" | ").flat_map(|part| part.split("; "));
            let words = words.map(|part| part.split(" > ").next().unwrap_or(part).trim());
            let ours = words.filter(|part| part.starts_with("dos-cluster "));
            found.extend(ours.map(|part| part.split_whitespace().map(str::to_owned).collect()));
        }
        examples(child, found);
    }
}

#[test]
fn every_example_in_the_help_parses() {
    let mut found = Vec::new();
    examples(&Cli::command(), &mut found);
    assert!(found.len() > 30, "{found:?}");
    for mut words in found {
        words.retain(|word| word != "...");
        if let Err(error) = Cli::try_parse_from(&words) {
            panic!("{words:?}: {error}");
        }
    }
}

#[test]
fn global_options_are_taken_before_and_behind_the_command() {
    for arguments in [
        &[
            "--endpoints",
            "a:1,b:2",
            "-o",
            "json",
            "--timeout",
            "3s",
            "status",
        ][..],
        &[
            "status",
            "--endpoints",
            "a:1, b:2",
            "-o",
            "json",
            "--timeout",
            "3s",
        ],
    ] {
        let context = Context::new(parse(arguments).unwrap().global);
        assert_eq!(context.endpoints, ["a:1", "b:2"]);
        assert_eq!(context.timeout, Duration::from_secs(3));
        assert!(context.output.is_json());
    }
}

#[test]
fn a_wrong_command_line_exits_with_2_and_help_with_0() {
    for wrong in [
        &["nonsense"][..],
        &["journal", "append", "only/worker"],
        &["journal", "read", "a/b/c", "--stale", "--min-index", "3"],
        &["restore", "--job", "j", "--worker", "w"],
        &["member", "remove", "zero"],
        &["status", "--timeout", "10"],
        &["dev", "--nodes", "0"],
        &["checkpoint", "await", "j"],
        &["checkpoint", "line", "j", "--job", "k"],
    ] {
        let error = parse(wrong).unwrap_err();
        assert_eq!(Exit::of_usage(error.exit_code()), Exit::Usage, "{wrong:?}");
    }
    for fine in [&["--help"][..], &["--version"], &["journal", "--help"]] {
        let error = parse(fine).unwrap_err();
        assert_eq!(Exit::of_usage(error.exit_code()), Exit::Done, "{fine:?}");
    }
}

#[test]
fn a_job_is_given_by_its_place_or_by_its_name() {
    for fine in [
        &["checkpoint", "line", "j"][..],
        &["checkpoint", "line", "--job", "j"],
        &["checkpoint", "await", "j", "0:42"],
        &["checkpoint", "await", "--job", "j", "42"],
        &["checkpoint", "await", "42", "--job", "j"],
    ] {
        parse(fine).unwrap();
    }
}
