//! Strategies for every domain type that is stored or travels.

use bytes::Bytes;
use proptest::{
    collection::{btree_map, vec},
    option,
    prelude::*,
    sample::select,
};

use crate::domain::{
    Addresses, Append, AppendBatch, Appended, CheckpointId, Command, CommitCheckpoint, Endpoint,
    Epoch, FencingToken, JobName, JournalId, JournalKind, JournalName, JournalRef, Member, NodeId,
    Offset, OffsetRange, OpenJournal, OpenWorker, OpenedJournal, Outcome, Rejected, RestorePoint,
    SetEndpoint, Succession, TakenOver, Takeover, Truncate, WorkerName, WorkerRef, Writer,
    rejected::what,
};

/// Any number, and often one at an edge.
pub(in crate::codec) fn number() -> impl Strategy<Value = u64> + Clone {
    prop_oneof![0..3u64, Just(u64::MAX), any::<u64>()]
}

fn name<T: std::fmt::Debug>(
    parse: impl Fn(&str) -> Option<T> + Clone,
) -> impl Strategy<Value = T> + Clone {
    let text = prop_oneof![
        4 => "[a-z0-9 ._:ä€-]{1,12}",
        1 => Just("n".repeat(255)),
    ];
    text.prop_filter_map("no name", move |text| parse(&text))
}

fn job() -> impl Strategy<Value = JobName> + Clone {
    name(|text| text.parse().ok())
}

fn worker_name() -> impl Strategy<Value = WorkerName> + Clone {
    name(|text| text.parse().ok())
}

pub(in crate::codec) fn journal_name() -> impl Strategy<Value = JournalName> + Clone {
    name(|text| text.parse().ok())
}

pub(in crate::codec) fn worker() -> impl Strategy<Value = WorkerRef> + Clone {
    (job(), worker_name()).prop_map(|(job, worker)| WorkerRef { job, worker })
}

fn journal() -> impl Strategy<Value = JournalRef> + Clone {
    (worker(), journal_name()).prop_map(|(owner, name)| owner.journal(name))
}

pub(in crate::codec) fn kind() -> impl Strategy<Value = JournalKind> + Clone {
    select(&[JournalKind::Ops, JournalKind::Raw])
}

fn epoch() -> impl Strategy<Value = Epoch> + Clone {
    number().prop_map(Epoch)
}

pub(in crate::codec) fn offset() -> impl Strategy<Value = Offset> + Clone {
    number().prop_map(Offset)
}

fn journal_id() -> impl Strategy<Value = JournalId> + Clone {
    number().prop_map(JournalId)
}

pub(in crate::codec) fn token() -> impl Strategy<Value = FencingToken> + Clone {
    (epoch(), number().prop_map(Writer)).prop_map(|(epoch, writer)| FencingToken { epoch, writer })
}

pub(in crate::codec) fn checkpoint_id() -> impl Strategy<Value = CheckpointId> + Clone {
    (number(), number()).prop_map(|(rollback_epoch, number)| CheckpointId {
        rollback_epoch,
        number,
    })
}

pub(in crate::codec) fn succession() -> impl Strategy<Value = Succession> + Clone {
    (any::<String>(), number(), number()).prop_map(|(by, at_unix_ms, log_index)| Succession {
        by,
        at_unix_ms,
        log_index,
    })
}

pub(in crate::codec) fn member() -> impl Strategy<Value = Member> + Clone {
    let address = "[a-z0-9.:-]{0,20}";
    (number(), number(), address, address, address).prop_map(
        |(node, incarnation, client_address, peer_address, http_address)| Member {
            node: NodeId(node),
            incarnation,
            client_address,
            peer_address,
            http_address,
        },
    )
}

fn append() -> impl Strategy<Value = Append> {
    let data = vec(any::<u8>(), 0..40).prop_map(Bytes::from);
    (journal_id(), token(), offset(), data).prop_map(|(journal, token, at, data)| Append {
        journal,
        token,
        at,
        data,
    })
}

fn takeover() -> impl Strategy<Value = Takeover> {
    let point = prop_oneof![
        Just(RestorePoint::Latest),
        Just(RestorePoint::Line),
        checkpoint_id().prop_map(RestorePoint::Checkpoint),
    ];
    let parts = (
        worker(),
        option::of(epoch()),
        point,
        any::<String>(),
        number(),
        option::of(addresses()),
    );
    parts.prop_map(
        |(worker, expected_epoch, point, by, at_unix_ms, endpoint)| Takeover {
            worker,
            expected_epoch,
            point,
            by,
            at_unix_ms,
            endpoint,
        },
    )
}

fn addresses() -> impl Strategy<Value = Addresses> + Clone {
    let address = ("[a-z0-9.-]{1,20}", any::<u16>())
        .prop_map(|(host, port)| format!("{host}:{}", port.max(1)));
    btree_map("[a-z0-9_-]{1,8}", address, 1..5)
        .prop_filter_map("no addresses", |addresses| Addresses::new(addresses).ok())
}

pub(in crate::codec) fn endpoint() -> impl Strategy<Value = Endpoint> + Clone {
    (number(), addresses(), any::<String>(), number()).prop_map(
        |(generation, addresses, by, at_unix_ms)| Endpoint {
            generation,
            addresses,
            by,
            at_unix_ms,
        },
    )
}

fn set_endpoint() -> impl Strategy<Value = SetEndpoint> {
    let parts = (
        worker(),
        option::of(number()),
        addresses(),
        any::<String>(),
        number(),
    );
    parts.prop_map(
        |(worker, expected_generation, addresses, by, at_unix_ms)| SetEndpoint {
            worker,
            expected_generation,
            addresses,
            by,
            at_unix_ms,
        },
    )
}

fn commit() -> impl Strategy<Value = CommitCheckpoint> {
    let offsets = btree_map(journal_name(), offset(), 0..4);
    let parts = (worker(), epoch(), checkpoint_id(), offsets, number());
    parts.prop_map(
        |(worker, epoch, id, offsets, at_unix_ms)| CommitCheckpoint {
            worker,
            epoch,
            id,
            offsets,
            at_unix_ms,
        },
    )
}

/// Any command.
pub(in crate::codec) fn command() -> impl Strategy<Value = Command> {
    let open_worker =
        (worker(), option::of(epoch()), number()).prop_map(|(worker, epoch, at_unix_ms)| {
            OpenWorker {
                worker,
                epoch,
                at_unix_ms,
            }
        });
    let over = option::of(number().prop_map(Writer));
    let over = (over, number());
    let open_journal = (journal(), kind(), epoch(), option::of(offset()), over).prop_map(
        |(journal, kind, epoch, expected, (over, opener))| OpenJournal {
            journal,
            kind,
            epoch,
            expected,
            over,
            opener,
        },
    );
    let truncate = (journal(), epoch(), offset()).prop_map(|(journal, epoch, at)| Truncate {
        journal,
        epoch,
        at,
    });
    prop_oneof![
        (vec(append(), 0..4), number()).prop_map(|(appends, at_unix_ms)| {
            Command::Append(AppendBatch {
                appends,
                at_unix_ms,
            })
        }),
        open_worker.prop_map(Command::OpenWorker),
        open_journal.prop_map(Command::OpenJournal),
        vec((journal_id(), token()), 0..4).prop_map(Command::CloseWriters),
        commit().prop_map(Command::CommitCheckpoint),
        takeover().prop_map(Command::Takeover),
        truncate.prop_map(Command::Truncate),
        journal().prop_map(Command::DeleteJournal),
        Just(Command::AllocateNode),
        member().prop_map(Command::AnnounceMember),
        set_endpoint().prop_map(Command::SetEndpoint),
    ]
}

fn rejected_by_name() -> impl Strategy<Value = Rejected> {
    let wrong_kind =
        (journal(), kind(), kind()).prop_map(|(journal, has, wanted)| Rejected::WrongKind {
            journal,
            has,
            wanted,
        });
    let fenced = (worker(), epoch(), epoch(), succession()).prop_map(
        |(worker, held, current, succession)| Rejected::EpochFenced {
            worker,
            held,
            current,
            succession,
        },
    );
    let opened = (journal(), number(), number()).prop_map(|(journal, over, newest)| {
        Rejected::OpenedMeanwhile {
            journal,
            over: Writer(over),
            newest: Writer(newest),
        }
    });
    let no_line = (job(), vec(worker_name(), 0..4))
        .prop_map(|(job, late)| Rejected::NoRecoveryLine { job, late });
    let stale = (worker(), number(), number()).prop_map(|(worker, expected, current)| {
        Rejected::StaleEndpoint {
            worker,
            expected,
            current,
        }
    });
    prop_oneof![
        job().prop_map(|job| Rejected::UnknownJob { job }),
        worker().prop_map(|worker| Rejected::UnknownWorker { worker }),
        journal().prop_map(|journal| Rejected::UnknownJournal { journal }),
        wrong_kind,
        fenced,
        opened,
        no_line,
        stale,
    ]
}

fn rejected_by_number() -> impl Strategy<Value = Rejected> {
    let fenced = (journal_id(), token(), token()).prop_map(|(journal, held, newest)| {
        Rejected::WriterFenced {
            journal,
            held,
            newest,
        }
    });
    let wrong_offset = (journal_id(), offset(), offset())
        .prop_map(|(journal, at, tail)| Rejected::WrongOffset { journal, at, tail });
    let too_large =
        (select(&what::ALL), number(), number()).prop_map(|(what, bytes, bytes_max)| {
            Rejected::TooLarge {
                what,
                bytes,
                bytes_max,
            }
        });
    let too_many = (select(&what::ALL), number())
        .prop_map(|(what, count_max)| Rejected::TooMany { what, count_max });
    prop_oneof![
        journal_id().prop_map(|journal| Rejected::UnknownJournalId { journal }),
        journal_id().prop_map(|journal| Rejected::EmptyAppend { journal }),
        number().prop_map(|node| Rejected::ForeignIncarnation { node: NodeId(node) }),
        number().prop_map(|node| Rejected::UnknownMember { node: NodeId(node) }),
        fenced,
        wrong_offset,
        too_large,
        too_many,
    ]
}

fn rejected_by_checkpoint() -> impl Strategy<Value = Rejected> {
    let beyond =
        (checkpoint_id(), journal(), offset(), offset()).prop_map(|(id, journal, offset, tail)| {
            Rejected::CheckpointBeyondTail {
                id,
                journal,
                offset,
                tail,
            }
        });
    let not_newer = (worker(), checkpoint_id(), checkpoint_id())
        .prop_map(|(worker, id, last)| Rejected::CheckpointNotNewer { worker, id, last });
    let unknown = (worker(), checkpoint_id())
        .prop_map(|(worker, id)| Rejected::UnknownCheckpoint { worker, id });
    let cut =
        (journal(), offset(), checkpoint_id(), offset()).prop_map(|(journal, at, id, covered)| {
            Rejected::CutBelowCheckpoint {
                journal,
                at,
                id,
                covered,
            }
        });
    prop_oneof![beyond, not_newer, unknown, cut]
}

/// Any rejection.
pub(in crate::codec) fn rejected() -> impl Strategy<Value = Rejected> {
    prop_oneof![
        7 => rejected_by_name(),
        8 => rejected_by_number(),
        4 => rejected_by_checkpoint(),
    ]
}

fn taken_over() -> impl Strategy<Value = TakenOver> {
    let journals = btree_map(journal_name(), (journal_id(), kind(), offset()), 0..4);
    let cut = vec(option::of(offset()), 4);
    let parts = (
        epoch(),
        option::of(checkpoint_id()),
        (journals, cut),
        number(),
        option::of(endpoint()),
    );
    parts.prop_map(
        |(epoch, checkpoint, (journals, cut), log_index, endpoint)| TakenOver {
            epoch,
            checkpoint,
            cut: journals
                .keys()
                .cloned()
                .zip(cut)
                .filter_map(|(name, before)| Some((name, before?)))
                .collect(),
            journals,
            log_index,
            endpoint,
        },
    )
}

/// Any outcome that is not a rejection.
pub(in crate::codec) fn outcome() -> impl Strategy<Value = Outcome> {
    let appended = (offset(), offset(), offset()).prop_map(|(from, to, tail)| Appended {
        range: OffsetRange { from, to },
        tail,
    });
    let answer = prop_oneof![appended.prop_map(Ok), rejected().prop_map(Err)];
    let opened =
        (journal_id(), token(), offset()).prop_map(|(journal, token, tail)| OpenedJournal {
            journal,
            token,
            tail,
        });
    prop_oneof![
        vec(answer, 0..4).prop_map(Outcome::Appended),
        (epoch(), any::<bool>())
            .prop_map(|(epoch, created)| Outcome::WorkerOpened { epoch, created }),
        opened.prop_map(Outcome::JournalOpened),
        number().prop_map(|log_index| Outcome::CheckpointCommitted { log_index }),
        taken_over().prop_map(Outcome::TakenOver),
        offset().prop_map(|tail| Outcome::Truncated { tail }),
        number().prop_map(|node| Outcome::NodeAllocated(NodeId(node))),
        Just(Outcome::WritersClosed),
        Just(Outcome::JournalDeleted),
        Just(Outcome::MemberAnnounced),
        number().prop_map(|generation| Outcome::EndpointSet { generation }),
    ]
}
