//! `codec::legacy`.

use bytes::Bytes;
use dos_cluster::codec::legacy::{
    FrameFault, Listed, Number, REPLY_BYTES_MAX, REQUEST_BYTES_KEPT, REQUEST_BYTES_MAX, Reply,
    Request, RequestFault, RequestReader, listing,
};

use crate::{input, memory};

/// Reads slices to their end, to the first refused length, or to an `a` request, behind which nothing is framed; answers the
/// refusal, and what was not read.
fn read(slices: &[Bytes], mut take: impl FnMut(Bytes)) -> (Option<FrameFault>, Bytes) {
    let mut reader = RequestReader::default();
    for (index, slice) in slices.iter().enumerate() {
        reader.push(slice);
        loop {
            match reader.next_frame() {
                Ok(None) => break,
                Ok(Some(frame)) => {
                    let appends = matches!(Request::decode(&frame), Ok(Request::Append { .. }));
                    take(frame);
                    if appends {
                        return (
                            None,
                            [&reader.rest()[..], &slices[index + 1..].concat()]
                                .concat()
                                .into(),
                        );
                    }
                }
                Err(fault) => return (Some(fault), Bytes::new()),
            }
        }
    }
    (None, reader.rest())
}

/// The protocol's frames, read the plainest way.
fn frames_of(mut bytes: &[u8]) -> (Vec<&[u8]>, Option<u32>) {
    let mut frames = Vec::new();
    while let Some((header, rest)) = bytes.split_first_chunk::<4>() {
        let length = u32::from_be_bytes(*header);
        if length == 0 || length > REQUEST_BYTES_MAX {
            return (frames, Some(length));
        }
        let Some((frame, rest)) = rest.split_at_checked(length as usize) else {
            break;
        };
        let frame = frame.get(..=REQUEST_BYTES_KEPT).unwrap_or(frame);
        frames.push(frame);
        bytes = rest;
        if matches!(
            Request::decode(&Bytes::copy_from_slice(frame)),
            Ok(Request::Append { .. })
        ) {
            break;
        }
    }
    (frames, None)
}

/// A request as its client writes it.
fn encode(request: &Request) -> Bytes {
    let tab = &b"\t"[..];
    match request {
        Request::UseDir { dir } => [b"u", &dir[..]].concat(),
        Request::List => b"l".to_vec(),
        Request::Append { name, offset } => {
            [b"a", &name[..], tab, offset.to_string().as_bytes()].concat()
        }
        Request::Sync { name } => [b"s", &name[..]].concat(),
        Request::Get { name, offset, size } => {
            let (offset, size) = (offset.to_string(), size.to_string());
            [
                b"g",
                &name[..],
                tab,
                offset.as_bytes(),
                tab,
                size.as_bytes(),
            ]
            .concat()
        }
        Request::Delete { name } => [b"d", &name[..]].concat(),
    }
    .into()
}

fn check_number(text: &[u8]) {
    let Ok(number) = Number::parse(text) else {
        return;
    };
    let shown = number.to_string();
    assert_eq!(Number::parse(shown.as_bytes()).as_ref(), Ok(&number));
    if let Ok(value) = shown.parse::<i128>() {
        assert_eq!(number.is_negative(), value < 0);
        assert_eq!(number.offset(), u64::try_from(value).ok());
        let clamped = value.clamp(0, i128::from(u64::MAX));
        assert_eq!(i128::from(number.clamped()), clamped);
    } else {
        assert_eq!(number.offset(), None);
    }
}

fn check_frame(frame: &Bytes) {
    match Request::decode(frame) {
        Ok(request) => {
            assert_eq!(Request::decode(&encode(&request)).as_ref(), Ok(&request));
            if let Request::Append { name, offset } = request {
                let prefix = [b"ERROR: ", &name[..]].concat();
                let locked = Reply::Locked(name.clone());
                let wrong = Reply::WrongOffset {
                    name,
                    offset,
                    eof: 7,
                };
                for reply in [locked, wrong] {
                    assert!(check_reply(&reply).starts_with(&prefix));
                }
            }
        }
        Err(RequestFault::Arguments(text)) => {
            let reply = check_reply(&Reply::Error(text));
            assert!(reply.starts_with(b"ERROR: ") && reply.is_ascii());
        }
        Err(RequestFault::UnknownCommand(command)) => {
            assert!(!b"adglsu".contains(&command));
            let reply = check_reply(&Reply::UnknownCommand(command));
            assert_eq!(
                reply,
                [b"ERROR: unknown command \"", &[command][..], b"\""].concat()
            );
        }
        Err(RequestFault::Get) => assert_eq!(frame[0], b'g'),
    }
}

/// The payload of a reply, whose length must be what its header says.
fn check_reply(reply: &Reply) -> Vec<u8> {
    let frame = reply.encode();
    let (header, payload) = frame.split_first_chunk::<4>().expect("a header");
    assert_eq!(u32::from_be_bytes(*header) as usize, payload.len());
    payload.to_vec()
}

/// A listing of files that are called as the frames say.
fn check_listing(frames: &[Bytes]) {
    let listed = |(index, name): (usize, &Bytes)| Listed {
        name: name.clone(),
        size: index as u64,
        appending: index % 2 == 0,
    };
    let files: Vec<Listed> = frames.iter().enumerate().map(listed).collect();
    let listing = listing(files.clone());
    assert!(listing.len() <= REPLY_BYTES_MAX);
    for line in listing.split_inclusive(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\n").expect("a whole line");
        let fields: Vec<&[u8]> = line.split(|byte| *byte == b'\t').collect();
        let [name, size, free] = fields[..] else {
            panic!("{line:?} does not have three fields");
        };
        let is_it = |file: &Listed| {
            let shown = if file.appending { &b"yes"[..] } else { b"no" };
            file.name == name && file.size.to_string().as_bytes() == size && free == shown
        };
        assert!(files.iter().any(is_it), "a forged line: {line:?}");
    }
}

/// What must hold for any bytes.
///
/// # Panics
/// When it does not.
pub fn check(data: &[u8]) {
    let Some((whole, slices)) = input::cut(data) else {
        return;
    };
    let mut frames = Vec::new();
    let (fault, rest) = read(std::slice::from_ref(&whole), |frame| frames.push(frame));
    let mut cut_frames = Vec::new();
    let cut = read(&slices, |frame| cut_frames.push(frame));
    assert_eq!(frames, cut_frames, "slices make a difference");
    assert_eq!((&fault, &rest), (&cut.0, &cut.1));
    let (expected, refused) = frames_of(&whole);
    assert_eq!(frames, expected);
    assert_eq!(fault.map(|fault| fault.length), refused);
    if fault.is_none() {
        let framed: usize = frames.iter().map(|frame| 4 + frame.len()).sum();
        assert_eq!(
            rest,
            whole[framed..],
            "every byte is in a frame, or behind them"
        );
    }
    for frame in &frames {
        check_frame(frame);
        frame.split(|byte| *byte == b'\t').for_each(check_number);
    }
    check_listing(&frames);
    memory::bounded_by(whole.len(), || {
        read(&slices, drop);
    });
}
