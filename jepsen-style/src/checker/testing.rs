//! A history that keeps every promise, to plant violations in.

use std::collections::BTreeMap;

use crate::{
    checker::{Rule, Violation, check},
    history::{Event, FinalNode, Floor, History, Name},
};

/// Worker `w` writes journal `a`: epoch 1 sends `e1-1`, `e1-2`, and `e1-3`, which is lost; it is taken over at 10, and epoch
/// 2 sends `e2-1`, `e2-2`, and `e2-3`, which is never acknowledged.
pub(crate) struct Healthy {
    pub(crate) events: Vec<Event>,
}

pub(crate) fn rules(violations: &[Violation]) -> Vec<Rule> {
    violations.iter().map(|violation| violation.rule).collect()
}

impl Healthy {
    pub(crate) fn new() -> Self {
        let mut events = Self::first_epoch();
        events.extend(Self::second_epoch());
        events.extend(["n1", "n2"].map(Self::held_by));
        Self { events }
    }

    fn opening(stream: u64, epoch: u64) -> Event {
        Event::Opening {
            stream,
            worker: "w".into(),
            journal: "a".into(),
            epoch,
        }
    }

    fn sent(stream: u64, at: u64, bytes: &'static str) -> Event {
        let bytes = bytes.into();
        Event::Sent { stream, at, bytes }
    }

    fn progress(stream: u64, durable: u64, log_index: u64) -> Event {
        Event::Progress {
            stream,
            written: durable,
            durable,
            log_index,
        }
    }

    fn ten() -> BTreeMap<Name, u64> {
        BTreeMap::from([("a".into(), 10)])
    }

    fn first_epoch() -> Vec<Event> {
        vec![
            Self::opening(1, 1),
            Event::Opened { stream: 1, at: 0 },
            Self::sent(1, 0, "e1-1 "),
            Self::sent(1, 5, "e1-2 "),
            Self::progress(1, 10, 9),
            Event::CheckpointBegan {
                commit: 8,
                worker: "w".into(),
                epoch: 1,
                id: (0, 1),
                offsets: Self::ten(),
            },
            Event::CheckpointCommitted { commit: 8 },
            Self::sent(1, 10, "e1-3 "),
            Event::ReadBegan {
                read: 5,
                journal: "a".into(),
                node: "n1".into(),
                floor: Floor::Linearizable,
            },
            Event::ReadEnded {
                read: 5,
                from: 0,
                bytes: "e1-1 e1-2 ".into(),
            },
        ]
    }

    fn second_epoch() -> Vec<Event> {
        vec![
            Event::TakeoverBegan {
                takeover: 6,
                worker: "w".into(),
            },
            Event::TakenOver {
                takeover: 6,
                worker: "w".into(),
                epoch: 2,
                tails: Self::ten(),
            },
            Self::opening(2, 2),
            Event::Opened { stream: 2, at: 10 },
            Self::sent(2, 10, "e2-1 "),
            Self::sent(2, 15, "e2-2 "),
            Self::progress(2, 20, 12),
            Self::sent(2, 20, "e2-3 "),
        ]
    }

    fn held_by(node: &str) -> Event {
        let checkpoints = BTreeMap::from([((0, 1), Self::ten())]);
        Event::Final(FinalNode {
            node: node.into(),
            journals: BTreeMap::from([("a".into(), "e1-1 e1-2 e2-1 e2-2 ".into())]),
            checkpoints: BTreeMap::from([("w".into(), checkpoints)]),
        })
    }

    pub(crate) fn history(&self) -> History {
        let mut history = History::default();
        for event in &self.events {
            history.push(event.clone());
        }
        history
    }

    pub(crate) fn check(&self) -> Vec<Violation> {
        check(&self.history(), &["n1", "n2"])
    }

    pub(crate) fn change(&mut self, change: impl FnMut(&mut Event)) {
        self.events.iter_mut().for_each(change);
    }

    pub(crate) fn insert_after(&mut self, is_it: impl Fn(&Event) -> bool, event: Event) {
        let place = self.events.iter().position(is_it).unwrap();
        self.events.insert(place + 1, event);
    }

    pub(crate) fn take(&mut self, is_it: impl Fn(&Event) -> bool) -> Event {
        let place = self.events.iter().position(is_it).unwrap();
        self.events.remove(place)
    }

    pub(crate) fn final_node(&mut self, name: &str) -> &mut FinalNode {
        let finals = self.events.iter_mut().filter_map(|event| match event {
            Event::Final(node) => Some(node),
            _ => None,
        });
        finals.into_iter().find(|node| &*node.node == name).unwrap()
    }

    /// Every node holds this in the end.
    pub(crate) fn with_content(mut self, content: &'static str) -> Self {
        for node in ["n1", "n2"] {
            self.final_node(node)
                .journals
                .insert("a".into(), content.into());
        }
        self
    }
}
