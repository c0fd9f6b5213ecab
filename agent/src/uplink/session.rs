//! One session: from the hello until the stream ends, for whatever reason.
//!
//! Sends only what the buffer says is durable. Forgets only what the aggregator says is settled. Everything else, such
//! as what is in flight when the stream breaks, is decided anew by the next welcome.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use galen_buffer::Buffer;
use galen_proto::{
    PROTOCOL,
    v1::{
        Account, Ack, AgentMessage, AggregatorMessage, Batch, CommandResult, Heartbeat, Hello, Loss, LossCounter,
        Queue, Range, Welcome, agent_message, agent_service_client::AgentServiceClient, aggregator_message,
    },
};
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval, sleep_until, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Streaming, transport::Channel};
use tracing::{info, warn};

use super::{
    Node,
    compare::compare,
    error::Error,
    plan::{Plan, Turn},
};
use crate::{budget::Budget, clock};

/// Messages between the session and the connection: enough to keep it busy, few enough that credit decides.
const OUTBOUND: usize = 4;
/// How long the aggregator may take to answer the hello.
const WELCOME_TIMEOUT: Duration = Duration::from_secs(10);
/// Intervals without a message after which the other side is taken for dead.
const SILENT_INTERVALS: u32 = 3;
/// Shortest and longest heartbeat interval that an aggregator may ask for.
const HEARTBEAT_MILLIS: std::ops::RangeInclusive<u32> = 100..=300_000;
/// Events a batch when the aggregator allows more: beyond this nothing is gained.
const BATCH_EVENTS: u64 = 256;
/// Bytes a batch when the aggregator allows more.
const BATCH_BYTES: u64 = 256 << 10;
/// Bytes of a batch's frame that are not events, at most.
const BATCH_OVERHEAD: u64 = 64;

pub(super) struct Session<'a> {
    node: &'a Node,
    buffer: &'a Buffer,
    budget: &'a Budget,
    outbound: mpsc::Sender<AgentMessage>,
    plan: Plan,
    limits: Limits,
    /// Losses of each queue that this session has reported, by their first number.
    reported: HashMap<u64, Vec<Range>>,
    /// Counters of each queue as this session has reported them.
    counters: HashMap<u64, Vec<LossCounter>>,
    /// Batches that were sent.
    batches: u64,
    /// Counters that went with batches that are not settled, by the number of the batch.
    unsettled: VecDeque<(u64, u64, Vec<galen_buffer::LossCounter>)>,
    not_before: Option<Instant>,
    /// The aggregator is about to end, and is to be left alone for so long.
    pub(super) goodbye: Option<Duration>,
    /// Commands that are not done yet. Those beyond what `Control` takes fail at once, so they are few.
    commands: FuturesUnordered<BoxFuture<'static, CommandResult>>,
    /// Whether the aggregator has settled anything in this session.
    pub(super) progressed: bool,
}

struct Limits {
    batch_events: u64,
    batch_bytes: u64,
    heartbeat: Duration,
}

impl Limits {
    fn of(welcome: &Welcome) -> Self {
        let heartbeat = welcome.heartbeat_millis.clamp(*HEARTBEAT_MILLIS.start(), *HEARTBEAT_MILLIS.end());
        Self {
            batch_events: u64::from(welcome.max_batch_events).clamp(1, BATCH_EVENTS),
            batch_bytes: welcome.max_batch_bytes.saturating_sub(BATCH_OVERHEAD).clamp(1, BATCH_BYTES),
            heartbeat: Duration::from_millis(heartbeat.into()),
        }
    }
}

/// Opens the stream, says hello and waits for the welcome.
pub(super) async fn open<'a>(
    channel: Channel,
    node: &'a Node,
    buffer: &'a Buffer,
    budget: &'a Budget,
) -> Result<(Session<'a>, Streaming<AggregatorMessage>), Error> {
    let held = buffer.queues();
    let queues: Vec<Queue> = held.iter().map(to_wire).collect();
    let hello = Hello {
        protocol: PROTOCOL,
        node: node.name.clone(),
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        queues: queues.clone(),
        tracers: (node.tracers)(),
        settings: node.control.standing().changes,
    };
    let (outbound, receiver) = mpsc::channel(OUTBOUND);
    send(&outbound, agent_message::Message::Hello(hello)).await?;
    let opening = async {
        let mut client = AgentServiceClient::new(channel).max_decoding_message_size(1 << 20);
        let mut inbound = client.session(ReceiverStream::new(receiver)).await?.into_inner();
        loop {
            match inbound.message().await?.ok_or(Error::Ended)?.message {
                Some(aggregator_message::Message::Welcome(welcome)) => return Ok((welcome, inbound)),
                Some(_) => return Err(Error::NoWelcome),
                None => {}
            }
        }
    };
    let (welcome, inbound) = timeout(WELCOME_TIMEOUT, opening).await.map_err(|_| Error::WelcomeTimeout)??;
    if welcome.protocol != PROTOCOL {
        return Err(Error::Protocol { theirs: welcome.protocol });
    }
    if let Some(newest) = held.last() {
        compare(buffer, newest, &welcome.progress).await?;
    }
    for progress in &welcome.progress {
        buffer.ack(progress.epoch, progress.upto);
    }
    node.figures.begun.inc();
    info!(queues = queues.len(), credit_bytes = welcome.credit_bytes, "connected to the aggregator");
    let session = Session {
        node,
        buffer,
        budget,
        outbound,
        plan: Plan::new(&queues, &welcome.progress, welcome.credit_bytes),
        limits: Limits::of(&welcome),
        reported: HashMap::new(),
        counters: HashMap::new(),
        batches: 0,
        unsettled: VecDeque::new(),
        not_before: None,
        goodbye: None,
        commands: FuturesUnordered::new(),
        progressed: false,
    };
    Ok((session, inbound))
}

impl Session<'_> {
    /// Runs until the stream ends, or until `stop` is cancelled and nothing is left to send.
    pub(super) async fn run(
        &mut self,
        mut inbound: Streaming<AggregatorMessage>,
        stop: &CancellationToken,
    ) -> Result<(), Error> {
        let mut durable = self.buffer.durable();
        let mut heartbeat = interval(self.limits.heartbeat);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let silence = self.limits.heartbeat * SILENT_INTERVALS;
        let mut heard = Instant::now();
        self.report_losses().await?;
        loop {
            if stop.is_cancelled() {
                // What was recorded before the stop is durable by now, but may not have been seen here.
                let now = *durable.borrow();
                if now.epoch == self.plan.newest_epoch() {
                    self.plan.grow(now.next_seq);
                }
                if self.plan.is_drained() {
                    return Ok(());
                }
            }
            if let Some(away) = self.goodbye
                && self.plan.awaits_nothing()
            {
                return Err(Error::Goodbye { away });
            }
            let may_send = self.plan.has_turn() && self.not_before.is_none() && self.goodbye.is_none();
            tokio::select! {
                biased;
                message = inbound.message() => {
                    heard = Instant::now();
                    self.receive(message?.ok_or(Error::Ended)?)?;
                }
                permit = self.outbound.clone().reserve_owned(), if may_send => {
                    let permit = permit.map_err(|_| Error::Ended)?;
                    if let Some(batch) = self.next_batch().await? {
                        self.count(&batch);
                        permit.send(wrap(agent_message::Message::Batch(batch)));
                    }
                }
                () = until(self.not_before), if self.not_before.is_some() => self.not_before = None,
                changed = durable.changed() => {
                    changed.map_err(|_| Error::BufferClosed)?;
                    let now = *durable.borrow_and_update();
                    if now.epoch != self.plan.newest_epoch() {
                        return Err(Error::NewQueue);
                    }
                    self.plan.grow(now.next_seq);
                    self.report_losses().await?;
                }
                _ = heartbeat.tick() => {
                    if heard.elapsed() > silence {
                        return Err(Error::Silent(silence));
                    }
                    self.report_losses().await?;
                    self.beat().await?;
                }
                Some(done) = self.commands.next() => {
                    // What it changed is told before it is said to be done.
                    self.beat().await?;
                    send(&self.outbound, agent_message::Message::CommandResult(done)).await?;
                }
                () = stop.cancelled(), if !stop.is_cancelled() => {}
            }
        }
    }

    fn receive(&mut self, message: AggregatorMessage) -> Result<(), Error> {
        match message.message {
            Some(aggregator_message::Message::Ack(ack)) => self.acknowledged(ack),
            Some(aggregator_message::Message::Command(command)) => {
                self.commands.push(Box::pin(self.node.control.obey(command)));
            }
            Some(aggregator_message::Message::Budget(budget)) => self.budget.lower(budget),
            Some(aggregator_message::Message::Goodbye(goodbye)) => {
                let millis = goodbye.return_after_millis.min(*HEARTBEAT_MILLIS.end());
                self.goodbye = Some(Duration::from_millis(millis.into()));
            }
            Some(aggregator_message::Message::Welcome(_)) => return Err(Error::SecondWelcome),
            Some(aggregator_message::Message::Heartbeat(_)) | None => {}
        }
        Ok(())
    }

    fn acknowledged(&mut self, ack: Ack) {
        self.plan.set_credit(ack.credit_bytes);
        while let Some((_, epoch, counters)) = self.unsettled.pop_front_if(|(batch, ..)| *batch <= ack.batches) {
            self.buffer.settle_counters(epoch, &counters);
        }
        if ack.retry_after_millis > 0 {
            let wait = Duration::from_millis(ack.retry_after_millis.min(*HEARTBEAT_MILLIS.end()).into());
            self.not_before = Some(Instant::now() + wait);
        }
        if let Some(progress) = ack.progress {
            self.progressed = true;
            self.plan.acknowledged(&progress);
            self.buffer.ack(progress.epoch, progress.upto);
        }
    }

    async fn beat(&mut self) -> Result<(), Error> {
        let stats = self.buffer.stats();
        let figures = self.node.registry.measures();
        let heartbeat = Heartbeat {
            sent_unix_nanos: clock::unix_nanos(),
            tracers: (self.node.tracers)(),
            backlog_events: stats.events_unacked,
            buffer_bytes: stats.bytes_on_disk,
            settings_error: self.node.control.standing().error,
            measures: figures.measures,
            measures_left_out: figures.left_out,
            queues: self.buffer.queues().iter().map(to_wire).collect(),
        };
        send(&self.outbound, agent_message::Message::Heartbeat(heartbeat)).await
    }

    /// Reads the stretch whose turn it is. `None` if the buffer has nothing there any more.
    async fn next_batch(&mut self) -> Result<Option<Batch>, Error> {
        let Some(Turn { epoch, from, max_events }) = self.plan.turn() else { return Ok(None) };
        let max_events = max_events.min(self.limits.batch_events);
        let max_bytes = self.plan.allowance().min(self.limits.batch_bytes);
        let buffer = self.buffer.clone();
        let read = move || buffer.read(epoch, from, max_events as usize, max_bytes as usize);
        let read = tokio::task::spawn_blocking(read).await.map_err(|_| Error::BufferClosed)??;

        // A lane ends where its turn ends: what the buffer found beyond a loss belongs to another turn.
        let end = from.saturating_add(max_events);
        let events: Vec<(u64, Bytes)> = read.into_iter().take_while(|(seq, _)| *seq < end).collect();
        let (Some(&(first, _)), Some(&(last, _))) = (events.first(), events.last()) else {
            self.plan.skip(end - 1);
            self.report_losses().await?;
            return Ok(None);
        };
        let bytes = events.iter().map(|(_, event)| event.len() as u64).sum();
        self.plan.sent(epoch, Range { first, last }, bytes);
        if first > from {
            self.report_losses().await?;
        }
        let (queue, counters) = self.buffer.account(epoch).ok_or(galen_buffer::Error::UnknownEpoch(epoch))?;
        Ok(Some(Batch {
            epoch,
            first_seq: first,
            events: events.into_iter().map(|(_, event)| event).collect(),
            lost: Vec::new(),
            next_seq: queue.next_seq,
            counters: self.news(epoch, counters),
            account: to_wire(&queue).account,
        }))
    }

    /// Sends, for each queue, the losses and the counters that this session has not sent yet. Fails if there are queues
    /// that the hello did not announce.
    async fn report_losses(&mut self) -> Result<(), Error> {
        let queues = self.buffer.queues();
        if queues.last().is_some_and(|newest| newest.epoch != self.plan.newest_epoch()) {
            return Err(Error::NewQueue);
        }
        for epoch in queues.into_iter().map(|queue| queue.epoch) {
            let reported = self.reported.entry(epoch).or_default();
            let mut lost = Vec::new();
            for loss in self.buffer.losses(epoch) {
                let range = Range { first: loss.first, last: loss.last };
                if !reported.contains(&range) {
                    warn!(first = loss.first, last = loss.last, reason = ?loss.reason, "the buffer has lost events");
                    reported.push(range);
                    lost.push(Loss { range: Some(range), reason: loss.reason.0, ..Loss::default() });
                }
            }
            // It may be gone by now, because all of it is settled.
            let Some((queue, counters)) = self.buffer.account(epoch) else { continue };
            let counters = self.news(epoch, counters);
            if lost.is_empty() && counters.is_empty() {
                continue;
            }
            let batch = Batch {
                epoch,
                first_seq: 0,
                events: Vec::new(),
                lost,
                next_seq: queue.next_seq,
                counters,
                account: to_wire(&queue).account,
            };
            self.count(&batch);
            send(&self.outbound, agent_message::Message::Batch(batch)).await?;
        }
        Ok(())
    }

    /// Numbers a batch that is about to be sent.
    fn count(&mut self, batch: &Batch) {
        self.batches += 1;
        self.node.figures.events.inc_by(batch.events.len() as u64);
        self.node.figures.bytes.inc_by(batch.events.iter().map(|event| event.len() as u64).sum());
        if !batch.counters.is_empty() {
            let sent = batch.counters.iter().map(to_buffer).collect();
            self.unsettled.push_back((self.batches, batch.epoch, sent));
        }
    }

    /// Of the counters of a queue, those that changed since they were last sent.
    fn news(&mut self, epoch: u64, counters: Vec<galen_buffer::LossCounter>) -> Vec<LossCounter> {
        let now: Vec<_> = counters
            .into_iter()
            .map(|counter| LossCounter { reason: counter.reason.0, tracer: counter.tracer, count: counter.count })
            .collect();
        let before = self.counters.entry(epoch).or_default();
        let changed = now.iter().filter(|counter| !before.contains(counter)).cloned().collect();
        *before = now;
        changed
    }
}

fn to_wire(queue: &galen_buffer::Queue) -> Queue {
    let galen_buffer::Queue { epoch, first_unacked, next_seq, observed, counted, waiting, .. } = *queue;
    Queue { epoch, first_unacked, next_seq, account: Some(Account { observed, counted, waiting }) }
}

/// The wire's counter as the buffer knows it.
fn to_buffer(counter: &LossCounter) -> galen_buffer::LossCounter {
    galen_buffer::LossCounter {
        reason: galen_buffer::LossReasonCode(counter.reason),
        tracer: counter.tracer.clone(),
        count: counter.count,
    }
}

async fn send(outbound: &mpsc::Sender<AgentMessage>, message: agent_message::Message) -> Result<(), Error> {
    outbound.send(wrap(message)).await.map_err(|_| Error::Ended)
}

fn wrap(message: agent_message::Message) -> AgentMessage {
    AgentMessage { message: Some(message) }
}

async fn until(instant: Option<Instant>) {
    if let Some(instant) = instant {
        sleep_until(instant).await;
    }
}
