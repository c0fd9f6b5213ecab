//! The thread that owns the watermarks and the writer of the log.

use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use galen_log::{Append, Refused, Watermarks};
use galen_proto::v1::{LogRecord, Progress, Queue};
use galen_runtime::{Backoff, Chain};
use tokio::sync::{mpsc, oneshot};

use crate::{
    ingest::{Limits, Metrics, Receipts, Rejected, Request},
    nodes::Nodes,
};

/// A group is closed at this size.
const GROUP_BYTES: u64 = 8 << 20;
/// A group is closed with this many requests.
const GROUP_REQUESTS: usize = 1024;
/// From the beginning of a group to that of the next. Events that come one by one, from thousands of agents, would
/// each be a sync of the disk and a wake-up of everyone who reads the log.
const GROUP_EVERY: Duration = Duration::from_millis(10);
/// First and longest wait before the log is opened again.
const REOPEN: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));
/// While the log is closed, requests are answered this often.
const REFUSE_EVERY: Duration = Duration::from_millis(50);

/// Runs on a thread of its own.
pub struct Worker {
    requests: mpsc::Receiver<Request>,
    log: Box<dyn Append>,
    watermarks: Watermarks,
    /// Why the log is not open at the start.
    closed: Option<galen_log::Error>,
    /// Told of what is logged, unless somebody else does.
    nodes: Option<Arc<Nodes>>,
    /// Of full events; `None`: all are.
    limits: Option<Limits>,
    metrics: Metrics,
    records: Vec<LogRecord>,
    answers: Vec<Answer>,
    closing: bool,
}

/// What is said when the group is durable.
enum Answer {
    Refuse {
        refused: Refused,
        receipts: Arc<Receipts>,
    },
    Welcome {
        node: Arc<str>,
        queues: Vec<Queue>,
        answer: oneshot::Sender<Result<Vec<Progress>, Rejected>>,
    },
    Ack {
        node: Arc<str>,
        epoch: u64,
        bytes: u64,
        /// That were new, and passed.
        logged: u64,
        duplicates: u64,
        events: u64,
        receipts: Arc<Receipts>,
        received: Instant,
    },
}

impl Worker {
    /// `opened`: the state that the log leads to, or why it is not open yet.
    pub(crate) fn new(
        requests: mpsc::Receiver<Request>,
        log: Box<dyn Append>,
        opened: Result<Watermarks, galen_log::Error>,
        nodes: Option<Arc<Nodes>>,
        limits: Option<Limits>,
        metrics: Metrics,
    ) -> Self {
        let (watermarks, closed) =
            opened.map_or_else(|error| (Watermarks::default(), Some(error)), |state| (state, None));
        if let Some(error) = &closed {
            // Known before anyone can ask.
            metrics.log_available.refused(error);
        }
        let (records, answers) = (Vec::new(), Vec::new());
        Self { requests, log, watermarks, closed, nodes, limits, metrics, records, answers, closing: false }
    }

    /// Until it is told to close, or nobody can ask any more. What was queued before is logged.
    pub fn run(mut self) {
        if let Some(error) = self.closed.take() {
            self.reopen(&error);
        }
        let mut next = Instant::now();
        while !self.closing
            && let Some(request) = self.requests.blocking_recv()
        {
            thread::sleep(next.saturating_duration_since(Instant::now()));
            next = Instant::now() + GROUP_EVERY;
            self.gather(request);
            if let Err(error) = self.commit() {
                self.metrics.disk_errors.inc();
                self.reopen(&error);
            }
        }
        self.requests.close();
        if let Err(error) = self.log.checkpoint(&self.watermarks) {
            tracing::warn!(error = %Chain(&error), "no snapshot of the watermarks at the end: the next start replays");
        }
    }

    /// Takes what is queued, up to the size of a group, and leaves out what is settled.
    fn gather(&mut self, first: Request) {
        let began = Instant::now();
        let now = now_unix_nanos();
        let mut bytes = 0;
        let mut next = Some(first);
        let mut requests = 0;
        while let Some(request) = next {
            match request {
                Request::Announce { node, queues, answer } => self.announce(node, queues, answer, now),
                Request::Batch(submission) => {
                    bytes += submission.bytes;
                    self.metrics.received_events.inc_by(submission.batch.events.len() as u64);
                    self.metrics.received_bytes.inc_by(submission.bytes);
                    self.metrics
                        .queue_seconds
                        .observe(began.saturating_duration_since(submission.received).as_secs_f64());
                    self.admit(submission, now);
                }
                Request::Tick => {}
                Request::Close => {
                    self.closing = true;
                    return;
                }
            }
            requests += 1;
            if bytes >= GROUP_BYTES || requests >= GROUP_REQUESTS {
                return;
            }
            next = self.requests.try_recv().ok();
        }
    }

    fn announce(
        &mut self,
        node: Arc<str>,
        queues: Vec<Queue>,
        answer: oneshot::Sender<Result<Vec<Progress>, Rejected>>,
        now: i64,
    ) {
        let records = match self.log.known(&node, &queues, now) {
            Some(known) => {
                self.watermarks.merge(known);
                self.watermarks.believe(&node, &queues, now);
                Vec::new()
            }
            None => self.watermarks.announce(&node, &queues, now),
        };
        for record in &records {
            tracing::warn!(
                node = %node,
                epoch = format_args!("{:016x}", record.epoch),
                ranges = ?record.lost,
                "the agent was acknowledged what this log does not hold: declared lost"
            );
        }
        self.records.extend(records);
        self.answers.push(Answer::Welcome { node, queues, answer });
    }

    fn admit(&mut self, submission: super::Submission, now: i64) {
        let super::Submission { node, batch, bytes, receipts, received, _place } = submission;
        let (epoch, events) = (batch.epoch, batch.events.len() as u64);
        let admitted = match &self.limits {
            _ if receipts.is_rejected() => Err(None),
            None => self.watermarks.admit(&node, batch, now).map_err(Some),
            Some(limits) => {
                let mut door = limits.door(&node);
                self.watermarks.admit_some(&node, batch, now, |event| door.over(event)).map_err(Some)
            }
        };
        match admitted {
            Ok(admitted) => {
                let duplicates = admitted.duplicates;
                let logged = events - duplicates - admitted.limited;
                self.records.extend(admitted.records);
                self.answers.push(Answer::Ack { node, epoch, bytes, logged, duplicates, events, receipts, received });
            }
            Err(refused) => {
                self.metrics.rejected_events.with_label_values(&["refused"]).inc_by(events);
                if let Some(refused) = refused {
                    // Said when the group is durable, so that it comes behind the acknowledgements.
                    self.answers.push(Answer::Refuse { refused, receipts });
                }
            }
        }
    }

    /// Makes the group durable, and says so.
    fn commit(&mut self) -> Result<(), galen_log::Error> {
        if !self.records.is_empty() {
            let began = Instant::now();
            self.log.append(&self.records)?;
            self.metrics.commit_seconds.observe(began.elapsed().as_secs_f64());
            self.metrics.groups.inc();
            if let Some(nodes) = &self.nodes {
                nodes.logged(&self.records, &self.watermarks);
            }
            // The batches end here, and with them the memory that their events are slices of.
            self.records.clear();
        }
        let durable = Instant::now();
        let mut answers = std::mem::take(&mut self.answers);
        for answer in answers.drain(..) {
            self.answer(answer, durable);
        }
        self.answers = answers;
        self.metrics.queues_forgotten.set(self.watermarks.evicted() as i64);
        if self.log.checkpoint_due() {
            self.log.checkpoint(&self.watermarks)?;
        }
        Ok(())
    }

    fn answer(&self, answer: Answer, durable: Instant) {
        match answer {
            Answer::Refuse { refused, receipts } => receipts.reject(refused.into()),
            Answer::Welcome { node, queues, answer } => {
                let progress = queues.iter().map(|queue| self.progress(&node, queue.epoch)).collect();
                // The session may be gone; then nobody wants to know.
                let _ = answer.send(Ok(progress));
            }
            Answer::Ack { node, epoch, bytes, logged, duplicates, events, receipts, received } => {
                self.metrics.logged_events.inc_by(logged);
                self.metrics.deduplicated_events.inc_by(duplicates);
                self.metrics.limited_events.inc_by(events - logged - duplicates);
                self.metrics.durable_seconds.observe(durable.saturating_duration_since(received).as_secs_f64());
                receipts.settle(self.progress(&node, epoch), bytes);
            }
        }
    }

    fn progress(&self, node: &str, epoch: u64) -> Progress {
        self.watermarks.progress(node, epoch).unwrap_or(Progress { epoch, ..Progress::default() })
    }

    /// Refuses everything until the log is open again.
    fn reopen(&mut self, error: &galen_log::Error) {
        tracing::error!(error = %Chain(error), "the log cannot be written: agents are refused until it can");
        self.metrics.log_available.refused(error);
        self.records.clear();
        for answer in std::mem::take(&mut self.answers) {
            match answer {
                Answer::Welcome { answer, .. } => drop(answer.send(Err(Rejected::Unavailable))),
                Answer::Ack { receipts, events, .. } => self.refuse(&receipts, events),
                Answer::Refuse { refused, receipts } => receipts.reject(refused.into()),
            }
        }
        let mut backoff = Backoff::new(REOPEN.0, REOPEN.1);
        loop {
            let until = Instant::now() + backoff.next();
            while Instant::now() < until && !self.closing {
                self.refuse_queued();
                thread::sleep(REFUSE_EVERY.min(until.saturating_duration_since(Instant::now())));
            }
            if self.closing {
                return;
            }
            match self.log.reopen() {
                Ok(watermarks) => {
                    self.watermarks = watermarks;
                    self.metrics.log_available.opened();
                    tracing::info!("the log is open again");
                    return;
                }
                Err(error) => {
                    tracing::warn!(error = %Chain(&error), "the log still cannot be written");
                    self.metrics.log_available.refused(&error);
                }
            }
        }
    }

    fn refuse_queued(&mut self) {
        loop {
            match self.requests.try_recv() {
                Ok(Request::Announce { answer, .. }) => drop(answer.send(Err(Rejected::Unavailable))),
                Ok(Request::Batch(submission)) => {
                    let events = submission.batch.events.len() as u64;
                    self.metrics.received_events.inc_by(events);
                    self.refuse(&submission.receipts, events);
                }
                Ok(Request::Tick) => {}
                Ok(Request::Close) | Err(mpsc::error::TryRecvError::Disconnected) => {
                    self.closing = true;
                    return;
                }
                Err(mpsc::error::TryRecvError::Empty) => return,
            }
        }
    }

    fn refuse(&self, receipts: &Receipts, events: u64) {
        self.metrics.rejected_events.with_label_values(&["unavailable"]).inc_by(events);
        receipts.reject(Rejected::Unavailable);
    }
}

/// The wall clock: nanoseconds since 1970-01-01 UTC, zero before.
pub fn now_unix_nanos() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}
