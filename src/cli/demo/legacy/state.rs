//! What a legacy worker of the demo computes: for each key the window of its last four sequence numbers; and how that lies in its
//! event log and in `.local-keys`.

use std::collections::{BTreeMap, BTreeSet};

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::talk::Emission;
use crate::codec::evlog::{Event, EventReader};

/// The numbers that a window holds, as in the original's demo.
const WINDOW: usize = 4;
/// Keys are spread over so many resilient objects.
const GROUPS: u32 = 8;
/// The first resilient id.
const GROUP_BASE: u128 = 0x1_0000_0000_0000_0011;
const WINDOW_BYTES: usize = 4 + 8 * WINDOW;
/// Of a record of `.local-keys`, before the key.
const KEY_HEADER_BYTES: usize = 33;

/// Why a worker cannot go back to a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum ReplayError {
    /// The log is damaged, or was cut inside an entry and went on.
    #[error("the event log is damaged: {0}")]
    Log(#[from] crate::codec::evlog::EventError),
    /// The log ends before it.
    #[error("the event log has no checkpoint {0}")]
    Missing(u64),
    /// A state that no worker wrote.
    #[error("the state of resilient object {resilient_id:#x} in checkpoint {id} is damaged")]
    State { id: u64, resilient_id: u128 },
    /// A key that the checkpoint has and `.local-keys` has not.
    #[error("checkpoint {id} has key {key}, .local-keys has not")]
    Key { id: u64, key: u32 },
}

/// The windows of all keys, the last number at the end.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct State {
    windows: BTreeMap<u32, [u64; WINDOW]>,
    /// Keys that no checkpoint has yet.
    fresh: BTreeSet<u32>,
}

impl State {
    /// Another item of a key.
    pub(super) fn item(&mut self, key: u32) -> Emission {
        let window = self.windows.entry(key).or_insert_with(|| {
            self.fresh.insert(key);
            [0; WINDOW]
        });
        let number = window[WINDOW - 1] + 1;
        window.rotate_left(1);
        window[WINDOW - 1] = number;
        Emission { key, number }
    }

    /// The new keys, as records of `.local-keys` at a checkpoint.
    pub(super) fn take_fresh_keys(&mut self, id: u64) -> Vec<u8> {
        let mut out = BytesMut::new();
        for key in std::mem::take(&mut self.fresh) {
            let name = format!("key_{key}");
            let length = u32::try_from(name.len()).unwrap_or_default();
            out.put_u8(0);
            out.put_u64(id);
            out.put_u32(20 + length);
            out.put_u128(group(key));
            out.put_u32(length);
            out.put_slice(name.as_bytes());
        }
        out.to_vec()
    }

    /// The state of every resilient object, each in two parts.
    pub(super) fn events(&self) -> Vec<Event> {
        let mut objects: BTreeMap<u128, BytesMut> = BTreeMap::new();
        for (key, window) in &self.windows {
            let object = objects.entry(group(*key)).or_default();
            object.put_u32(*key);
            window.iter().for_each(|number| object.put_u64(*number));
        }
        let mut events = Vec::new();
        for (resilient_id, object) in objects {
            let mut second = object.freeze();
            let first = second.split_to(second.len() / 2);
            events.push(Event::Data {
                last: false,
                resilient_id,
                payload: first,
            });
            events.push(Event::Data {
                last: true,
                resilient_id,
                payload: second,
            });
        }
        events
    }

    /// The state in checkpoint `id`: of the first one with this number in the log, as the original looks for it.
    ///
    /// # Errors
    /// The worker must exit.
    pub(super) fn replay(log: &[u8], keys: &[u8], id: u64) -> Result<Self, ReplayError> {
        let mut state = Self::default();
        for (resilient_id, mut bytes) in objects(log, id)? {
            let damaged = ReplayError::State { id, resilient_id };
            while bytes.has_remaining() {
                if bytes.remaining() < WINDOW_BYTES {
                    return Err(damaged);
                }
                let key = bytes.get_u32();
                let window: [u64; WINDOW] = std::array::from_fn(|_| bytes.get_u64());
                let in_order = |pair: &[u64]| pair[1] == pair[0] + 1 || pair == [0, 0];
                if group(key) != resilient_id || !window.windows(2).all(in_order) {
                    return Err(damaged);
                }
                state.windows.insert(key, window);
            }
        }
        let known = known_keys(keys, id);
        let unknown = state.windows.keys().find(|key| !known.contains(*key));
        match unknown {
            Some(key) => Err(ReplayError::Key { id, key: *key }),
            None => Ok(state),
        }
    }
}

fn group(key: u32) -> u128 {
    GROUP_BASE + u128::from(key % GROUPS)
}

/// The data between the id, or restart marker, before the first `01 id` and that.
fn objects(log: &[u8], id: u64) -> Result<BTreeMap<u128, BytesMut>, ReplayError> {
    let mut reader = EventReader::new(0);
    reader.push(Bytes::copy_from_slice(log));
    let mut objects: BTreeMap<u128, BytesMut> = BTreeMap::new();
    while let Some(entry) = reader.next_entry()? {
        match entry.event {
            Event::Data {
                resilient_id,
                payload,
                ..
            } => objects.entry(resilient_id).or_default().put_slice(&payload),
            Event::CheckpointId(found) if found == id => return Ok(objects),
            Event::CheckpointId(_) | Event::RestartMarker => objects.clear(),
        }
    }
    Err(ReplayError::Missing(id))
}

/// The keys that `.local-keys` has added up to a checkpoint. A torn record at its end counts as none.
fn known_keys(mut keys: &[u8], id: u64) -> BTreeSet<u32> {
    let mut known = BTreeSet::new();
    while keys.remaining() >= KEY_HEADER_BYTES {
        let (removes, at) = (keys.get_u8() == 1, keys.get_u64());
        keys.advance(4 + 16);
        let length = keys.get_u32() as usize;
        let Some((name, rest)) = keys.split_at_checked(length) else {
            break;
        };
        keys = rest;
        let name = std::str::from_utf8(name).unwrap_or_default();
        let key = name.strip_prefix("key_").and_then(|key| key.parse().ok());
        match key.filter(|_| at <= id) {
            Some(key) if removes => known.remove(&key),
            Some(key) => known.insert(key),
            None => false,
        };
    }
    known
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::evlog;

    /// A log and the keys of a worker that took these items before its checkpoints 1, 2 and so on.
    fn written(checkpoints: &[&[u32]]) -> (State, BytesMut, Vec<u8>) {
        let (mut state, mut log, mut keys) = (State::default(), BytesMut::new(), Vec::new());
        evlog::encode(&Event::CheckpointId(0), &mut log).unwrap();
        for (items, id) in checkpoints.iter().zip(1..) {
            for key in *items {
                let _ = state.item(*key);
            }
            keys.extend(state.take_fresh_keys(id));
            for event in state.events() {
                evlog::encode(&event, &mut log).unwrap();
            }
            evlog::encode(&Event::CheckpointId(id), &mut log).unwrap();
        }
        (state, log, keys)
    }

    #[test]
    fn a_worker_that_goes_back_counts_on_from_there() {
        let (_, log, keys) = written(&[&[3, 3, 11], &[3, 3, 3, 4]]);
        let mut back = State::replay(&log, &keys, 1).unwrap();
        let numbers: Vec<u64> = [3, 11, 4].map(|key| back.item(key).number).into();
        assert_eq!(numbers, [3, 2, 1]);
        assert_eq!(State::replay(&log, &keys, 0).unwrap(), State::default());
        assert_eq!(
            State::replay(&log, &keys, 3).unwrap_err(),
            ReplayError::Missing(3)
        );
    }

    #[test]
    fn a_restart_marker_voids_what_was_not_finished_before_it() {
        let (state, mut log, keys) = written(&[&[3, 3, 11]]);
        let mut unfinished = state.clone();
        unfinished.item(3);
        for event in unfinished.events() {
            evlog::encode(&event, &mut log).unwrap();
        }
        evlog::encode(&Event::RestartMarker, &mut log).unwrap();
        for event in state.events() {
            evlog::encode(&event, &mut log).unwrap();
        }
        evlog::encode(&Event::CheckpointId(3), &mut log).unwrap();
        assert_eq!(State::replay(&log, &keys, 3).unwrap(), state);
    }

    #[test]
    fn a_key_that_the_list_lacks_is_found() {
        let (_, log, keys) = written(&[&[3], &[11]]);
        let first = &keys[..keys.len() / 2];
        assert_eq!(
            State::replay(&log, first, 2).unwrap_err(),
            ReplayError::Key { id: 2, key: 11 }
        );
    }

    #[test]
    fn a_window_with_a_hole_is_found() {
        let (_, log, keys) = written(&[&[3, 3, 3]]);
        let mut log = log.to_vec();
        // The last number of the one window lies before the id of checkpoint 1.
        let at = log.len() - 9 - 1;
        log[at] += 1;
        let error = State::replay(&log, &keys, 1).unwrap_err();
        assert!(matches!(error, ReplayError::State { id: 1, .. }));
    }
}
