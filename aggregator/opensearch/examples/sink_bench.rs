//! What it costs us to have events indexed, compared with what it costs OpenSearch: events of 1 KiB as an agent sends
//! them, in memory, through documents and bulk requests into a real server on this machine.
//!
//! `cargo run --release -p galen-opensearch --example sink_bench [EVENTS]` prints both CPU times and their ratio.

use std::{
    error::Error,
    fs,
    io::{Write, stdout},
    sync::Arc,
    time::{Duration, Instant},
};

use galen_log::{BoxFuture, Consumer, Delivery, Place};
use galen_opensearch::{Counters, Indexer, Settings};
use galen_proto::v1::{Container, Event, EventKind, Host, LogRecord, Severity, Times};
use galen_services::Server;
use prost::Message;
use tokio_util::sync::CancellationToken;

const BATCH: u64 = 64;
const NOW: i64 = 1_763_985_600_000_000_000;

/// Hands out events that it makes itself; ends the indexer when all are committed.
struct Made {
    records: Vec<LogRecord>,
    handed: usize,
    done: CancellationToken,
}

impl Consumer for Made {
    fn next(&mut self, max_events: usize) -> BoxFuture<'_, Result<Delivery, galen_log::Error>> {
        Box::pin(async move {
            let records: Vec<_> =
                self.records.iter().skip(self.handed).take(max_events.div_ceil(BATCH as usize)).cloned().collect();
            if records.is_empty() {
                return std::future::pending().await;
            }
            self.handed += records.len();
            Ok(Delivery { records, place: Place(vec![(0, self.handed as u64)]), ..Delivery::default() })
        })
    }

    fn commit(&mut self, place: &Place) -> BoxFuture<'_, Result<(), galen_log::Error>> {
        if place.0.iter().any(|(_, next)| *next == self.records.len() as u64) {
            self.done.cancel();
        }
        Box::pin(async { Ok(()) })
    }

    fn lag(&self) -> u64 {
        0
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let events: u64 = std::env::args().nth(1).map_or(Ok(100_000), |text| text.parse())?;
    let records: Vec<LogRecord> = (0..events / BATCH).map(record).collect();
    let events = records.len() as u64 * BATCH;
    let server = galen_services::opensearch();
    // What the server needs to warm up is not the figure.
    run(&server, "warm", records.iter().take(records.len() / 5).cloned().collect()).await?;
    let began = Instant::now();
    let (ours, theirs) = (cpu_seconds("self")?, cpu_seconds(&pid(&server)?)?);
    run(&server, "bench", records).await?;
    let seconds = began.elapsed().as_secs_f64();
    let (ours, theirs) = (cpu_seconds("self")? - ours, cpu_seconds(&pid(&server)?)? - theirs);
    let mut out = stdout().lock();
    writeln!(out, "events {events}, {:.0} a second", events as f64 / seconds)?;
    writeln!(out, "CPU: ours {ours:.2} s, OpenSearch's {theirs:.2} s: {:.1} %", ours / theirs * 100.0)?;
    writeln!(out, "events per core-second of ours: {:.0}", events as f64 / ours)?;
    Ok(())
}

async fn run(server: &Server, prefix: &str, records: Vec<LogRecord>) -> Result<(), Box<dyn Error>> {
    let settings = Settings {
        urls: vec![server.url().parse()?],
        prefix: prefix.into(),
        shards: 1,
        replicas: 0,
        user: None,
        password_file: None,
        ca_file: None,
        certificate_file: None,
        key_file: None,
        bulk_bytes: 4 << 20,
        bulk_events: 1000,
        concurrency: 4,
        timeout: Duration::from_secs(30),
        retention: Duration::from_secs(100 * 365 * 86_400),
    };
    let counters = Arc::<Counters>::default();
    let done = CancellationToken::new();
    let events: u64 = records.iter().map(|record| record.events.len() as u64).sum();
    let mut made = Made { records, handed: 0, done: done.clone() };
    Indexer::new(settings, Arc::clone(&counters))?.run(&mut made, done).await?;
    let stats = counters.stats();
    if stats.events == events { Ok(()) } else { Err(format!("not all of {events} were indexed: {stats:?}").into()) }
}

fn pid(server: &Server) -> std::io::Result<String> {
    Ok(fs::read_to_string(server.directory().join("pid"))?.trim().to_owned())
}

/// CPU time of a process, of all its threads, in user and kernel mode.
fn cpu_seconds(process: &str) -> Result<f64, Box<dyn Error>> {
    const TICKS: f64 = 100.0;
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    let (_, fields) = stat.rsplit_once(')').ok_or("no name in stat")?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let [user, system] = [11, 12].map(|at| fields.get(at).and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0));
    Ok((user + system) / TICKS)
}

fn record(index: u64) -> LogRecord {
    let first = index * BATCH;
    LogRecord {
        node: format!("node-{}", index % 100),
        epoch: 0x00c0_ffee_00c0_ffee,
        first_seq: first + 1,
        events: (first..first + BATCH).map(|n| event(n).encode_to_vec().into()).collect(),
        received_unix_nanos: NOW,
        ..LogRecord::default()
    }
}

fn event(n: u64) -> Event {
    let percent = (n * 7919 % 1000) as f64 / 10.0;
    let time = NOW + n as i64 * 1_000_000;
    let id = format!("{:016x}{:016x}{:016x}{:016x}", n % 500, n % 500 * 31, n % 500 * 77, n % 500 * 1013);
    let data = serde_json::json!({
        "user_percent": percent, "user_percent_threshold": 75.0,
        "system_percent": percent / 7.0, "system_percent_threshold": 45.0,
        "total_percent": percent * 1.1, "total_percent_threshold": 90.0,
        "rules": ["user"], "score": percent / 2.0, "capacity_cpus": 2.0, "window_seconds": 5,
        "top": [
            { "comm": format!("worker-{}", n % 300), "pid": 1000 + n % 30_000, "percent": percent / 2.0 },
            { "comm": "nginx", "pid": 900 + n % 7, "percent": percent / 3.0 },
        ],
    });
    Event {
        tracer: ["cpuidle", "memburst", "oom"][(n % 3) as usize].into(),
        run_id: format!("0193a7c0-{:04x}-7{:03x}-8000-{:012x}", n >> 16 & 0xffff, n >> 4 & 0xfff, n),
        kind: EventKind::Trigger.into(),
        severity: Severity::Warning.into(),
        summary: format!("CPU burst in web-{}: user {percent:.1} % of 2 CPUs over 5 s", n % 500),
        times: Some(Times { observed_boot_nanos: n, observed_unix_nanos: time, recorded_unix_nanos: time + 1_000_000 }),
        host: Some(Host {
            name: format!("node-{}", n / BATCH % 100),
            kernel: "6.18.5".into(),
            arch: "x86_64".into(),
            boot_id: "c5a9c1f0-8f0b-4c7e-9d7a-0c0ffee0c0ff".into(),
            cpus: 2,
            region: "eu-1".into(),
        }),
        container: Some(Container {
            cgroup: format!("/docker/{id}"),
            id,
            name: format!("web-{}", n % 500),
            runtime: "docker".into(),
            image: "registry.example/shop/web:1.42.0".into(),
            pod: format!("web-{}-5d9f7c6b8", n % 500),
            namespace: "production".into(),
            qos: "Burstable".into(),
            labels: [
                ("app.kubernetes.io/name".to_owned(), "shop".to_owned()),
                ("app.kubernetes.io/instance".to_owned(), format!("shop-{}", n % 20)),
                ("com.docker.compose.project.working_dir".to_owned(), "/srv/shop/production".to_owned()),
                ("tier".to_owned(), "web".to_owned()),
            ]
            .into(),
        }),
        data: data.to_string().into(),
        ..Event::default()
    }
}
