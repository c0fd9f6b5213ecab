//! The measurement: an aggregator with one agent that sends what all will, with all of them silent, with all of them
//! sending, and after all came back at once. What the first takes is not of the connections.

use std::{fmt, net::SocketAddr, path::Path, time::Duration};

use anyhow::Result;
use clap::Parser;
use galen_proto::v1::GetStatusRequest;
use galen_runtime::{Span, tls::Dialler};
use galen_simulate::{Fleet, Habits};
use tokio::time::{Instant, sleep};

use super::{Certificates, nodes};
use crate::{
    fleet::{self, Aggregator},
    flood,
    process::Usage,
    wait,
};

/// For what must happen; far more than is measured.
const LIMIT: Duration = Duration::from_secs(300);

/// Simulates many agents over real connections and measures what the aggregator takes for them.
#[derive(Debug, Clone, Parser)]
#[command(name = "galen-load")]
pub struct Arguments {
    #[arg(long, default_value_t = 10_000)]
    pub agents: usize,
    /// From one event of an agent to its next.
    #[arg(long, default_value = "10s")]
    pub every: Span,
    /// How long all agents are left silent, to send heartbeats, before the memory is read.
    #[arg(long, default_value = "15s")]
    pub settle: Span,
    /// How long the aggregator is watched while the agents send.
    #[arg(long, default_value = "60s")]
    pub watch: Span,
    /// How often all agents drop their connections and come back at once.
    #[arg(long, default_value_t = 1)]
    pub reconnects: u32,
    /// A running aggregator, instead of one of its own. Nobody else may send to it meanwhile.
    #[arg(long, value_name = "HOST:PORT", requires = "pid")]
    pub aggregator: Option<SocketAddr>,
    /// Every connection with TLS and a certificate of its own.
    #[arg(long, conflicts_with = "aggregator")]
    pub tls: bool,
    /// The process of the running aggregator.
    #[arg(long)]
    pub pid: Option<u32>,
    /// More settings of its own aggregator: `sessions.new_per_second=1000`.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub settings: Vec<String>,
}

/// What was measured.
#[derive(Debug)]
pub struct Report {
    pub agents: usize,
    pub connected_in: Duration,
    /// What each agent adds to the aggregator's resident memory: silent, and after the watch.
    pub silent_bytes: u64,
    pub sending_bytes: u64,
    /// Of one core, during the watch.
    pub cpu_percent: f64,
    /// During the watch.
    pub events: u64,
    /// Until all were acknowledged again, with the CPU time that the aggregator took.
    pub reconnects: Vec<(Duration, Duration)>,
    pub refused: u64,
    pub failed: u64,
    pub before_bytes: u64,
    pub peak_bytes: u64,
}

/// Measures, with an aggregator of its own in `dir` unless one is named.
pub async fn run(arguments: &Arguments, dir: &Path) -> Result<Report> {
    let Arguments { agents, every, settle, watch, reconnects, .. } = *arguments;
    let mut own = None;
    let certificates = arguments.tls.then(|| Certificates::new(dir)).transpose()?;
    let certificates = certificates.as_ref();
    let user = || certificates.map(Certificates::user).transpose();
    let (address, pid) = match (arguments.aggregator, arguments.pid) {
        (Some(address), Some(pid)) => (address, pid),
        _ => {
            let many = format!("sessions.max_agents={agents}");
            let secured = certificates.map(Certificates::settings).unwrap_or_default();
            let settings = arguments.settings.iter().chain([&many]).chain(&secured).map(String::as_str);
            let settings = settings.collect::<Vec<_>>();
            let own = own.insert(Aggregator::start_with(dir, &settings, user()?).await?);
            (own.addresses.grpc, own.process.pid())
        }
    };
    let nodes = |agents| nodes(|_, number| flood::event(number), agents, certificates);
    let habits = || Habits::of_agents(address);
    let one = Fleet::start(habits(), nodes(agents..agents + 1)?).await?;
    one.record(every.0 / agents as u32);
    sleep(every.0).await;
    one.settle().await?;
    drop(one);
    let (empty, logged) = (Usage::of(pid)?, logged(address, user()?).await?);
    let each = |usage: Usage| usage.resident_bytes.saturating_sub(empty.resident_bytes) / agents as u64;
    let nodes = nodes(0..agents)?;
    let began = Instant::now();
    let load = Fleet::start(habits(), nodes).await?;
    let connected_in = began.elapsed();
    sleep(settle.0).await;
    let silent_bytes = each(Usage::of(pid)?);

    load.record(every.0);
    // Until each has sent.
    sleep(every.0).await;
    let (before, recorded, began) = (Usage::of(pid)?, load.recorded(), Instant::now());
    sleep(watch.0).await;
    let (after, took) = (Usage::of(pid)?, began.elapsed().as_secs_f64());
    let events = load.recorded() - recorded;
    load.settle().await?;

    let mut back = Vec::new();
    for _ in 0..reconnects {
        let cpu = Usage::of(pid)?.cpu;
        back.push((load.reconnect().await?, Usage::of(pid)?.cpu - cpu));
    }
    // An agent may have recorded one more before it heard that it was to stop.
    let what = "every event that was recorded to be in the log once";
    let once = || async { Ok((self::logged(address, user()?).await? - logged == load.recorded()).then_some(())) };
    wait::until(what, LIMIT, once).await?;
    Ok(Report {
        agents,
        connected_in,
        silent_bytes,
        sending_bytes: each(after),
        cpu_percent: (after.cpu - before.cpu).as_secs_f64() / took * 100.0,
        events,
        reconnects: back,
        refused: load.refused(),
        failed: load.failed(),
        before_bytes: empty.resident_bytes,
        peak_bytes: Usage::of(pid)?.peak_resident_bytes,
    })
}

/// Events that the log was ever given.
async fn logged(aggregator: SocketAddr, user: Option<Dialler>) -> Result<u64> {
    let mut query = fleet::ask(aggregator, user)?;
    Ok(query.get_status(GetStatusRequest {}).await?.into_inner().log_next_offset)
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kib = |bytes: u64| bytes as f64 / 1024.0;
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        writeln!(f, "{} agents, all connected in {:.1} s", self.agents, self.connected_in.as_secs_f64())?;
        writeln!(
            f,
            "resident memory a connection: {:.1} KiB silent, {:.1} KiB sending ({:.0} MiB before, peak {:.0} MiB)",
            kib(self.silent_bytes),
            kib(self.sending_bytes),
            mib(self.before_bytes),
            mib(self.peak_bytes)
        )?;
        writeln!(f, "CPU: {:.1} % of a core for {} events", self.cpu_percent, self.events)?;
        for (took, cpu) in &self.reconnects {
            let (took, cpu) = (took.as_secs_f64(), cpu.as_secs_f64());
            writeln!(f, "all back and acknowledged in {took:.1} s, with {cpu:.1} s of CPU")?;
        }
        write!(
            f,
            "told to come later {} times, failed {} times; every event is in the log once",
            self.refused, self.failed
        )
    }
}
