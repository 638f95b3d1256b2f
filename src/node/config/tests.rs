use std::path::Path;

use super::*;

fn file(text: &str) -> ConfigLayer {
    ConfigLayer::from_toml(Path::new("dos.toml"), text)
}

fn variables(pairs: &[(&str, &str)]) -> ConfigLayer {
    let owned = pairs
        .iter()
        .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()));
    ConfigLayer::from_environment(owned)
}

fn flags(pairs: &[(&str, &str)]) -> ConfigLayer {
    ConfigLayer::from_flags(pairs.iter().map(|(k, v)| (*k, Some((*v).to_owned()))))
}

fn faults(layers: impl IntoIterator<Item = ConfigLayer>) -> Vec<String> {
    let faults = NodeConfig::from_layers(layers).unwrap_err().0;
    faults.iter().map(ToString::to_string).collect()
}

#[test]
fn without_any_source_the_defaults_hold_and_are_valid() {
    let config = NodeConfig::from_layers([]).unwrap();
    assert_eq!(config, NodeConfig::default());
    assert_eq!(config.client_address(), "127.0.0.1:7420");
}

#[test]
fn a_flag_beats_the_environment_which_beats_the_file_which_beats_the_default() {
    let config = NodeConfig::from_layers([
        file("heartbeat = '50ms'\nrequest_timeout = '5s'\nsegment_bytes = '8MiB'\n"),
        variables(&[
            ("DOS_CLUSTER_HEARTBEAT", "60ms"),
            ("DOS_CLUSTER_REQUEST_TIMEOUT", "6s"),
        ]),
        flags(&[("heartbeat", "70ms")]),
    ])
    .unwrap();
    assert_eq!(config.heartbeat, Duration::from_millis(70));
    assert_eq!(config.request_timeout, Duration::from_secs(6));
    assert_eq!(config.segment_bytes, 8 * MIB);
    assert_eq!(
        config.election_timeout,
        NodeConfig::default().election_timeout
    );
}

#[test]
fn every_setting_can_be_set_from_every_source() {
    for setting in SETTINGS {
        let example = match setting.allowed.rsplit_once(", such as ") {
            Some((_, example)) => example,
            None => setting.allowed.rsplit_once("such as ").unwrap().1,
        };
        let advertised = variables(&[
            ("DOS_CLUSTER_ADVERTISE", "h:1"),
            ("DOS_CLUSTER_ADVERTISE_PEER", "h:2"),
        ]);
        let text = format!("{} = {example:?}", setting.key);
        for layer in [
            file(&text),
            variables(&[(&setting.variable(), example)]),
            flags(&[(setting.key, example)]),
        ] {
            assert_eq!(layer.values.len(), 1, "{setting}");
            NodeConfig::from_layers([advertised.clone(), layer]).expect(setting.key);
        }
    }
}

#[test]
fn all_faults_of_all_sources_are_reported_together() {
    let found = faults([
        file("heartbeat = 200\nsegement_bytes = '64MiB'\n\ndata_dir = ['x']\n"),
        variables(&[
            ("DOS_CLUSTER_LISTN", "a:1"),
            ("DOS_CLUSTER_STATE_MEMORY_BYTES", "1KiB"),
        ]),
        flags(&[("peer_listen", "localhost")]),
    ]);
    assert_eq!(
        found,
        [
            "segement_bytes (dos.toml:2): there is no such setting: did you mean segment_bytes?",
            "data_dir = \"['x']\" (dos.toml:4): it is of type array, not a string or a number; \
             allowed: a path, such as /var/lib/dos-cluster",
            "heartbeat = \"200\" (dos.toml:1): it has no unit: write 200ms or 200s; \
             allowed: 10ms to 10s, such as 200ms",
            "listn (environment variable DOS_CLUSTER_LISTN): there is no such setting: did you mean listen?",
            "state_memory_bytes = \"1KiB\" (environment variable DOS_CLUSTER_STATE_MEMORY_BYTES): \
             it is out of bounds; allowed: 8MiB to 64GiB, such as 128MiB",
            "peer_listen = \"localhost\" (flag --peer-listen): it has no port; \
             allowed: HOST:PORT, such as 0.0.0.0:7421",
        ]
    );
}

#[test]
fn broken_toml_is_a_fault_with_its_line() {
    let found = faults([file("heartbeat = '1s'\nlisten = \n")]);
    assert!(found[0].starts_with("syntax (dos.toml:2): "), "{found:?}");
}

#[test]
fn of_a_file_with_wrong_syntax_only_the_syntax_is_reported() {
    let found = faults([
        file("advertise = 'n1:7420'\nheartbeat = 'soon'\nlisten = \nunknown = 1\n"),
        flags(&[("listen", "0.0.0.0:7420"), ("segment_bytes", "64M")]),
    ]);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].starts_with("syntax (dos.toml:3): "), "{found:?}");
    assert!(found[1].starts_with("segment_bytes"), "{found:?}");
}

#[test]
fn a_value_that_a_later_source_replaces_must_be_right_all_the_same() {
    let found = faults([file("heartbeat = 'soon'"), flags(&[("heartbeat", "200ms")])]);
    assert!(
        found[0].starts_with("heartbeat = \"soon\" (dos.toml:1)"),
        "{found:?}"
    );
}

#[test]
fn an_election_timeout_below_two_heartbeats_is_refused_and_says_who_set_what() {
    let found = faults([flags(&[("election_timeout", "250ms")])]);
    assert_eq!(
        found,
        [
            "election_timeout = \"250ms\" (flag --election-timeout): it is less than twice the heartbeat, \
          which is 150ms; allowed: at least twice the heartbeat and at most 60s, such as 1s"
        ]
    );
    let found = faults([variables(&[("DOS_CLUSTER_HEARTBEAT", "2s")])]);
    let source = "(default, beside environment variable DOS_CLUSTER_HEARTBEAT)";
    assert!(found[0].contains(source), "{found:?}");
}

#[test]
fn listening_everywhere_needs_an_address_to_tell_others() {
    for everywhere in ["0.0.0.0:7420", "[::]:7420"] {
        let found = faults([flags(&[("listen", everywhere)])]);
        assert_eq!(found.len(), 1);
        assert!(found[0].contains("set advertise too"), "{found:?}");
        let both = flags(&[("listen", everywhere), ("advertise", "n1:7420")]);
        let config = NodeConfig::from_layers([both]).unwrap();
        assert_eq!(config.client_address(), "n1:7420");
    }
    for nowhere in ["0.0.0.0:7420", "n1:0"] {
        let found = faults([flags(&[("advertise", nowhere)])]);
        assert!(found[0].contains("cannot dial"), "{found:?}");
    }
}

#[test]
fn two_listeners_on_one_port_are_refused() {
    let found = faults([flags(&[("peer_listen", "127.0.0.1:7420")])]);
    assert!(found[0].starts_with("peer_listen"), "{found:?}");
    let shared = flags(&[("peer_listen", "0.0.0.0:7420"), ("advertise_peer", "a:1")]);
    assert_eq!(faults([shared]).len(), 1);
    let apart = flags(&[("peer_listen", "127.0.0.2:7420")]);
    NodeConfig::from_layers([apart]).unwrap();
    let any = [
        ("listen", "a:0"),
        ("peer_listen", "a:0"),
        ("http_listen", "a:0"),
    ];
    NodeConfig::from_layers([flags(&any)]).unwrap();
}

#[test]
fn sizes_come_with_binary_and_decimal_units_and_without() {
    let any = 0..=u64::MAX;
    for (text, wanted) in [
        ("64MiB", 64 << 20),
        ("64 MiB", 64 << 20),
        ("67108864", 64 << 20),
        ("1GB", 1_000_000_000),
        ("5 kB", 5_000),
        ("7B", 7),
    ] {
        assert_eq!(value::bytes(text, any.clone()), Ok(wanted), "{text}");
    }
    for bad in [
        "",
        "MiB",
        "1.5MiB",
        "-1",
        "64mib",
        "64M",
        "99999999999TiB",
        "18446744073709551616",
    ] {
        assert!(value::bytes(bad, any.clone()).is_err(), "{bad}");
    }
    assert_eq!(
        file("segment_bytes = 8_388_608").values[0].1.text,
        "8388608"
    );
}

#[test]
fn addresses_are_a_host_and_a_port() {
    for good in [
        "127.0.0.1:1",
        "n-1.example.org:65535",
        "[::1]:7420",
        "host_a:80",
        "127.0.0.1:0",
    ] {
        assert!(value::address(good).is_ok(), "{good}");
    }
    for bad in [
        "",
        ":",
        "a",
        "a:",
        ":1",
        "a:65536",
        "a b:1",
        "::1:80",
        "[::1:80",
        "[x]:80",
        "http://a:80",
    ] {
        assert!(value::address(bad).is_err(), "{bad}");
    }
}

#[test]
fn variables_of_the_command_line_and_of_kubernetes_are_no_settings() {
    let layer = variables(&[
        ("DOS_CLUSTER_ENDPOINTS", "a:1"),
        ("DOS_CLUSTER_LOG", "debug"),
        ("DOS_CLUSTER_PORT", "tcp://10.0.0.1:7420"),
        ("DOS_CLUSTER_PORT_7420_TCP_ADDR", "10.0.0.1"),
        ("DOS_CLUSTER_CLIENT_SERVICE_HOST", "10.0.0.1"),
        ("DOS_CLUSTER_SERVICE_PORT_HTTP", "7422"),
        ("PATH", "/bin"),
    ]);
    assert_eq!(layer, ConfigLayer::default());
}
