//! One of many: the protocol of a real agent and its back-off, without tracers and without a disk.

use std::{
    collections::VecDeque,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use galen_proto::v1::{
    Account, AgentMessage, AggregatorMessage, Batch, Heartbeat, Hello, Queue, Welcome, agent_message,
    agent_service_client::AgentServiceClient, aggregator_message,
};
use galen_runtime::Backoff;
use hyper_util::rt::TokioIo;
use tokio::{
    net::TcpSocket,
    sync::{mpsc, watch},
    time::{Instant, MissedTickBehavior, interval_at, sleep, sleep_until},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Status, Streaming,
    codegen::http::Uri,
    transport::{self, Channel, Endpoint},
};
use tower::service_fn;

use crate::{
    Budget, Habits, Identity, Source,
    fleet::{Orders, Tally},
};

/// As the uplink of a real agent has them.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const KEEPALIVE: Duration = Duration::from_secs(30);
const WINDOW: u32 = 64 << 10;
const OUTBOUND: usize = 4;

const EPOCH: u64 = 0x10ad;

/// A node, and how far its events have come.
pub(crate) struct Node<S> {
    identity: Identity,
    source: S,
    budget: Budget,
    habits: Arc<Habits>,
    /// Where its connections come from.
    address: IpAddr,
    /// How often a session failed or ended.
    attempts: usize,
    tally: Arc<Tally>,
    orders: watch::Receiver<Orders>,
    /// Up to which number events are acknowledged.
    acknowledged: u64,
    /// Those behind it: what is to be sent, and sent again after a reconnection, with when it was recorded.
    waiting: VecDeque<(Instant, Bytes)>,
    /// Rounds of the orders that it has taken part in.
    rounds: u64,
}

impl<S: Source> Node<S> {
    pub(crate) fn new(
        identity: Identity,
        source: S,
        habits: Arc<Habits>,
        address: IpAddr,
        tally: Arc<Tally>,
        orders: watch::Receiver<Orders>,
    ) -> Self {
        Self {
            identity,
            source,
            budget: Budget::new(habits.captures_per_hour),
            habits,
            address,
            attempts: 0,
            tally,
            orders,
            acknowledged: 0,
            waiting: VecDeque::new(),
            rounds: 0,
        }
    }

    pub(crate) async fn run(mut self) {
        let (least, most) = self.habits.backoff;
        let mut backoff = Backoff::new(least, most);
        loop {
            let begun = Instant::now();
            let Err(status) = self.session().await else { continue };
            self.attempts += 1;
            if begun.elapsed() > most {
                backoff.reset();
            }
            let hint =
                status.metadata().get(galen_proto::RETRY_AFTER).and_then(|millis| millis.to_str().ok()?.parse().ok());
            let (count, wait) = match hint {
                Some(millis) => {
                    (&self.tally.refused, Duration::from_millis(millis).mul_f64(1.0 + fastrand::f64() / 2.0))
                }
                None => (&self.tally.failed, backoff.next()),
            };
            count.fetch_add(1, Ordering::Relaxed);
            sleep(wait).await;
        }
    }

    /// Until it fails, or the connection is to be dropped.
    async fn session(&mut self) -> Result<(), Status> {
        let mut orders = *self.orders.borrow_and_update();
        if orders.rounds > self.rounds {
            self.rounds = orders.rounds;
            self.record();
        }
        let channel = self.connect().await.map_err(|error| Status::unavailable(error.to_string()))?;
        let (outbox, messages) = mpsc::channel(OUTBOUND);
        send(&outbox, agent_message::Message::Hello(self.hello())).await?;
        let mut answers = AgentServiceClient::new(channel).session(ReceiverStream::new(messages)).await?.into_inner();
        let welcome = match next(&mut answers).await? {
            aggregator_message::Message::Welcome(welcome) => welcome,
            other => return Err(Status::internal(format!("no welcome: {other:?}"))),
        };
        self.settled(welcome.progress.first().map_or(0, |progress| progress.upto));
        let _connected = Connected::new(&self.tally);
        let mut sent = self.acknowledged;
        let period = Duration::from_millis(welcome.heartbeat_millis.into());
        let mut heartbeat = interval_at(Instant::now() + period.mul_f64(fastrand::f64()), period);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut turn = orders.every.map(first);
        loop {
            while sent < self.recorded() {
                let batch = self.batch(sent + 1, &welcome);
                sent += batch.events.len() as u64;
                send(&outbox, agent_message::Message::Batch(batch)).await?;
            }
            // Orders first: who was told to stop records nothing more.
            tokio::select! {
                biased;
                changed = self.orders.changed() => {
                    // The fleet ends.
                    changed.map_err(|_| Status::cancelled("the end"))?;
                    orders = *self.orders.borrow_and_update();
                    if orders.rounds > self.rounds {
                        return Ok(());
                    }
                    turn = orders.every.map(first);
                }
                answer = next(&mut answers) => match answer? {
                    aggregator_message::Message::Ack(ack) => self.settled(ack.progress.map_or(0, |progress| progress.upto)),
                    aggregator_message::Message::Budget(budget) => self.budget.lower(budget),
                    _ => {}
                },
                _ = heartbeat.tick() => {
                    send(&outbox, agent_message::Message::Heartbeat(self.heartbeat())).await?;
                }
                at = until(turn) => {
                    // Whoever is late does not catch up.
                    turn = orders.every.map(|every| (at + every).max(Instant::now()));
                    self.record();
                }
            }
        }
    }

    async fn connect(&self) -> Result<Channel, transport::Error> {
        let aggregators = &self.habits.aggregators;
        let (address, aggregator) = (self.address, aggregators[self.attempts % aggregators.len()]);
        let scheme = if self.identity.dialler.is_some() { "https" } else { "http" };
        let endpoint = Endpoint::new(format!("{scheme}://{aggregator}"))?
            .local_address(Some(address))
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(KEEPALIVE)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW);
        let Some(dialler) = self.identity.dialler.clone() else { return endpoint.connect().await };
        let connect = service_fn(move |_: Uri| {
            let dialler = dialler.clone();
            async move {
                let socket = TcpSocket::new_v4()?;
                socket.bind(SocketAddr::new(address, 0))?;
                let stream = socket.connect(aggregator).await?;
                dialler.secure(stream, &aggregator.to_string()).await.map(TokioIo::new)
            }
        });
        endpoint.connect_with_connector(connect).await
    }

    /// The newest number that was given.
    fn recorded(&self) -> u64 {
        self.acknowledged + self.waiting.len() as u64
    }

    fn record(&mut self) {
        let (now, events) = (Instant::now(), self.source.record(&mut self.budget));
        self.tally.recorded.fetch_add(events.len() as u64, Ordering::Relaxed);
        self.waiting.extend(events.into_iter().map(|event| (now, event)));
    }

    fn settled(&mut self, upto: u64) {
        let more = upto.min(self.recorded()).saturating_sub(self.acknowledged);
        self.acknowledged += more;
        self.tally.waited(self.waiting.drain(..more as usize).map(|(since, _)| since.elapsed()));
        self.tally.acknowledged.fetch_add(more, Ordering::Relaxed);
    }

    fn hello(&self) -> Hello {
        Hello {
            protocol: galen_proto::PROTOCOL,
            node: self.identity.name.clone(),
            agent_version: env!("CARGO_PKG_VERSION").into(),
            queues: vec![self.queue()],
            tracers: self.source.tracers(),
            ..Hello::default()
        }
    }

    fn queue(&self) -> Queue {
        Queue {
            epoch: EPOCH,
            first_unacked: self.acknowledged + 1,
            next_seq: self.recorded() + 1,
            account: Some(self.account()),
        }
    }

    /// All that it observes has a number at once.
    fn account(&self) -> Account {
        Account { observed: self.recorded(), counted: 0, waiting: 0 }
    }

    /// What was recorded from `first` on, as much as a batch may have.
    fn batch(&self, first: u64, welcome: &Welcome) -> Batch {
        let events = self.waiting.iter().skip((first - self.acknowledged - 1) as usize).map(|(_, event)| event);
        let mut bytes = 0;
        let fits = |event: &&Bytes| {
            bytes += event.len() as u64;
            // One that is too large by itself is for the aggregator to refuse.
            bytes <= welcome.max_batch_bytes / 2 || bytes == event.len() as u64
        };
        Batch {
            epoch: EPOCH,
            first_seq: first,
            events: events.take(welcome.max_batch_events as usize).take_while(fits).cloned().collect(),
            next_seq: self.recorded() + 1,
            account: Some(self.account()),
            ..Batch::default()
        }
    }

    fn heartbeat(&self) -> Heartbeat {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Heartbeat {
            sent_unix_nanos: now.as_nanos() as i64,
            tracers: self.source.tracers(),
            backlog_events: self.waiting.len() as u64,
            measures: self.source.measures(),
            queues: vec![self.queue()],
            ..Heartbeat::default()
        }
    }
}

/// Counts as connected while it lives.
struct Connected(Arc<Tally>);

impl Connected {
    fn new(tally: &Arc<Tally>) -> Self {
        tally.connected.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(tally))
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        let connected: &AtomicU64 = &self.0.connected;
        connected.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A moment of its own within the first `every`.
fn first(every: Duration) -> Instant {
    Instant::now() + every.mul_f64(fastrand::f64())
}

async fn next(answers: &mut Streaming<AggregatorMessage>) -> Result<aggregator_message::Message, Status> {
    loop {
        let answer = answers.message().await?.ok_or_else(|| Status::unavailable("the stream ended"))?;
        if let Some(message) = answer.message {
            return Ok(message);
        }
    }
}

async fn send(outbox: &mpsc::Sender<AgentMessage>, message: agent_message::Message) -> Result<(), Status> {
    let message = AgentMessage { message: Some(message) };
    outbox.send(message).await.map_err(|_| Status::unavailable("the stream ended"))
}

async fn until(moment: Option<Instant>) -> Instant {
    match moment {
        Some(moment) => {
            sleep_until(moment).await;
            moment
        }
        None => std::future::pending().await,
    }
}
