//! One session, from its hello to its end.

use std::{
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use galen_proto::v1::{
    Ack, AgentMessage, AggregatorMessage, Batch, Command, CommandOutcome, CommandResult, Goodbye, Heartbeat, Hello,
    Welcome, agent_message, aggregator_message,
};
use galen_runtime::BoxError;
use prost::Message;
use tokio::{
    sync::mpsc::{self, error::SendTimeoutError},
    time::{Instant, MissedTickBehavior, interval, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, Streaming};

use crate::{
    caller::Caller,
    control::outcome_name,
    ingest::{Receipts, Rejected, now_unix_nanos},
    session::{
        Announced, Refusal, Seat, Sessions,
        commands::{Answered, Commands},
        refusal::AWAY,
    },
};

/// Heartbeats that may be missed.
const PATIENCE: u32 = 3;

/// Boxed, because a channel has room for 32 from its beginning.
pub(super) type Answer = Box<Result<AggregatorMessage, Status>>;
type Outbox = mpsc::Sender<Answer>;
type Submission = Pin<Box<dyn Future<Output = Result<(), Rejected>> + Send>>;

/// How a session ends that nobody ended.
enum End {
    /// The agent closed its side, or its connection is gone.
    Left,
    Refused(Refusal),
}

impl From<Refusal> for End {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<Rejected> for End {
    fn from(rejected: Rejected) -> Self {
        Self::Refused(rejected.into())
    }
}

/// Runs a session of `caller`; its end is an answer to the agent, never an error of the task. `cut` ends its connection.
///
/// An `async fn` would have room for its arguments twice, and there are thousands of them.
pub(super) fn run(
    sessions: Arc<Sessions>,
    mut inbox: Streaming<AgentMessage>,
    outbox: Outbox,
    caller: Caller,
    cut: Option<CancellationToken>,
) -> impl Future<Output = Result<(), BoxError>> {
    let shutdown = sessions.supervisor.token();
    async move {
        // Kept free for the reason that the session ends with.
        let Ok(last_word) = outbox.clone().reserve_owned().await else { return Ok(()) };
        let mut node = String::new();
        let ended = {
            // Pinned where it is, and what is needed only to begin in a box that goes.
            let session = pin!(async {
                let mut session = Box::pin(async {
                    let terms = &sessions.terms;
                    let (hello, announced) = greet(&mut inbox, terms.limits.batch_bytes, terms.hello).await?;
                    node.clone_from(&hello.node);
                    let other = |certificate| Refusal::OtherNode { node: hello.node.clone(), certificate };
                    caller.speaks_for(&hello.node).map_err(other)?;
                    Session::begin(Arc::clone(&sessions), hello, announced, outbox).await
                })
                .await?;
                let replaced = session.seat.replaced.clone();
                tokio::select! {
                    biased;
                    () = replaced.cancelled() => Err(End::from(Refusal::Replaced)),
                    end = session.serve(&mut inbox) => end,
                }
            });
            tokio::select! {
                biased;
                () = shutdown.cancelled() => Err(End::from(Refusal::ShuttingDown)),
                ended = session => ended,
            }
        };
        sessions.metrics.connected.set(sessions.seats.count() as i64);
        match ended {
            Ok(never) => match never {},
            Err(End::Left) => sessions.metrics.ended.with_label_values(&["left"]).inc(),
            Err(End::Refused(refusal)) => {
                tracing::info!(node, reason = %refusal, "session ended");
                // It would not read the reason either, and hold its place for ever.
                if let (Refusal::NotReading, Some(cut)) = (&refusal, &cut) {
                    cut.cancel();
                }
                sessions.metrics.ended.with_label_values(&[refusal.label()]).inc();
                last_word.send(Box::new(Err(Status::from(&refusal))));
            }
        }
        Ok(())
    }
}

/// Waits for a valid hello.
async fn greet(inbox: &mut Streaming<AgentMessage>, limit: u64, patience: Duration) -> Result<(Hello, Announced), End> {
    let first = timeout(patience, inbox.message()).await.map_err(|_| Refusal::NoHello)?;
    match received(first, limit)?.message {
        Some(agent_message::Message::Hello(hello)) => {
            let announced = Announced::new(&hello)?;
            Ok((hello, announced))
        }
        _ => Err(Refusal::NoHello.into()),
    }
}

/// Tells a message that cannot be understood from a connection that is gone.
fn received(message: Result<Option<AgentMessage>, Status>, limit: u64) -> Result<AgentMessage, End> {
    match message {
        Ok(Some(message)) => Ok(message),
        Ok(None) => Err(End::Left),
        Err(status) => match status.code() {
            Code::OutOfRange => Err(Refusal::TooLarge { limit }.into()),
            // The decoder's own errors have no source; those of the connection have.
            Code::Internal | Code::Unimplemented if std::error::Error::source(&status).is_none() => {
                Err(Refusal::Undecodable(status.message().to_owned()).into())
            }
            _ => Err(End::Left),
        },
    }
}

/// A session after its hello.
struct Session {
    sessions: Arc<Sessions>,
    seat: Seat,
    announced: Announced,
    receipts: Arc<Receipts>,
    outbox: Outbox,
    /// Size of the batches that were handed on and are not settled.
    underway: u64,
    /// Batches of this session that were settled.
    settled: u64,
    /// Waits for its place in the queue. Until it has one, nothing more is read.
    waiting: Option<Submission>,
    commands: Commands,
    heard: Instant,
    presence: Presence,
}

/// How far the session is on its way out.
#[derive(Debug, Clone, Copy)]
enum Presence {
    Stays,
    /// The agent was told goodbye, and may leave until then.
    MayLeave(Instant),
    /// Nothing more is read. Once all that was is acknowledged, the session ends.
    Closing,
}

/// What a session does next.
enum Step {
    Message(Result<Option<AgentMessage>, Status>),
    Queued(Result<(), Rejected>),
    Settled,
    Tick,
    Order(Command),
    Goodbye,
    Close,
    Gone,
}

impl Session {
    async fn begin(
        sessions: Arc<Sessions>,
        hello: Hello,
        mut announced: Announced,
        outbox: Outbox,
    ) -> Result<Self, End> {
        let seat = sessions.seats.take(&hello.node)?;
        sessions.metrics.begun.inc();
        sessions.metrics.connected.set(sessions.seats.count() as i64);
        let queues = hello.queues.clone();
        // From here on what changes comes as an order, behind these.
        let commands = Commands::new(sessions.desired.of(&hello.node).commands(&hello));
        sessions.nodes.connected(&seat.node, hello, now_unix_nanos());
        let progress = sessions.ingest.announce(Arc::clone(&seat.node), queues).await?;
        announced.progress(&progress);
        let terms = sessions.terms;
        let welcome = Welcome {
            protocol: galen_proto::PROTOCOL,
            progress,
            credit_bytes: sessions.credit(),
            max_batch_bytes: terms.limits.batch_bytes,
            max_batch_events: terms.limits.batch_events as u32,
            heartbeat_millis: terms.heartbeat.as_millis() as u32,
        };
        let welcome = aggregator_message::Message::Welcome(welcome);
        outbox.send(Box::new(Ok(AggregatorMessage { message: Some(welcome) }))).await.map_err(|_| End::Left)?;
        Ok(Self {
            sessions,
            seat,
            announced,
            receipts: Arc::default(),
            outbox,
            underway: 0,
            settled: 0,
            waiting: None,
            commands,
            heard: Instant::now(),
            presence: Presence::Stays,
        })
    }

    async fn serve(&mut self, inbox: &mut Streaming<AgentMessage>) -> Result<std::convert::Infallible, End> {
        let mut ticks = interval(self.sessions.terms.heartbeat);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let leaving = self.sessions.leaving.clone();
        let mut turn = pin!(leaving.turn());
        loop {
            let (stays, closing) =
                (matches!(self.presence, Presence::Stays), matches!(self.presence, Presence::Closing));
            if closing && self.waiting.is_none() && self.underway == 0 {
                return Err(Refusal::ShuttingDown.into());
            }
            let reads = !closing && self.waiting.is_none() && self.underway < self.sessions.terms.credit;
            let orders = self.commands.has_room();
            let receipts = Arc::clone(&self.receipts);
            let step = tokio::select! {
                biased;
                () = receipts.wait() => Step::Settled,
                queued = queued(&mut self.waiting) => Step::Queued(queued),
                _ = ticks.tick() => Step::Tick,
                () = &mut turn, if stays => Step::Goodbye,
                () = may_leave(self.presence) => Step::Close,
                command = self.commands.next(&self.seat.orders), if orders => Step::Order(command),
                message = inbox.message(), if reads => Step::Message(message),
                () = self.outbox.closed() => Step::Gone,
            };
            match step {
                Step::Message(message) => self.take(received(message, self.sessions.terms.limits.batch_bytes)?)?,
                Step::Queued(queued) => {
                    self.waiting = None;
                    queued?;
                }
                Step::Settled => {
                    self.acknowledge().await?;
                    // That is as good as a heartbeat.
                    ticks.reset();
                }
                Step::Tick => self.beat(reads).await?,
                Step::Order(command) => {
                    self.sessions.control_metrics.sent.inc();
                    self.send(aggregator_message::Message::Command(command)).await?;
                }
                Step::Goodbye => {
                    self.presence = Presence::MayLeave(Instant::now() + leaving.grace());
                    let goodbye = Goodbye { return_after_millis: AWAY.as_millis() as u32 };
                    self.send(aggregator_message::Message::Goodbye(goodbye)).await?;
                }
                Step::Close => self.presence = Presence::Closing,
                Step::Gone => return Err(End::Left),
            }
        }
    }

    fn take(&mut self, message: AgentMessage) -> Result<(), End> {
        self.heard = Instant::now();
        match message.message {
            Some(agent_message::Message::Batch(batch)) => self.submit(batch)?,
            Some(agent_message::Message::Heartbeat(heartbeat)) => {
                self.sessions.nodes.heartbeat(&self.seat.node, heartbeat, now_unix_nanos());
            }
            Some(agent_message::Message::Hello(_)) => return Err(Refusal::SecondHello.into()),
            Some(agent_message::Message::CommandResult(result)) => self.answered(result),
            // One of a later version.
            None => {}
        }
        Ok(())
    }

    fn answered(&mut self, result: CommandResult) {
        let label = outcome_name(result.outcome());
        match self.commands.answered(result) {
            Answered::Told => {}
            Answered::Alone(result) if result.outcome() == CommandOutcome::Done => {}
            Answered::Alone(result) => {
                let node = &self.seat.node;
                tracing::warn!(%node, outcome = label, detail = result.detail, "a node does not do what has to hold there");
            }
            // Given up, or never sent.
            Answered::Unasked => return,
        }
        self.sessions.control_metrics.answered.with_label_values(&[label]).inc();
    }

    fn submit(&mut self, batch: Batch) -> Result<(), Refusal> {
        let bytes = batch.encoded_len() as u64;
        if let Err(refusal) = self.announced.check(&batch, bytes, &self.sessions.terms.limits) {
            let refused = self.sessions.metrics.refused_events.with_label_values(&[refusal.label()]);
            refused.inc_by(batch.events.len() as u64);
            return Err(refusal);
        }
        self.underway += bytes;
        let (node, receipts) = (Arc::clone(&self.seat.node), Arc::clone(&self.receipts));
        self.waiting = Some(Box::pin(self.sessions.ingest.clone().submit(node, batch, bytes, receipts)));
        Ok(())
    }

    /// Passes on what the log's thread said.
    async fn acknowledge(&mut self) -> Result<(), End> {
        let settled = self.receipts.take();
        self.underway = self.underway.saturating_sub(settled.bytes);
        self.settled += settled.batches;
        let credit_bytes = self.sessions.credit();
        for progress in settled.progress {
            let ack = Ack { progress: Some(progress), credit_bytes, retry_after_millis: 0, batches: self.settled };
            self.send(aggregator_message::Message::Ack(ack)).await?;
        }
        match settled.rejected {
            Some(rejected) => Err(rejected.into()),
            None => Ok(()),
        }
    }

    async fn beat(&mut self, reads: bool) -> Result<(), End> {
        if !reads {
            // The silence is ours.
            self.heard = Instant::now();
        }
        if self.heard.elapsed() > self.sessions.terms.heartbeat * PATIENCE {
            return Err(Refusal::Silent.into());
        }
        let beat = Heartbeat { sent_unix_nanos: now_unix_nanos(), ..Heartbeat::default() };
        self.send(aggregator_message::Message::Heartbeat(beat)).await
    }

    /// Waits for an agent that is slow to read, but not for ever.
    async fn send(&mut self, message: aggregator_message::Message) -> Result<(), End> {
        let answer = Box::new(Ok(AggregatorMessage { message: Some(message) }));
        match self.outbox.send_timeout(answer, self.sessions.terms.heartbeat * PATIENCE).await {
            Ok(()) => Ok(()),
            Err(SendTimeoutError::Timeout(_)) => Err(Refusal::NotReading.into()),
            Err(SendTimeoutError::Closed(_)) => Err(End::Left),
        }
    }
}

/// The end of a submission, if there is one.
async fn queued(waiting: &mut Option<Submission>) -> Result<(), Rejected> {
    match waiting {
        Some(submission) => submission.await,
        None => std::future::pending().await,
    }
}

/// The end of the time in which an agent may leave, if it was told goodbye.
async fn may_leave(presence: Presence) {
    match presence {
        Presence::MayLeave(until) => sleep_until(until).await,
        Presence::Stays | Presence::Closing => std::future::pending().await,
    }
}
