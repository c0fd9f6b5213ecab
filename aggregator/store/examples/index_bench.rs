//! How fast the store indexes, apart from everything else: events of 1 KiB as an agent sends them, in memory, through
//! decoding, indexing, commits every 20,000 and the merges that come of it.
//!
//! `cargo run --release -p galen-store --example index_bench [EVENTS]` prints events, seconds and CPU seconds of the
//! whole process; the figure is events per CPU second.

use std::{
    error::Error,
    io::{Write, stdout},
    time::{Duration, Instant},
};

use bytes::Bytes;
use galen_specimen::{NOW, load};
use galen_store::{Order, Query, Search, Settings, Store};
use rustix::time::{ClockId, clock_gettime};

const COMMIT: u64 = 20_000;

fn main() -> Result<(), Box<dyn Error>> {
    let events: u64 = std::env::args().nth(1).map_or(Ok(300_000), |text| text.parse())?;
    let records = load::records(events);
    let events = records.len() as u64 * load::BATCH;
    let bytes: usize = records.iter().flat_map(|record| &record.events).map(Bytes::len).sum();
    let dir = tempfile::tempdir()?;
    let settings =
        Settings { dir: dir.path().to_owned(), retention: Duration::from_secs(86_400 * 7), max_bytes: 64 << 30 };
    let store = Store::open(settings)?;
    let mut writer = store.writer(events)?;
    let (began, cpu) = (Instant::now(), cpu_seconds());
    for record in &records {
        writer.add(record.first_seq - 1, record)?;
        if writer.pending() >= COMMIT {
            writer.commit()?;
        }
    }
    writer.commit()?;
    let (seconds, cpu) = (began.elapsed().as_secs_f64(), cpu_seconds() - cpu);
    let stats = store.stats();
    let mut out = stdout().lock();
    writeln!(out, "events {events}, {} bytes each, {} on disk each", bytes as u64 / events, stats.bytes / events)?;
    writeln!(out, "wall {seconds:.2} s: {:.0} events/s", events as f64 / seconds)?;
    writeln!(out, "CPU {cpu:.2} s: {:.0} events per core-second", events as f64 / cpu)?;
    for text in ["", "tracer:cpuidle AND data.user_percent:>80", "container.name:web-1*", "burst"] {
        let query = Query::parse(text, NOW)?;
        let count_by = ["tracer".to_owned()];
        let began = Instant::now();
        let found =
            store.search(&Search { order: Order::NewestFirst, count_by: &count_by, ..Search::newest(&query, 50) })?;
        writeln!(out, "query `{text}`: {} found in {:.1} ms", found.total, began.elapsed().as_secs_f64() * 1e3)?;
    }
    Ok(())
}

fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
