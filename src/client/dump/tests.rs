use bytes::BytesMut;
use tempfile::TempDir;

use super::*;
use crate::codec::ops::{Op, OpRecord, encode};

const VERBOSE: DumpOptions = DumpOptions {
    parse_only: false,
    verbose: true,
};
const PARSE: DumpOptions = DumpOptions {
    parse_only: true,
    verbose: true,
};
const QUIET: DumpOptions = DumpOptions {
    parse_only: false,
    verbose: false,
};

fn op(tag: u64, op: Op) -> Vec<u8> {
    let mut out = BytesMut::new();
    encode(&OpRecord { tag, op }, &mut out).unwrap();
    out.to_vec()
}

fn write(path: &'static [u8], offset: u64, data: &'static [u8]) -> Vec<u8> {
    let path = Bytes::from_static(path);
    let data = Bytes::from_static(data);
    op(3, Op::WriteV { offset, path, data })
}

fn remove(path: &'static [u8]) -> Vec<u8> {
    let path = Bytes::from_static(path);
    op(0, Op::Remove { path })
}

/// Gives one byte at a time, now and then interrupted.
struct Slow<'a>(&'a [u8], bool);

impl Read for Slow<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.1 = !self.1;
        if self.1 {
            return Err(io::ErrorKind::Interrupted.into());
        }
        self.0.read(&mut buffer[..1])
    }
}

struct Run {
    dir: TempDir,
    result: Result<DumpSummary, DumpError>,
    output: String,
}

impl Run {
    fn new(journal: &[u8], options: DumpOptions) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut map = PathMap::new(dir.path().to_path_buf());
        map.rebase.push((b"/r".to_vec(), Vec::new()));
        let mut output = Vec::new();
        let result = dump(Slow(journal, false), options, Some(map), &mut output);
        Self {
            dir,
            result,
            output: String::from_utf8(output).unwrap(),
        }
    }

    fn summary(&self) -> DumpSummary {
        *self.result.as_ref().unwrap()
    }

    fn file(&self, name: &str) -> Option<Vec<u8>> {
        std::fs::read(self.dir.path().join(name)).ok()
    }
}

#[test]
fn records_are_applied_and_the_end_is_told() {
    let journal = [
        op(
            1,
            Op::SetLength {
                path: Bytes::from_static(b"/r/f"),
                length: 2,
            },
        ),
        write(b"/r/f", 4, b"tail"),
        write(b"gone", 0, b"x"),
        remove(b"gone"),
    ]
    .concat();
    let run = Run::new(&journal, QUIET);
    assert_eq!(run.output, "EOF\n");
    assert_eq!(run.file("f").unwrap(), b"\0\0\0\0tail");
    assert_eq!(run.file("gone"), None);
    assert_eq!(
        (run.summary().records, run.summary().succeeded()),
        (4, true)
    );
}

#[test]
fn verbose_shows_each_record_as_python_2_would() {
    let journal = [
        op(
            1,
            Op::SetLength {
                path: Bytes::from_static(b"/r/f"),
                length: (1 << 63) - 1,
            },
        ),
        write(b"/r/it's", 12, b"worker2\n\0\xff"),
        remove(b"/r/f"),
    ]
    .concat();
    let run = Run::new(&journal, PARSE);
    assert_eq!(
        run.output,
        "version=0 op=0 tag=1 ints=[9223372036854775807] strings=['/r/f']\n\
         version=0 op=1 tag=3 ints=[12] strings=[\"/r/it's\", 'worker2\\n\\x00\\xff']\n\
         version=0 op=2 tag=0 ints=[] strings=['/r/f']\n\
         EOF\n"
    );
    assert_eq!(
        std::fs::read_dir(run.dir.path()).unwrap().count(),
        0,
        "parse only"
    );
}

#[test]
fn every_byte_is_spelt_as_python_2_spells_it() {
    // repr(''.join(map(chr, range(256)))) of Python 2.7.18
    let expected = r##"'\x00\x01\x02\x03\x04\x05\x06\x07\x08\t\n\x0b\x0c\r\x0e\x0f\x10\x11\x12\x13\x14\x15\x16\x17\x18\x19\x1a\x1b\x1c\x1d\x1e\x1f !"#$%&\'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_`abcdefghijklmnopqrstuvwxyz{|}~\x7f\x80\x81\x82\x83\x84\x85\x86\x87\x88\x89\x8a\x8b\x8c\x8d\x8e\x8f\x90\x91\x92\x93\x94\x95\x96\x97\x98\x99\x9a\x9b\x9c\x9d\x9e\x9f\xa0\xa1\xa2\xa3\xa4\xa5\xa6\xa7\xa8\xa9\xaa\xab\xac\xad\xae\xaf\xb0\xb1\xb2\xb3\xb4\xb5\xb6\xb7\xb8\xb9\xba\xbb\xbc\xbd\xbe\xbf\xc0\xc1\xc2\xc3\xc4\xc5\xc6\xc7\xc8\xc9\xca\xcb\xcc\xcd\xce\xcf\xd0\xd1\xd2\xd3\xd4\xd5\xd6\xd7\xd8\xd9\xda\xdb\xdc\xdd\xde\xdf\xe0\xe1\xe2\xe3\xe4\xe5\xe6\xe7\xe8\xe9\xea\xeb\xec\xed\xee\xef\xf0\xf1\xf2\xf3\xf4\xf5\xf6\xf7\xf8\xf9\xfa\xfb\xfc\xfd\xfe\xff'"##;
    let all: Vec<u8> = (0..=255).collect();
    assert_eq!(python_string(&all), expected);
    for (string, expected) in [
        (r"it's", r#""it's""#),
        (r#"say "x""#, r#"'say "x"'"#),
        (r#"both ' and ""#, r#"'both \' and "'"#),
        (r"back\slash", r"'back\\slash'"),
        ("", "''"),
    ] {
        assert_eq!(python_string(string.as_bytes()), expected);
    }
    assert_eq!(python_int((1 << 63) - 1), "9223372036854775807");
    assert_eq!(python_int(1 << 63), "9223372036854775808L");
    assert_eq!(python_int(u64::MAX), "18446744073709551615L");
}

#[test]
fn a_tail_of_less_than_a_length_field_is_the_end() {
    for tail in 1..4 {
        let journal = [write(b"f", 0, b"whole"), vec![0; tail]].concat();
        let run = Run::new(&journal, QUIET);
        assert_eq!(run.output, "EOF\n");
        assert!(run.summary().succeeded());
        assert_eq!(run.file("f").unwrap(), b"whole");
        let torn = Tail::Torn {
            offset: journal.len() as u64 - tail as u64,
            have: tail as u64,
            wanted: 4,
        };
        assert_eq!(run.summary().tail, torn);
    }
}

#[test]
fn a_cut_body_fails_with_the_sizes_and_what_was_before_is_applied() {
    let whole = write(b"f", 0, b"whole");
    let cut = write(b"f", 0, b"never");
    for have in [0, 1, cut.len() - 5] {
        let journal = [&whole[..], &cut[..4 + have]].concat();
        let run = Run::new(&journal, VERBOSE);
        let body = cut.len() - 4;
        assert_eq!(
            run.output,
            format!(
                "version=0 op=1 tag=3 ints=[0] strings=['f', 'whole']\n\
                 Error: wanted {body} bytes but got {have} instead\n"
            )
        );
        assert!(!run.summary().succeeded());
        assert_eq!(run.file("f").unwrap(), b"whole");
    }
}

#[test]
fn unknown_versions_and_ops_are_shown_and_passed_over() {
    let mut unknown = remove(b"f");
    unknown[5] = 9;
    let mut newer = remove(b"f");
    newer[4] = 1;
    let journal = [write(b"f", 0, b"kept"), unknown, newer].concat();
    let run = Run::new(&journal, VERBOSE);
    assert!(
        run.output
            .contains("version=0 op=9 tag=0 ints=[] strings=['f']\n")
    );
    assert!(
        run.output
            .contains("version=1 op=2 tag=0 ints=[] strings=['f']\n")
    );
    assert_eq!(
        (run.summary().unknown, run.summary().succeeded()),
        (2, true)
    );
    assert_eq!(run.file("f").unwrap(), b"kept");
}

#[test]
fn a_negative_length_is_shown_and_then_named_as_malformed() {
    let mut negative = op(
        1,
        Op::SetLength {
            path: Bytes::from_static(b"f"),
            length: 0,
        },
    );
    negative[16..24].fill(0xff);
    let journal = [write(b"before", 0, b"1"), negative, remove(b"before")].concat();
    let run = Run::new(&journal, VERBOSE);
    assert!(
        run.output
            .ends_with("version=0 op=0 tag=1 ints=[18446744073709551615L] strings=['f']\n")
    );
    let error = run.result.as_ref().unwrap_err();
    assert!(matches!(error, DumpError::Malformed(_)));
    assert_eq!(
        error.to_string(),
        "malformed op record at offset 47: its length or offset 18446744073709551615 is not below 2^63"
    );
    assert_eq!(run.file("before").unwrap(), b"1");
}

#[test]
fn a_remove_of_what_is_not_there_is_a_notice() {
    let run = Run::new(&remove(b"/r/gone"), QUIET);
    assert_eq!(
        run.output,
        "NOTICE: unlink: file /r/gone does not exist\nEOF\n"
    );
    assert_eq!(run.summary().nothing_to_remove, 1);
    assert!(run.summary().succeeded());
}

#[test]
fn a_refused_path_is_named_and_the_rest_applied_but_the_dump_has_failed() {
    let journal = [write(b"/etc/passwd", 0, b"!"), write(b"f", 0, b"rest")].concat();
    let run = Run::new(&journal, QUIET);
    assert_eq!(
        run.output,
        "NOTICE: op record at offset 0: `/etc/passwd` is refused: \
         the path is absolute and no rule maps it\nEOF\n"
    );
    assert_eq!(
        (run.summary().refused, run.summary().succeeded()),
        (1, false)
    );
    assert_eq!(run.file("f").unwrap(), b"rest");
}

#[test]
fn without_a_target_nothing_is_applied() {
    let mut output = Vec::new();
    let journal = write(b"f", 0, b"x");
    let summary = dump(&journal[..], QUIET, None, &mut output).unwrap();
    assert_eq!((summary.records, summary.succeeded()), (1, true));
    assert_eq!(output, b"EOF\n");
}
