use bytes::Bytes;
use proptest::{collection::vec, prelude::*, sample::Index};
use prost::Message;

use super::{testing, *};
use crate::{
    domain::{
        Append, AppendBatch, Command, Member, Outcome, Rejected, SetEndpoint, rejected::what,
    },
    pb,
};

/// Over the wire and back.
fn travelled<M: Message + Default>(message: &M) -> M {
    M::decode(message.encode_to_vec().as_slice()).unwrap()
}

proptest! {
    #[test]
    fn commands_come_back(command in testing::command()) {
        let payload = encode_command(command.clone());
        prop_assert_eq!(decode_command(payload), Ok(command));
    }

    #[test]
    fn outcomes_come_back(outcome in testing::outcome()) {
        let sent = outcome_to_pb(Ok(outcome.clone()));
        prop_assert_eq!(outcome_from_pb(Some(travelled(&sent))), Ok(Ok(outcome)));
    }

    #[test]
    fn rejections_come_back(rejected in testing::rejected()) {
        let sent = outcome_to_pb(Err(rejected.clone()));
        prop_assert_eq!(outcome_from_pb(Some(travelled(&sent))), Ok(Err(rejected)));
    }

    #[test]
    fn members_come_back(member in testing::member()) {
        prop_assert_eq!(Member::from(travelled(&pb::Member::from(&member))), member);
    }

    #[test]
    fn any_bytes_are_a_command_or_an_error(payload in vec(any::<u8>(), 0..200)) {
        if let Ok(command) = decode_command(payload.into()) {
            // What was understood is a command that can be said again.
            prop_assert_eq!(decode_command(encode_command(command.clone())), Ok(command));
        }
    }

    #[test]
    fn a_damaged_command_is_a_command_or_an_error(
        command in testing::command(), at in any::<Index>(), byte in any::<u8>(), keep in any::<Index>(),
    ) {
        let mut payload = encode_command(command).to_vec();
        let at = at.index(payload.len());
        payload.splice(at..=at, [byte]);
        payload.truncate(keep.index(2 * payload.len()));
        if let Ok(command) = decode_command(payload.into()) {
            prop_assert_eq!(decode_command(encode_command(command.clone())), Ok(command));
        }
    }

    #[test]
    fn a_damaged_outcome_is_an_outcome_or_an_error(
        outcome in testing::outcome(), at in any::<Index>(), byte in any::<u8>(),
    ) {
        let mut payload = outcome_to_pb(Ok(outcome)).encode_to_vec();
        let at = at.index(payload.len());
        payload.splice(at..=at, [byte]);
        if let Ok(message) = pb::Outcome::decode(payload.as_slice())
            && let Ok(outcome) = outcome_from_pb(Some(message))
        {
            prop_assert_eq!(outcome_from_pb(Some(outcome_to_pb(outcome.clone()))), Ok(outcome));
        }
    }
}

#[test]
fn appended_bytes_are_slices_of_the_log_entry() {
    let data = Bytes::from(vec![7; 1000]);
    let append = Append {
        journal: Default::default(),
        token: Default::default(),
        at: Default::default(),
        data: data.clone(),
    };
    let batch = AppendBatch {
        appends: vec![append],
        at_unix_ms: 7,
    };
    let payload = encode_command(Command::Append(batch));
    let Ok(Command::Append(AppendBatch { appends, .. })) = decode_command(payload.clone()) else {
        panic!("not the command that was encoded");
    };
    let found = appends.first().unwrap().data.clone();
    assert_eq!(found, data);
    assert!(payload.as_ptr_range().contains(&found.as_ptr()));
}

fn field_of<T: std::fmt::Debug>(refused: Result<T, CodecError>) -> &'static str {
    match refused {
        Err(CodecError::BadField { field, .. }) => field,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_command_without_a_field_names_it() {
    use pb::command::Command as Wire;
    let worker = || {
        Some(pb::WorkerRef {
            job: "j".to_owned(),
            worker: "w".to_owned(),
        })
    };
    let journal = || {
        Some(pb::JournalRef {
            job: "j".to_owned(),
            worker: "w".to_owned(),
            journal: "a".to_owned(),
        })
    };
    let no_kind = pb::OpenJournal {
        journal: journal(),
        ..Default::default()
    };
    let no_name = pb::OpenJournal {
        journal: Some(pb::JournalRef {
            journal: String::new(),
            ..journal().unwrap()
        }),
        ..Default::default()
    };
    let no_id = pb::CommitCheckpoint {
        worker: worker(),
        ..Default::default()
    };
    let named = pb::NamedOffset {
        journal: "a".to_owned(),
        offset: 1,
    };
    let twice = pb::CommitCheckpoint {
        worker: worker(),
        id: Some(Default::default()),
        offsets: vec![named.clone(), named],
        ..Default::default()
    };
    let no_point = pb::Takeover {
        worker: worker(),
        point: Some(pb::RestorePoint { point: None }),
        ..Default::default()
    };
    let latest = pb::restore_point::Point::Latest(pb::restore_point::Latest {});
    let no_worker = pb::Takeover {
        point: Some(pb::RestorePoint {
            point: Some(latest),
        }),
        ..Default::default()
    };
    let table = [
        (None, "command"),
        (Some(Wire::OpenWorker(Default::default())), "worker"),
        (Some(Wire::OpenJournal(Default::default())), "journal"),
        (Some(Wire::OpenJournal(no_name)), "journal"),
        (Some(Wire::OpenJournal(no_kind)), "kind"),
        (Some(Wire::CommitCheckpoint(Default::default())), "worker"),
        (Some(Wire::CommitCheckpoint(no_id)), "checkpoint id"),
        (Some(Wire::CommitCheckpoint(twice)), "offsets"),
        (Some(Wire::Takeover(no_point)), "restore point"),
        (Some(Wire::Takeover(no_worker)), "worker"),
        (Some(Wire::Truncate(Default::default())), "journal"),
    ];
    for (command, field) in table {
        let payload = pb::Command { command }.encode_to_vec();
        assert_eq!(field_of(decode_command(payload.into())), field);
    }
}

#[test]
fn an_endpoint_without_a_field_names_it() {
    let worker = || {
        Some(pb::WorkerRef {
            job: "j".to_owned(),
            worker: "w".to_owned(),
        })
    };
    let control = pb::Address {
        role: "control".to_owned(),
        address: "h:1".to_owned(),
    };
    let with = |addresses: &[&pb::Address]| pb::SetEndpoint {
        worker: worker(),
        addresses: Some(pb::Addresses {
            addresses: addresses.iter().copied().cloned().collect(),
        }),
        ..Default::default()
    };
    let no_addresses = pb::SetEndpoint {
        worker: worker(),
        ..Default::default()
    };
    let table = [
        (pb::SetEndpoint::default(), "worker"),
        (no_addresses, "addresses"),
        (with(&[]), "addresses"),
        (with(&[&pb::Address::default()]), "addresses"),
        (with(&[&control, &control]), "addresses"),
    ];
    for (set, field) in table {
        let command = Some(pb::command::Command::SetEndpoint(set));
        let payload = pb::Command { command }.encode_to_vec();
        assert_eq!(field_of(decode_command(payload.into())), field);
    }
    let payload = encode_command(
        SetEndpoint::try_from(with(&[&control]))
            .map(Command::SetEndpoint)
            .unwrap(),
    );
    assert!(decode_command(payload).is_ok());
    let nobody = pb::WorkerEndpoint::default();
    assert_eq!(field_of(worker_endpoint_from_pb(nobody)), "worker");
    let nowhere = pb::WorkerEndpoint {
        worker: worker(),
        endpoint: None,
    };
    assert_eq!(field_of(worker_endpoint_from_pb(nowhere)), "endpoint");
}

#[test]
fn an_outcome_without_a_field_names_it() {
    use pb::outcome::Outcome as Wire;
    let unanswered = pb::AppendAnswers {
        answers: vec![Default::default()],
    };
    let nameless = pb::TakenOver {
        journals: vec![pb::JournalTail {
            tail_before: None,
            kind: pb::JournalKind::Raw.into(),
            ..Default::default()
        }],
        ..Default::default()
    };
    let no_addresses = pb::TakenOver {
        endpoint: Some(Default::default()),
        ..Default::default()
    };
    let table = [
        (None, "outcome"),
        (Some(Wire::Appended(unanswered)), "answer"),
        (
            Some(Wire::JournalOpened(Default::default())),
            "fencing token",
        ),
        (Some(Wire::TakenOver(nameless)), "journal"),
        (Some(Wire::TakenOver(no_addresses)), "addresses"),
        (Some(Wire::Rejected(Default::default())), "rejection"),
    ];
    for (outcome, field) in table {
        let found = outcome_from_pb(Some(pb::Outcome { outcome }));
        assert_eq!(field_of(found), field);
    }
    assert_eq!(field_of(outcome_from_pb(None)), "outcome");
}

#[test]
fn a_rejection_without_a_field_names_it() {
    use pb::rejected::Reason;
    let worker = Some(pb::WorkerRef {
        job: "j".to_owned(),
        worker: "w".to_owned(),
    });
    let no_successor = pb::rejected::EpochFenced {
        worker,
        ..Default::default()
    };
    let bad_late = pb::rejected::NoRecoveryLine {
        job: "j".to_owned(),
        late: vec!["a/b".to_owned()],
    };
    let table = [
        (None, "rejection"),
        (Some(Reason::UnknownJob(String::new())), "job"),
        (Some(Reason::UnknownWorker(Default::default())), "job"),
        (Some(Reason::UnknownJournal(Default::default())), "job"),
        (Some(Reason::WrongKind(Default::default())), "journal"),
        (Some(Reason::EpochFenced(Default::default())), "worker"),
        (Some(Reason::EpochFenced(no_successor)), "succession"),
        (
            Some(Reason::WriterFenced(Default::default())),
            "fencing token",
        ),
        (
            Some(Reason::CheckpointBeyondTail(Default::default())),
            "checkpoint id",
        ),
        (
            Some(Reason::CheckpointNotNewer(Default::default())),
            "worker",
        ),
        (
            Some(Reason::UnknownCheckpoint(Default::default())),
            "worker",
        ),
        (Some(Reason::NoRecoveryLine(Default::default())), "job"),
        (Some(Reason::NoRecoveryLine(bad_late)), "worker"),
        (
            Some(Reason::CutBelowCheckpoint(Default::default())),
            "journal",
        ),
        (Some(Reason::StaleEndpoint(Default::default())), "worker"),
    ];
    for (reason, field) in table {
        assert_eq!(field_of(Rejected::try_from(pb::Rejected { reason })), field);
    }
}

#[test]
fn a_text_of_another_version_becomes_a_general_one() {
    let many = pb::rejected::TooMany {
        what: "unicorns".to_owned(),
        count_max: 3,
    };
    let sent = pb::Outcome {
        outcome: Some(pb::outcome::Outcome::Rejected(pb::Rejected {
            reason: Some(pb::rejected::Reason::TooMany(many)),
        })),
    };
    let found: Result<Outcome, Rejected> = outcome_from_pb(Some(sent)).unwrap();
    let expected = Rejected::TooMany {
        what: what::OTHER,
        count_max: 3,
    };
    assert_eq!(found, Err(expected));
}
