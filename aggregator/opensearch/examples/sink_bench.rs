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
use galen_proto::v1::LogRecord;
use galen_services::Server;
use galen_specimen::load::{self, BATCH};
use tokio_util::sync::CancellationToken;

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
    let records = load::records(events);
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
