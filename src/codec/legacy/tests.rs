#![allow(clippy::indexing_slicing, reason = "a test may panic")]

use proptest::{collection::vec, prelude::*};

use super::*;
use crate::codec::testing::{hex, split};

fn number(text: &str) -> Number {
    Number::parse(text.as_bytes()).unwrap()
}

fn one(frame: &Bytes) -> Result<Request, RequestFault> {
    let mut reader = RequestReader::default();
    reader.push(frame);
    let payload = reader.next_frame().unwrap().expect("a whole frame");
    assert_eq!(reader.next_frame(), Ok(None));
    Request::decode(&payload)
}

/// The vectors of the specification.
#[test]
fn requests_are_the_originals() {
    let journal = Bytes::from_static(b"app-worker2.journal");
    let requests = [
        (
            "0000000875776f726b657232",
            Request::UseDir {
                dir: Bytes::from_static(b"worker2"),
            },
        ),
        ("000000016c", Request::List),
        (
            "00000017616170702d776f726b6572322e6a6f75726e616c093730",
            Request::Append {
                name: journal.clone(),
                offset: number("70"),
            },
        ),
        (
            "0000001c676170702d776f726b6572322e6a6f75726e616c0930093136333834",
            Request::Get {
                name: journal.clone(),
                offset: number("0"),
                size: number("16384"),
            },
        ),
        (
            "00000014736170702d776f726b6572322e6a6f75726e616c",
            Request::Sync {
                name: journal.clone(),
            },
        ),
        (
            "00000014646170702d776f726b6572322e6a6f75726e616c",
            Request::Delete {
                name: journal.clone(),
            },
        ),
    ];
    for (frame, request) in requests {
        assert_eq!(one(&hex(frame)), Ok(request), "{frame}");
    }
}

#[test]
fn replies_are_the_originals() {
    let journal = Bytes::from_static(b"app-worker2.journal");
    let listed = |name: &'static str, size, appending| Listed {
        name: Bytes::from_static(name.as_bytes()),
        size,
        appending,
    };
    let replies = [
        ("000000026f6b", Reply::Ok),
        ("00000000", Reply::Data(Bytes::new())),
        (
            "0000003a6170702d776f726b6572322e65766c6f672e6a6f75726e616c0939097965730a6170702d776f726b6572322e6a6f75726e616c093730096e6f0a",
            Reply::Data(listing(vec![
                listed("app-worker2.journal", 70, false),
                listed("app-worker2.evlog.journal", 9, true),
            ])),
        ),
        (
            "000000294552524f523a206170702d776f726b6572322e6a6f75726e616c2066696c65206973206c6f636b6564",
            Reply::Locked(journal.clone()),
        ),
        (
            "000000444552524f523a206170702d776f726b6572322e6a6f75726e616c2066696c6520726571756573746564206f666673657420352062757420656f665f6f6666736574203730",
            Reply::WrongOffset {
                name: journal,
                offset: number("5"),
                eof: 70,
            },
        ),
        ("000000053730093730", Reply::Synced(70)),
        ("000000054552524f52", Reply::DeleteFailed),
        (
            "0000001a4552524f523a20756e6b6e6f776e20636f6d6d616e6420227a22",
            Reply::UnknownCommand(b'z'),
        ),
    ];
    for (frame, reply) in replies {
        assert_eq!(reply.encode(), hex(frame), "{reply:?}");
    }
    assert_eq!(status(4096, 4096), hex("00000009343039360934303936"));
}

#[test]
fn bad_arguments_are_answered_in_the_originals_words() {
    let fault = |payload: &'static [u8]| Request::decode(&Bytes::from_static(payload)).unwrap_err();
    let arguments = |text: &str| RequestFault::Arguments(text.to_owned());
    assert_eq!(
        fault(b"aname"),
        arguments("need more than 1 value to unpack")
    );
    assert_eq!(fault(b"a"), arguments("need more than 1 value to unpack"));
    assert_eq!(
        fault(b"aname\t1\t2"),
        arguments("too many values to unpack")
    );
    assert_eq!(fault(b"sname\t1"), arguments("too many values to unpack"));
    assert_eq!(
        fault(b"aname\txyz"),
        arguments("invalid literal for int() with base 10: 'xyz'")
    );
    assert_eq!(
        fault(b"aname\t"),
        arguments("invalid literal for int() with base 10: ''")
    );
    assert_eq!(
        fault(b"aname\t1\xff'"),
        arguments("invalid literal for int() with base 10: \"1\\xff'\"")
    );
    for bad in [
        &b"gname"[..],
        b"gname\t1",
        b"gname\tx\t1",
        b"gname\t1\t2\t3",
    ] {
        assert_eq!(
            Request::decode(&Bytes::copy_from_slice(bad)),
            Err(RequestFault::Get)
        );
    }
    for command in [b'z', 0, 0xff, b'"', b'A'] {
        assert_eq!(
            Request::decode(&Bytes::copy_from_slice(&[command, b'x'])),
            Err(RequestFault::UnknownCommand(command))
        );
    }
}

#[test]
fn numbers_are_read_as_python_reads_them() {
    for (text, shown, offset, clamped) in [
        ("70", "70", Some(70), 70),
        (" 70\r\n", "70", Some(70), 70),
        ("\x0b0", "0", Some(0), 0),
        ("\x0b\x0c7\x0b ", "7", Some(7), 7),
        ("+007", "7", Some(7), 7),
        ("-0", "0", Some(0), 0),
        ("-5", "-5", None, 0),
        (
            "18446744073709551615",
            "18446744073709551615",
            Some(u64::MAX),
            u64::MAX,
        ),
        (
            "18446744073709551616",
            "18446744073709551616",
            None,
            u64::MAX,
        ),
    ] {
        let read = number(text);
        assert_eq!(read.to_string(), shown, "{text:?}");
        assert_eq!(
            (read.offset(), read.clamped()),
            (offset, clamped),
            "{text:?}"
        );
    }
    for bad in ["", " ", "-", "+ 1", "1 2", "0x1", "1_0", "1.0", "5L"] {
        assert!(Number::parse(bad.as_bytes()).is_err(), "{bad:?}");
    }
}

#[test]
fn a_length_that_no_request_has_is_refused_at_once_and_allocates_nothing() {
    for length in [0, REQUEST_BYTES_MAX + 1, 0x7fff_ffff, 0x8000_0000, u32::MAX] {
        let mut reader = RequestReader::default();
        reader.push(&length.to_be_bytes());
        assert_eq!(reader.next_frame(), Err(FrameFault { length }));
        assert!(reader.received.capacity() < 1024);
    }
}

#[test]
fn no_error_is_longer_than_the_old_workers_can_read() {
    let long = "9".repeat(60_000);
    let replies = [
        Reply::Error(long.clone()),
        Reply::Locked(Bytes::from(long.clone())),
        Reply::WrongOffset {
            name: Bytes::from_static(b"f"),
            offset: number(&long),
            eof: 0,
        },
    ];
    for reply in replies {
        assert_eq!(reply.encode().len(), LENGTH_BYTES + REPLY_BYTES_MAX);
    }
}

#[test]
fn a_long_request_is_answered_by_its_beginning_and_the_next_one_is_read() {
    let long =
        |command: &str, bytes: usize| frame(&[command.as_bytes(), &vec![b'x'; bytes]].concat());
    for bytes in [REQUEST_BYTES_KEPT - 1, REQUEST_BYTES_KEPT, 60_000] {
        let whole = [long("q", bytes), frame(b"l")].concat();
        for piece in [1, 1000, whole.len()] {
            let mut reader = RequestReader::default();
            let mut found = Vec::new();
            for chunk in whole.chunks(piece) {
                reader.push(chunk);
                assert!(reader.buffered() <= REQUEST_BYTES_KEPT + LENGTH_BYTES + piece);
                while let Some(payload) = reader.next_frame().unwrap() {
                    found.push(Request::decode(&payload));
                }
            }
            let unknown = Err(RequestFault::UnknownCommand(b'q'));
            assert_eq!(found, [unknown, Ok(Request::List)], "{bytes} by {piece}");
        }
    }
    let decoded = |command: &str, bytes| {
        let mut reader = RequestReader::default();
        reader.push(&long(command, bytes));
        Request::decode(&reader.next_frame().unwrap().unwrap())
    };
    let too_long = || Err(RequestFault::Arguments("request too long".to_owned()));
    assert_eq!(decoded("aname\t0", 5000), too_long());
    assert_eq!(decoded("s", 5000), too_long());
    assert_eq!(decoded("gname\t0\t0", 5000), Err(RequestFault::Get));
    assert_eq!(decoded("l", 5000), Ok(Request::List));
    assert!(matches!(decoded("d", 5000), Ok(Request::Delete { .. })));
    assert!(matches!(decoded("u", 5000), Ok(Request::UseDir { .. })));
}

proptest! {
    /// However the bytes are cut, the same requests come out; and what follows them is handed on untouched.
    #[test]
    fn requests_do_not_depend_on_how_the_bytes_arrive(
        payloads in vec(vec(any::<u8>(), 1..40), 0..8),
        rest in vec(any::<u8>(), 0..3),
        cuts in vec(any::<prop::sample::Index>(), 0..10),
    ) {
        let mut whole = BytesMut::new();
        for payload in &payloads {
            whole.extend_from_slice(&frame(payload));
        }
        whole.extend_from_slice(&rest);
        let mut reader = RequestReader::default();
        let mut found = Vec::new();
        for slice in split(&whole.freeze(), &cuts) {
            reader.push(&slice);
            while let Some(payload) = reader.next_frame().unwrap() {
                found.push(payload.to_vec());
            }
        }
        prop_assert_eq!(found, payloads);
        prop_assert_eq!(reader.rest(), rest);
    }

    /// Whatever comes, it is a request or a fault, never a panic.
    #[test]
    fn no_payload_panics(payload in vec(any::<u8>(), 1..200)) {
        let _ = Request::decode(&payload.into());
    }
}
