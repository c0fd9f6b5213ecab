//! How many events the embedded log makes durable, by the size of a group: one thread, batches of 64 events of 1 KiB,
//! each group one write and one sync.
//!
//! `cargo run --release -p galen-log --example group_commit_bench -- [DIRECTORY]`

use std::{
    io::Write,
    path::PathBuf,
    time::{Duration, Instant},
};

use bytes::Bytes;
use galen_log::{Append, EmbeddedLog, embedded::Settings};
use galen_proto::v1::{Batch, Queue};

const BATCH: u64 = 64;
const EVENT_BYTES: usize = 1024;
const MEASURED: Duration = Duration::from_secs(3);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let scratch = tempfile::tempdir()?;
    let dir = std::env::args_os().nth(1).map_or_else(|| scratch.path().to_owned(), PathBuf::from);
    let events: Vec<Bytes> = (0..BATCH).map(|place| Bytes::from(vec![place as u8; EVENT_BYTES])).collect();
    for group in [1, 4, 16, 64] {
        let dir = dir.join(format!("group-{group}"));
        let settings = Settings { retention_bytes: 256 << 20, ..Settings::new(&dir) };
        let (_log, mut writer, mut watermarks) = EmbeddedLog::open(settings)?;
        watermarks.announce("web-1", &[Queue { epoch: 1, first_unacked: 1, next_seq: u64::MAX, account: None }], 1);
        let (began, mut seq) = (Instant::now(), 0);
        while began.elapsed() < MEASURED {
            let mut records = Vec::new();
            for _ in 0..group {
                let batch = Batch {
                    epoch: 1,
                    first_seq: seq + 1,
                    events: events.clone(),
                    next_seq: seq + BATCH + 1,
                    ..Batch::default()
                };
                seq += BATCH;
                records.extend(watermarks.admit("web-1", batch, 1)?.records);
            }
            writer.append(&records)?;
            if writer.checkpoint_due() {
                writer.checkpoint(&watermarks)?;
            }
        }
        let rate = seq as f64 / began.elapsed().as_secs_f64();
        writeln!(std::io::stdout(), "groups of {group:2} batches: {rate:.0} events/s durable")?;
        std::fs::remove_dir_all(dir)?;
    }
    Ok(())
}
