//! A history that keeps every promise, to plant violations in.

use std::collections::BTreeMap;

use crate::{
    checker::{Rule, Violation, check},
    history::{Event, FinalNode, Floor, History},
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
        let sent = |stream, at, bytes: &'static str| Event::Sent {
            stream,
            at,
            bytes: bytes.into(),
        };
        let opening = |stream, epoch| Event::Opening {
            stream,
            worker: "w".into(),
            journal: "a".into(),
            epoch,
        };
        let offsets = BTreeMap::from([("a".into(), 10)]);
        let final_node = |node: &str| {
            Event::Final(FinalNode {
                node: node.into(),
                journals: BTreeMap::from([("a".into(), "e1-1 e1-2 e2-1 e2-2 ".into())]),
                checkpoints: BTreeMap::from([(
                    "w".into(),
                    BTreeMap::from([((0, 1), offsets.clone())]),
                )]),
            })
        };
        let events = vec![
            opening(1, 1),
            Event::Opened { stream: 1, at: 0 },
            sent(1, 0, "e1-1 "),
            sent(1, 5, "e1-2 "),
            Event::Progress {
                stream: 1,
                written: 10,
                durable: 10,
                log_index: 9,
            },
            Event::CheckpointBegan {
                commit: 8,
                worker: "w".into(),
                epoch: 1,
                id: (0, 1),
                offsets: offsets.clone(),
            },
            Event::CheckpointCommitted { commit: 8 },
            sent(1, 10, "e1-3 "),
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
            Event::TakeoverBegan {
                takeover: 6,
                worker: "w".into(),
            },
            Event::TakenOver {
                takeover: 6,
                worker: "w".into(),
                epoch: 2,
                tails: offsets.clone(),
            },
            opening(2, 2),
            Event::Opened { stream: 2, at: 10 },
            sent(2, 10, "e2-1 "),
            sent(2, 15, "e2-2 "),
            Event::Progress {
                stream: 2,
                written: 20,
                durable: 20,
                log_index: 12,
            },
            sent(2, 20, "e2-3 "),
            final_node("n1"),
            final_node("n2"),
        ];
        Self { events }
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
