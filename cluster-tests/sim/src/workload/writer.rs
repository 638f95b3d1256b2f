//! One writer of one journal: opens, appends unique records, closes or breaks off, opens again.

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;
use dos_cluster::{
    client::{AppendOptions, AppendProgress, AppendStream, ClientError},
    domain::{Epoch, JournalKind},
};
use dos_jepsen::{Event, Name, OpId};
use tokio::{task::spawn_local, time::sleep};

use super::{Incarnation, Meaning, reader};
use crate::recorder::Phase;

/// How long a stream goes without progress before it fails.
const GIVE_UP_AFTER: Duration = Duration::from_secs(8);

pub(super) async fn run(life: Incarnation, journal: &'static str) {
    let worker = life.worker.clone();
    let name = worker.journal(journal);
    let mut number = 0;
    while !life.ends() {
        let stream = worker.recorder.next_op();
        worker.recorder.push(Event::Opening {
            stream,
            worker: worker.name.into(),
            journal: name.clone(),
            epoch: life.epoch,
        });
        let client = if worker.dice(|dice| dice.percent(50)) {
            life.client.clone()
        } else {
            worker.client()
        };
        let mut options = AppendOptions::of(&client);
        options.window_bytes = 64 << 10;
        options.give_up_after = Some(GIVE_UP_AFTER);
        let journal_ref = life.journal_ref(journal);
        let opened = AppendStream::open(
            &client,
            &journal_ref,
            JournalKind::Raw,
            Epoch(life.epoch),
            None,
            options,
        )
        .await;
        let ended = match opened {
            Err(error) => Err(error),
            Ok(appends) => {
                worker.recorder.push(Event::Opened {
                    stream,
                    at: appends.opened_at().0,
                });
                let mut writer = Writer {
                    life: life.clone(),
                    journal,
                    name: name.clone(),
                    stream,
                    told: AppendProgress::default(),
                    pending: VecDeque::new(),
                };
                writer.heard(appends.watch().progress());
                let ended = writer.write(appends, &mut number).await;
                if ended.is_err() && !writer.pending.is_empty() {
                    worker.recorder.unknown();
                }
                ended
            }
        };
        if let Err(error) = ended {
            if worker.meaning("append", &error) == Meaning::Fenced {
                life.fenced.set(true);
            }
            sleep(worker.dice(|dice| dice.millis(10, 300))).await;
        }
    }
}

/// One open stream.
struct Writer {
    life: Incarnation,
    journal: &'static str,
    name: Name,
    stream: OpId,
    told: AppendProgress,
    /// The ends of records that are not durable.
    pending: VecDeque<u64>,
}

impl Writer {
    /// Appends some records, then closes the stream, or leaves it as it is.
    async fn write(
        &mut self,
        mut appends: AppendStream,
        number: &mut u64,
    ) -> Result<(), ClientError> {
        let worker = self.life.worker.clone();
        let mut watch = appends.watch();
        let records = worker.dice(|dice| dice.between(1, 120));
        let mut left = records;
        let think_max = worker.plan.think_max.as_millis() as u64;
        while left > 0 && !self.life.ends() {
            tokio::select! {
                biased;
                alive = watch.changed() => {
                    if !alive {
                        break; // the close below says why
                    }
                    self.heard(watch.progress());
                }
                () = sleep(worker.dice(|dice| dice.millis(0, think_max))) => {
                    left -= 1;
                    *number += 1;
                    let bytes = self.record(*number);
                    let at = appends.end().0;
                    worker.recorder.push(Event::Sent { stream: self.stream, at, bytes: bytes.clone() });
                    self.pending.push_back(at + bytes.len() as u64);
                    appends.append(bytes).await?;
                    self.heard(watch.progress());
                }
            }
        }
        if worker.phase() != Phase::Drain && left == 0 && worker.dice(|dice| dice.percent(25)) {
            // Broken off, as by a crash of the worker: what was on its way may arrive or not.
            return Ok(());
        }
        let progress = appends.close().await?;
        self.heard(progress);
        Ok(())
    }

    /// A record that occurs once: who, which, and noise.
    fn record(&self, number: u64) -> Bytes {
        let worker = &self.life.worker;
        let (long, length) = worker.dice(|dice| {
            (
                dice.percent(1),
                dice.between(0, worker.plan.record_bytes_max),
            )
        });
        let length = if long { 40_000 } else { length };
        let mut record = format!(
            "<{} e{} s{} #{number}:",
            self.name, self.life.epoch, self.stream
        )
        .into_bytes();
        let mut noise = worker.dice(|dice| dice.next());
        for _ in 0..length {
            noise = noise
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            record.push(b'a' + u8::try_from((noise >> 33) % 26).unwrap_or_default());
        }
        record.push(b'>');
        record.into()
    }

    /// Takes in what the stream was told.
    fn heard(&mut self, told: AppendProgress) {
        if told == self.told {
            return;
        }
        let before = std::mem::replace(&mut self.told, told);
        let worker = &self.life.worker;
        let recorder = &worker.recorder;
        let (written, durable) = (told.written.0, told.durable.0);
        recorder.push(Event::Progress {
            stream: self.stream,
            written,
            durable,
            log_index: told.log_index,
        });
        self.life
            .durable
            .borrow_mut()
            .insert(self.name.clone(), durable);
        while self.pending.front().is_some_and(|end| *end <= durable) {
            self.pending.pop_front();
            recorder.report.borrow_mut().acknowledged += 1;
            recorder
                .acknowledged_at
                .borrow_mut()
                .insert(self.name.clone(), recorder.elapsed());
        }
        // More is durable by an older index: what a re-open found, and so what is easily promised wrongly.
        let chance = if told.log_index == before.log_index {
            50
        } else {
            2
        };
        if told.durable > before.durable && worker.dice(|dice| dice.percent(chance)) {
            let read = reader::read_acknowledged(worker.clone(), self.journal, told.log_index);
            drop(spawn_local(read));
        }
        if told.log_index > 0 {
            recorder
                .log_index
                .borrow_mut()
                .insert(self.name.clone(), told.log_index);
        }
    }
}
