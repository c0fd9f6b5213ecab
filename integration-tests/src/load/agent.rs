//! One of many: the protocol of a real agent, its figures and its back-off, without tracers and without a disk.

use std::{
    collections::VecDeque,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::Result;
use galen_agent::{TracerSet, figures, tracers::Shipped};
use galen_proto::v1::{
    AgentMessage, AggregatorMessage, Batch, Heartbeat, Hello, Label, Measure, MeasureKind, Queue, Support,
    TracerStatus, agent_message, agent_service_client::AgentServiceClient, aggregator_message,
};
use galen_runtime::{Backoff, tls::Dialler};
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

use super::{Certificates, Orders, Tally};
use crate::flood;

/// As the uplink of a real agent has them.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const KEEPALIVE: Duration = Duration::from_secs(30);
const WINDOW: u32 = 64 << 10;
const OUTBOUND: usize = 4;

const EPOCH: u64 = 0x10ad;

/// What each says of itself.
pub(super) struct Words {
    tracers: Vec<TracerStatus>,
    measures: Vec<Measure>,
}

/// Where an agent comes from, and whom it dials.
pub(super) struct Target {
    node: String,
    source: IpAddr,
    aggregator: SocketAddr,
    endpoint: Endpoint,
    /// Without one it speaks plaintext.
    dialler: Option<Dialler>,
}

/// An agent, and how far its events have come.
pub(super) struct Agent {
    target: Target,
    words: Arc<Words>,
    tally: Arc<Tally>,
    orders: watch::Receiver<Orders>,
    /// The newest number that was given, and up to which they are acknowledged.
    recorded: u64,
    acknowledged: u64,
    /// When those between were recorded.
    waiting: VecDeque<Instant>,
    /// Rounds of the orders that it has taken part in.
    rounds: u64,
}

impl Words {
    /// As many figures as a real agent has, under the same names: its gauges for each tracer, and of what is counted by
    /// label that it happened once.
    pub(super) fn new() -> Result<Self> {
        let names: Vec<_> = Shipped::factories().into_iter().map(|factory| factory.name).collect();
        let mut measures = Vec::new();
        for metric in figures::reference()? {
            let kind = if metric.kind == "counter" { MeasureKind::Counter } else { MeasureKind::Gauge };
            let tracers =
                if kind == MeasureKind::Gauge && !metric.labels.is_empty() { &names[..] } else { &names[..1] };
            measures.extend(tracers.iter().map(|tracer| {
                Measure {
                    name: metric.name.clone(),
                    kind: kind.into(),
                    labels: metric
                        .labels
                        .iter()
                        .map(|label| Label { name: label.clone(), value: (*tracer).to_owned() })
                        .collect(),
                    value: 1.0,
                }
            }));
        }
        let support = Support::Full.into();
        let tracer = |name: &&str| TracerStatus { name: (*name).into(), support, enabled: true, ..Default::default() };
        Ok(Self { tracers: names.iter().map(tracer).collect(), measures })
    }
}

impl Target {
    pub(super) fn new(
        place: usize,
        source: IpAddr,
        aggregator: SocketAddr,
        certificates: Option<&Certificates>,
    ) -> Result<Self> {
        let node = format!("load-{place:06}");
        let dialler = certificates.map(|certificates| certificates.node(&node)).transpose()?;
        let scheme = if dialler.is_some() { "https" } else { "http" };
        let endpoint = Endpoint::new(format!("{scheme}://{aggregator}"))?
            .local_address(Some(source))
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(KEEPALIVE)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW);
        Ok(Self { node, source, aggregator, endpoint, dialler })
    }

    async fn connect(&self) -> Result<Channel, transport::Error> {
        let (Some(dialler), source, aggregator) = (self.dialler.clone(), self.source, self.aggregator) else {
            return self.endpoint.connect().await;
        };
        let connect = service_fn(move |_: Uri| {
            let dialler = dialler.clone();
            async move {
                let socket = TcpSocket::new_v4()?;
                socket.bind(SocketAddr::new(source, 0))?;
                let stream = socket.connect(aggregator).await?;
                dialler.secure(stream, &aggregator.to_string()).await.map(TokioIo::new)
            }
        });
        self.endpoint.connect_with_connector(connect).await
    }
}

impl Agent {
    pub(super) fn new(target: Target, words: Arc<Words>, tally: Arc<Tally>, orders: watch::Receiver<Orders>) -> Self {
        Self { target, words, tally, orders, recorded: 0, acknowledged: 0, waiting: VecDeque::new(), rounds: 0 }
    }

    pub(super) async fn run(mut self) {
        let mut backoff = Backoff::new(BACKOFF.0, BACKOFF.1);
        loop {
            let begun = Instant::now();
            let Err(status) = self.session().await else { continue };
            if begun.elapsed() > BACKOFF.1 {
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
        let channel = self.target.connect().await.map_err(|error| Status::unavailable(error.to_string()))?;
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
        let mut event = orders.every.map(first);
        loop {
            if sent < self.recorded {
                send(&outbox, agent_message::Message::Batch(self.batch(sent + 1))).await?;
                sent = self.recorded;
            }
            tokio::select! {
                answer = next(&mut answers) => if let aggregator_message::Message::Ack(ack) = answer? {
                    self.settled(ack.progress.map_or(0, |progress| progress.upto));
                },
                _ = heartbeat.tick() => {
                    send(&outbox, agent_message::Message::Heartbeat(self.heartbeat())).await?;
                }
                () = until(event) => {
                    event = orders.every.map(|every| Instant::now() + every);
                    self.record();
                }
                changed = self.orders.changed() => {
                    // The load ends.
                    changed.map_err(|_| Status::cancelled("the end"))?;
                    orders = *self.orders.borrow_and_update();
                    if orders.rounds > self.rounds {
                        return Ok(());
                    }
                    event = orders.every.map(first);
                }
            }
        }
    }

    fn record(&mut self) {
        self.recorded += 1;
        self.waiting.push_back(Instant::now());
        self.tally.recorded.fetch_add(1, Ordering::Relaxed);
    }

    fn settled(&mut self, upto: u64) {
        let more = upto.min(self.recorded).saturating_sub(self.acknowledged);
        self.acknowledged += more;
        let done = self.waiting.drain(..self.waiting.len().min(more as usize));
        self.tally.waits.add(done.map(|since| since.elapsed()));
        self.tally.acknowledged.fetch_add(more, Ordering::Relaxed);
    }

    fn hello(&self) -> Hello {
        Hello {
            protocol: galen_proto::PROTOCOL,
            node: self.target.node.clone(),
            agent_version: env!("CARGO_PKG_VERSION").into(),
            queues: vec![Queue {
                epoch: EPOCH,
                first_unacked: self.acknowledged + 1,
                next_seq: self.recorded + 1,
                ..Queue::default()
            }],
            tracers: self.words.tracers.clone(),
            settings: Vec::new(),
        }
    }

    /// All that was recorded, from `first` on.
    fn batch(&self, first: u64) -> Batch {
        Batch {
            epoch: EPOCH,
            first_seq: first,
            events: (first..=self.recorded).map(|number| flood::event(number).into()).collect(),
            next_seq: self.recorded + 1,
            ..Batch::default()
        }
    }

    fn heartbeat(&self) -> Heartbeat {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Heartbeat {
            sent_unix_nanos: now.as_nanos() as i64,
            tracers: self.words.tracers.clone(),
            backlog_events: self.recorded - self.acknowledged,
            measures: self.words.measures.clone(),
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

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
