//! What the way from the agents' streams to the log costs: events per core-second of the aggregator.
//!
//! The aggregator runs as a child process with the readers of its log off, so that its CPU time is that of receiving,
//! deduplicating, logging and acknowledging alone. This process plays the agents: it keeps as many batches underway on
//! each connection as its credit allows, for a while, and divides the acknowledged events by the child's CPU time.
//!
//! `cargo run --release -p galen-aggregator --example ingest_bench -- --agents 32 --seconds 10`
//!
//! With `--kafka` the log is Kafka. With `--alone` as well nothing of ours runs: Kafka's client writes the same records,
//! for comparison.

mod alone;
mod event;

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Child, Command},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use clap::Parser;
use galen_aggregator::{ADDRESSES_FILE, Addresses, Config, Settings};
use galen_proto::v1::{
    AgentMessage, Batch, Hello, Queue, agent_message, agent_service_client::AgentServiceClient, aggregator_message,
};
use galen_runtime::{Supervisor, signal};
use tokio::{sync::mpsc, task::JoinSet};
use tokio_stream::wrappers::ReceiverStream;

const EPOCH: u64 = 0x00c0_ffee;
/// Clock ticks a second of `/proc/<pid>/stat`: fixed in the kernel's interface.
const TICKS: f64 = 100.0;

#[derive(Parser)]
struct Arguments {
    /// Connections, each of which is an agent.
    #[arg(long, default_value_t = 32)]
    agents: usize,
    /// Events of a batch.
    #[arg(long, default_value_t = 64)]
    batch: usize,
    /// Encoded size of an event.
    #[arg(long, default_value_t = 1024)]
    event_bytes: usize,
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Agents that send; the others are only connected.
    #[arg(long)]
    senders: Option<usize>,
    /// Where the log is written. A temporary directory by default.
    #[arg(long)]
    data_dir: Option<PathBuf>,
    /// Brokers of the Kafka that is the log. By default it is on the disk.
    #[arg(long)]
    kafka: Option<String>,
    /// Full events a second that the cluster's limits let pass. Zero: there are none.
    #[arg(long, default_value_t = 0)]
    limit: u32,
    /// Redis that the limits are shared by.
    #[arg(long, default_value = "")]
    redis: String,
    /// Kafka's client alone.
    #[arg(long, requires = "kafka")]
    alone: bool,
    /// Runs the aggregator: what the child is started with.
    #[arg(long, hide = true)]
    serve: Option<PathBuf>,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if let Some(brokers) = arguments.kafka.as_deref().filter(|_| arguments.alone) {
        return alone::run(brokers, &arguments);
    }
    let runtime = if arguments.serve.is_some() {
        tokio::runtime::Builder::new_multi_thread().enable_all().build()?
    } else {
        // One thread: the other core is the aggregator's.
        tokio::runtime::Builder::new_current_thread().enable_all().build()?
    };
    galen_aggregator::raise_file_limit();
    match arguments.serve.clone() {
        Some(data_dir) => runtime.block_on(serve(data_dir, arguments)),
        None => runtime.block_on(drive(arguments)),
    }
}

async fn serve(data_dir: PathBuf, arguments: Arguments) -> Result<()> {
    let mut config = Config { data_dir, ..Config::default() };
    config.kafka.brokers = arguments.kafka.unwrap_or_default();
    config.limits.events_per_second = arguments.limit;
    config.limits.redis.url = arguments.redis;
    config.listen.grpc = "127.0.0.1:0".into();
    config.listen.http = "127.0.0.1:0".into();
    // They all come at once.
    config.sessions.new_per_second = config.sessions.max_agents;
    let settings = Settings { index: false, ..Settings::try_from(config)? };
    let supervisor = Supervisor::new();
    galen_aggregator::start(settings, supervisor.clone()).await?;
    signal::terminated().await;
    let _ = supervisor.drain(Duration::from_secs(10)).await;
    Ok(())
}

/// Ends with its owner.
struct Aggregator(Child);

impl Drop for Aggregator {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// CPU time of a process, its own and the kernel's for it.
fn cpu_seconds(pid: u32) -> Result<(f64, f64)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields: Vec<&str> = stat.rsplit_once(')').context("stat has a name")?.1.split_whitespace().collect();
    Ok((fields[11].parse::<f64>()? / TICKS, fields[12].parse::<f64>()? / TICKS))
}

impl Aggregator {
    fn cpu_seconds(&self) -> Result<(f64, f64)> {
        cpu_seconds(self.0.id())
    }

    fn memory(&self, key: &str) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0.id()))?;
        let line = status.lines().find(|line| line.starts_with(key)).context("status has memory")?;
        Ok(line.split_whitespace().nth(1).context("a number")?.parse::<u64>()? / 1024)
    }
}

async fn drive(arguments: Arguments) -> Result<()> {
    let scratch = tempfile::tempdir()?;
    let data_dir = arguments.data_dir.clone().unwrap_or_else(|| scratch.path().to_owned());
    let mut child = Command::new(std::env::current_exe()?);
    child.arg("--serve").arg(&data_dir).args(["--limit", &arguments.limit.to_string(), "--redis", &arguments.redis]);
    if let Some(brokers) = &arguments.kafka {
        child.args(["--kafka", brokers]);
    }
    let child = child.spawn()?;
    let aggregator = Aggregator(child);
    let addresses = addresses(&data_dir).await?;
    let url = format!("http://{}", addresses.grpc);

    let acknowledged = Arc::new(AtomicU64::new(0));
    let stop = Arc::new(AtomicBool::new(false));
    let senders = arguments.senders.unwrap_or(arguments.agents);
    let events: Vec<Bytes> = (0..arguments.batch).map(|place| event::encoded(place, arguments.event_bytes)).collect();
    let mut agents = JoinSet::new();
    for place in 0..arguments.agents {
        let events = if place < senders { events.clone() } else { Vec::new() };
        let node = format!("node-{}-{place}", std::process::id());
        let agent = agent(url.clone(), node, events, Arc::clone(&acknowledged), Arc::clone(&stop));
        #[allow(clippy::disallowed_methods, reason = "a benchmark's tasks end with it")]
        agents.spawn(agent);
        if place % 100 == 99 {
            tokio::task::yield_now().await;
        }
    }
    // Not measured: connections, first allocations.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (before, (user, system), began) =
        (acknowledged.load(Ordering::Relaxed), aggregator.cpu_seconds()?, Instant::now());
    tokio::time::sleep(Duration::from_secs(arguments.seconds)).await;
    let (after, (user_after, system_after), took) =
        (acknowledged.load(Ordering::Relaxed), aggregator.cpu_seconds()?, began.elapsed().as_secs_f64());
    let (user, system) = (user_after - user, system_after - system);
    let (resident, peak) = (aggregator.memory("VmRSS")?, aggregator.memory("VmHWM")?);
    stop.store(true, Ordering::Relaxed);
    while let Some(ended) = agents.try_join_next() {
        ended??;
    }
    let events = (after - before) as f64;
    ensure!(events > 0.0 || senders == 0, "nothing was acknowledged");
    writeln!(
        std::io::stdout(),
        "agents {} (sending {senders}), batch {} x {} B: {:.0} events/s, CPU {:.2} s (user {user:.2}, system {system:.2}) in {took:.1} s, \
         {:.0} events per core-second, RSS {resident} MiB (peak {peak} MiB)",
        arguments.agents,
        arguments.batch,
        arguments.event_bytes,
        events / took,
        user + system,
        events / (user + system),
    )?;
    Ok(())
}

async fn addresses(data_dir: &Path) -> Result<Addresses> {
    let path = data_dir.join(ADDRESSES_FILE);
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        match fs::read(&path) {
            Ok(text) => return Ok(serde_json::from_slice(&text)?),
            Err(_) if Instant::now() < deadline => tokio::time::sleep(Duration::from_millis(20)).await,
            Err(error) => return Err(error).context("the aggregator does not listen"),
        }
    }
}

/// One agent: sends as its credit allows, counts what is acknowledged.
async fn agent(
    url: String,
    node: String,
    events: Vec<Bytes>,
    acknowledged: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
) -> Result<()> {
    let mut client = AgentServiceClient::connect(url).await?;
    let (outbox, messages) = mpsc::channel(16);
    let send = async |message| outbox.send(AgentMessage { message: Some(message) }).await;
    let hello = Hello {
        protocol: galen_proto::PROTOCOL,
        node,
        queues: vec![Queue { epoch: EPOCH, first_unacked: 1, next_seq: 1, account: None }],
        ..Hello::default()
    };
    send(agent_message::Message::Hello(hello)).await?;
    let mut answers = client.session(ReceiverStream::new(messages)).await?.into_inner();
    let (mut credit, mut sent, mut upto) = (0, 0, 0);
    let bytes: u64 = events.iter().map(|event| event.len() as u64 + 3).sum();
    while !stop.load(Ordering::Relaxed) {
        let count = events.len() as u64;
        while count > 0 && (sent - upto) / count * bytes + bytes <= credit {
            let batch = Batch {
                epoch: EPOCH,
                first_seq: sent + 1,
                events: events.clone(),
                next_seq: sent + count + 1,
                ..Batch::default()
            };
            sent += count;
            send(agent_message::Message::Batch(batch)).await?;
        }
        let Some(answer) = answers.message().await? else { break };
        match answer.message {
            Some(aggregator_message::Message::Welcome(welcome)) => credit = welcome.credit_bytes,
            Some(aggregator_message::Message::Ack(ack)) => {
                credit = ack.credit_bytes;
                let settled = ack.progress.context("an ack has progress")?.upto;
                acknowledged.fetch_add(settled - upto, Ordering::Relaxed);
                upto = settled;
            }
            Some(aggregator_message::Message::Heartbeat(heartbeat)) => {
                send(agent_message::Message::Heartbeat(heartbeat)).await?;
            }
            _ => {}
        }
    }
    Ok(())
}
