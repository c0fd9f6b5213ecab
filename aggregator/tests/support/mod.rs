//! An aggregator in this process, and agents that say what they like.

#![allow(dead_code, reason = "each test binary uses its part")]

use std::{collections::BTreeMap, net::SocketAddr, path::Path, time::Duration};

use bytes::{Buf, BufMut, Bytes};
use galen_aggregator::{Addresses, Config, Running, Settings};
use galen_log::{EmbeddedLog, Log, embedded};
use galen_proto::v1::{
    AgentMessage, AggregatorMessage, Batch, Command, CommandOutcome, CommandResult, Goodbye, Heartbeat, Hello,
    LogRecord, Loss, LossReason, Queue, Range, Welcome, agent_message, aggregator_message,
};
use galen_runtime::{Drained, Span, Supervisor};
use prost::Message;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc,
    time::{Instant, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Code, Status, Streaming,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    codegen::http::uri::PathAndQuery,
    transport::{Channel, Endpoint},
};

/// For anything that must happen: far more than it takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
pub(crate) const SESSION: &str = "/galen.v1.AgentService/Session";
pub(crate) const EPOCH: u64 = 0x00c0_ffee;

pub(crate) struct Aggregator {
    pub(crate) addresses: Addresses,
    running: Running,
}

/// Settings for tests: any ports, nothing that is not asked for.
pub(crate) fn settings(data_dir: &Path, change: impl FnOnce(&mut Config)) -> Settings {
    let mut config = Config { data_dir: data_dir.to_owned(), ..Config::default() };
    config.listen.grpc = "127.0.0.1:0".into();
    config.listen.http = "127.0.0.1:0".into();
    // Nobody is let go for saying nothing while a test waits for a server, or holds up this thread for it.
    config.sessions.heartbeat = Span(15 * PATIENCE);
    change(&mut config);
    Settings { index: false, ..Settings::try_from(config).unwrap() }
}

impl Aggregator {
    pub(crate) async fn start(data_dir: &Path) -> Self {
        Self::with(settings(data_dir, |_| {})).await
    }

    pub(crate) async fn with(settings: Settings) -> Self {
        let running = galen_aggregator::start(settings, Supervisor::new()).await.unwrap();
        Self { addresses: running.addresses.clone(), running }
    }

    /// Ends it, as SIGTERM does.
    pub(crate) async fn stop(self) {
        self.stop_within(PATIENCE).await;
    }

    pub(crate) async fn stop_within(self, deadline: Duration) {
        assert_eq!(self.running.drain(deadline).await, Drained::Complete);
    }

    /// Waits until a figure is so much.
    pub(crate) async fn shows(&self, figure: &str, value: f64) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let now = self.metrics().await.get(figure).copied();
            if now == Some(value) {
                return;
            }
            assert!(Instant::now() < deadline, "{figure} is {now:?}, not {value}");
            tokio::task::yield_now().await;
        }
    }

    /// Figures by name and labels, as they are scraped.
    pub(crate) async fn metrics(&self) -> BTreeMap<String, f64> {
        let answer = http_get(self.addresses.http, "/metrics").await;
        let lines = answer.lines().filter(|line| line.starts_with("galen_"));
        lines
            .filter_map(|line| {
                let (name, value) = line.rsplit_once(' ')?;
                Some((name.to_owned(), value.parse().ok()?))
            })
            .collect()
    }

    pub(crate) fn endpoint(&self) -> Endpoint {
        Channel::from_shared(format!("http://{}", self.addresses.grpc)).unwrap()
    }

    pub(crate) async fn call(&self) -> Agent {
        self.try_call().await.unwrap()
    }

    /// Fails where no connection is to be had.
    pub(crate) async fn try_call(&self) -> Result<Agent, Status> {
        Agent::call(self.endpoint(), SESSION).await
    }

    /// Calls a method, and says nothing.
    pub(crate) async fn try_call_of(&self, path: &'static str) -> Result<Agent, Status> {
        Agent::call(self.endpoint(), path).await
    }

    /// An agent that reads none of its answers, with hardly room for them in the connection.
    pub(crate) async fn deaf(&self, hello: Hello) -> Agent {
        let agent = Agent::call(self.endpoint().initial_stream_window_size(32), SESSION).await.unwrap();
        agent.send(agent_message::Message::Hello(hello)).await;
        agent
    }

    pub(crate) async fn hello(&self, hello: Hello) -> Agent {
        let agent = self.call().await;
        agent.send(agent_message::Message::Hello(hello)).await;
        agent
    }

    /// An agent that was welcomed.
    pub(crate) async fn welcomed(&self, hello: Hello) -> (Agent, Welcome) {
        let mut agent = self.hello(hello).await;
        let welcome = agent.welcome().await;
        (agent, welcome)
    }
}

/// Calls any method with one message, and reads of the answer only whether there is one.
pub(crate) async fn ask_bytes(
    channel: Channel,
    path: &str,
    authorization: Option<&str>,
    message: Bytes,
) -> Result<(), Status> {
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.map_err(|error| Status::from_error(error.into()))?;
    let mut request = tonic::Request::new(tokio_stream::once(message));
    if let Some(authorization) = authorization {
        request.metadata_mut().insert("authorization", authorization.parse().unwrap());
    }
    let asked = client.streaming(request, path.parse::<PathAndQuery>().unwrap(), Raw);
    timeout(PATIENCE, asked).await.expect("an answer in time").map(drop)
}

/// The whole answer, with its head.
pub(crate) async fn http_get(http: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(http).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {http}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut answer)).await.expect("an answer in time").unwrap();
    answer
}

/// An agent's end of a stream.
pub(crate) struct Agent {
    outbox: mpsc::Sender<Bytes>,
    answers: Streaming<AggregatorMessage>,
}

impl Agent {
    pub(crate) async fn call(endpoint: Endpoint, path: &'static str) -> Result<Self, Status> {
        let channel = endpoint.connect().await.map_err(|error| Status::from_error(error.into()))?;
        Self::over(channel, path).await
    }

    pub(crate) async fn over(channel: Channel, path: &'static str) -> Result<Self, Status> {
        let mut client = tonic::client::Grpc::new(channel);
        client.ready().await.map_err(|error| Status::from_error(error.into()))?;
        let (outbox, messages) = mpsc::channel(4);
        let request = tonic::Request::new(ReceiverStream::new(messages));
        let answers = client.streaming(request, PathAndQuery::from_static(path), Raw).await?.into_inner();
        Ok(Self { outbox, answers })
    }

    pub(crate) async fn send(&self, message: agent_message::Message) {
        self.send_bytes(AgentMessage { message: Some(message) }.encode_to_vec()).await;
    }

    pub(crate) async fn send_bytes(&self, bytes: impl Into<Bytes>) {
        // The aggregator may have ended the stream: what it says then is looked at by the test.
        let _ = self.outbox.send(bytes.into()).await;
    }

    pub(crate) async fn batch(&self, batch: Batch) {
        self.send(agent_message::Message::Batch(batch)).await;
    }

    pub(crate) async fn heartbeat(&self, heartbeat: Heartbeat) {
        self.send(agent_message::Message::Heartbeat(heartbeat)).await;
    }

    async fn next(&mut self) -> Result<aggregator_message::Message, Status> {
        loop {
            let answer = timeout(PATIENCE, self.answers.message()).await.expect("an answer in time")?;
            let answer = answer.ok_or_else(|| Status::ok("the stream ended"))?;
            match answer.message.expect("a known kind") {
                aggregator_message::Message::Heartbeat(_) => {}
                message => return Ok(message),
            }
        }
    }

    pub(crate) async fn welcome(&mut self) -> Welcome {
        self.welcome_or_end().await.unwrap()
    }

    pub(crate) async fn welcome_or_end(&mut self) -> Result<Welcome, Status> {
        match self.next().await? {
            aggregator_message::Message::Welcome(welcome) => Ok(welcome),
            other => panic!("no welcome: {other:?}"),
        }
    }

    /// Waits for an acknowledgement of everything up to `upto`.
    pub(crate) async fn acknowledged(&mut self, upto: u64) {
        self.try_acknowledged(upto).await.unwrap();
    }

    pub(crate) async fn try_acknowledged(&mut self, upto: u64) -> Result<(), Status> {
        loop {
            match self.next().await? {
                aggregator_message::Message::Ack(ack) => {
                    if ack.progress.expect("progress").upto >= upto {
                        return Ok(());
                    }
                }
                other => panic!("no ack: {other:?}"),
            }
        }
    }

    /// Waits until it is asked to go elsewhere.
    pub(crate) async fn goodbye(&mut self) -> Goodbye {
        match self.next().await.unwrap() {
            aggregator_message::Message::Goodbye(goodbye) => goodbye,
            other => panic!("no goodbye: {other:?}"),
        }
    }

    /// Waits for a command.
    pub(crate) async fn command(&mut self) -> Command {
        match self.next().await.unwrap() {
            aggregator_message::Message::Command(command) => command,
            other => panic!("no command: {other:?}"),
        }
    }

    pub(crate) async fn answers(&self, id: u64, outcome: CommandOutcome, detail: &str) {
        let result = CommandResult { id, outcome: outcome.into(), detail: detail.into() };
        self.send(agent_message::Message::CommandResult(result)).await;
    }

    /// The status that the stream ends with.
    pub(crate) async fn end(&mut self) -> Status {
        loop {
            if let Err(status) = self.next().await {
                return status;
            }
        }
    }

    pub(crate) async fn ends(&mut self, code: Code, text: &str) {
        let status = self.end().await;
        assert_eq!(status.code(), code, "{status}");
        assert!(status.message().contains(text), "`{}` does not say `{text}`", status.message());
    }
}

pub(crate) fn queue(first_unacked: u64, next_seq: u64) -> Queue {
    Queue { epoch: EPOCH, first_unacked, next_seq, account: None }
}

pub(crate) fn hello(node: &str, queues: &[Queue]) -> Hello {
    Hello { protocol: 1, node: node.into(), queues: queues.to_vec(), ..Hello::default() }
}

pub(crate) fn event(seq: u64) -> Bytes {
    format!("event {seq}").into()
}

/// Events `first ..= last`.
pub(crate) fn batch(first: u64, last: u64) -> Batch {
    Batch {
        epoch: EPOCH,
        first_seq: first,
        events: (first..=last).map(event).collect(),
        next_seq: last + 1,
        ..Batch::default()
    }
}

pub(crate) fn loss(first: u64, last: u64) -> Loss {
    Loss { range: Some(Range { first, last }), reason: LossReason::BufferFull as i32, ..Loss::default() }
}

/// Everything in the log of a stopped aggregator.
pub(crate) async fn logged(data_dir: &Path) -> Vec<LogRecord> {
    let (log, _writer, _) = EmbeddedLog::open(embedded::Settings::new(data_dir.join("log"))).unwrap();
    let mut reader = log.reader(0);
    let mut records = Vec::new();
    let mut at = 0;
    while at < log.bounds().next {
        let chunk = timeout(PATIENCE, reader.next(1000)).await.expect("a chunk in time").unwrap();
        assert!(chunk.skipped.is_empty(), "{:?}", chunk.skipped);
        records.extend(chunk.entries.into_iter().map(|entry| entry.record));
        at = chunk.next;
    }
    records
}

/// The events of a node by number, each of which is there once.
pub(crate) fn events_of(records: &[LogRecord], node: &str) -> Vec<(u64, Bytes)> {
    let mut events: Vec<(u64, Bytes)> = records
        .iter()
        .filter(|record| record.node == node)
        .flat_map(|record| (record.first_seq..).zip(record.events.iter().cloned()))
        .collect();
    events.sort_unstable();
    events
}

/// Sends bytes as they are, so that a test may send what is no message.
#[derive(Debug, Clone, Copy)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = AggregatorMessage;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = AggregatorMessage;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<AggregatorMessage>, Status> {
        let bytes = from.copy_to_bytes(from.remaining());
        AggregatorMessage::decode(bytes).map(Some).map_err(|error| Status::internal(error.to_string()))
    }
}
