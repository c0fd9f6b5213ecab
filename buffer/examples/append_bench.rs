//! How fast durable appends are, how fast a large backlog opens, and what memory that takes.
//!
//! `cargo run --release -p galen-buffer --example append_bench [directory]`; the directory must be on the disk that is to
//! be measured (default: a temporary one under the current directory).

#![expect(clippy::print_stdout, reason = "what it is for")]

use std::{
    collections::VecDeque,
    fs,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use galen_buffer::{Buffer, Settings};

const THREADS: u64 = 4;
/// Receipts that a thread lets stand out before it waits for the oldest.
const IN_FLIGHT: usize = 1024;
const MEASURED: u64 = 400_000;
const BACKLOG: u64 = 1_000_000;

fn main() -> anyhow::Result<()> {
    let base = std::env::args_os().nth(1).map_or_else(|| PathBuf::from("."), PathBuf::from);
    let dir = tempfile::tempdir_in(base)?;
    let settings = Settings { max_bytes: 16 << 30, ..Settings::new(dir.path().join("buffer")) };

    report("no buffer");
    let buffer = Buffer::open(settings.clone())?;
    report("open, empty");
    append(&buffer, 1)?;
    report("one event");
    println!("wake-ups in 5 s, idle: {}", idle_wakeups(Duration::from_secs(5))?);
    append(&buffer, 100_000)?;
    report("100,000 events");
    let rate = append(&buffer, MEASURED)?;
    report("measured run");
    println!("durable appends of 1 KiB from {THREADS} threads: {rate:.0}/s");
    append(&buffer, BACKLOG.saturating_sub(buffer.stats().events_unacked))?;
    report("1,000,000 events");
    println!("{:?}", buffer.stats());
    buffer.close()?;
    report("closed");

    open_and_read("after a clean end", &settings)?;
    let crashed = dir.path().join("crashed");
    let buffer = Buffer::open(settings.clone())?;
    append(&buffer, 10_000)?;
    copy(&settings.dir, &crashed)?;
    drop(buffer);
    open_and_read("after a crash", &Settings { dir: crashed, ..settings })
}

fn open_and_read(what: &str, settings: &Settings) -> anyhow::Result<()> {
    let begun = Instant::now();
    let buffer = Buffer::open(settings.clone())?;
    let opened = begun.elapsed();
    let queue = buffer.queues()[0];
    let first = buffer.read(queue.epoch, queue.first_unacked, 256, 1 << 20)?;
    println!("{what}: open {opened:?}, first {} events after {:?}", first.len(), begun.elapsed());
    report(what);
    let begun = Instant::now();
    let mut read = 0;
    let mut from = queue.first_unacked;
    loop {
        let events = buffer.read(queue.epoch, from, 256, 1 << 20)?;
        let Some((last, _)) = events.last() else { break };
        read += events.len();
        from = last + 1;
    }
    println!("{what}: read {read} events at {:.0}/s", read as f64 / begun.elapsed().as_secs_f64());
    report("read");
    Ok(())
}

/// Returns events a second.
fn append(buffer: &Buffer, events: u64) -> anyhow::Result<f64> {
    let begun = Instant::now();
    thread::scope(|scope| {
        let share = |t: u64| events / THREADS + u64::from(t < events % THREADS);
        let threads: Vec<_> = (0..THREADS).map(|t| scope.spawn(move || append_some(buffer, t, share(t)))).collect();
        threads.into_iter().try_for_each(|t| t.join().map_err(|_| anyhow::anyhow!("a thread panicked"))?)
    })?;
    Ok(events as f64 / begun.elapsed().as_secs_f64())
}

fn append_some(buffer: &Buffer, thread: u64, events: u64) -> anyhow::Result<()> {
    let mut standing = VecDeque::with_capacity(IN_FLIGHT);
    for i in 0..events {
        if standing.len() == IN_FLIGHT {
            for receipt in standing.drain(..IN_FLIGHT / 2) {
                galen_buffer::Receipt::wait(receipt)?;
            }
        }
        standing.push_back(buffer.append(event(thread, i)));
    }
    for receipt in standing {
        receipt.wait()?;
    }
    Ok(())
}

/// About 1 KiB, with as much variety as events have.
fn event(thread: u64, i: u64) -> Bytes {
    let mut text = format!(
        r#"{{"tracer":"cpuidle","kind":"trigger","run":"{:032x}","observed":"2026-03-04T05:{:02}:{:02}.{:09}Z","host":"node-{thread:04}","container":{{"id":"{:064x}","name":"checkout-{}","namespace":"shop"}},"data":{{"user_percent":{}.{},"#,
        u128::from(i) * 0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c834,
        i / 60 % 60,
        i % 60,
        i * 7919 % 1_000_000_000,
        u128::from(i) * 0x2545_f491_4f6c_dd1d,
        i % 97,
        i % 100,
        i % 10,
    );
    text.push_str(r#""top":["#);
    let mut n = i;
    while text.len() < 1000 {
        n = n.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        text.push_str(&format!(
            r#"{{"comm":"worker-{}","pid":{},"cpu":{}}},"#,
            n >> 60,
            n >> 47 & 0xffff,
            n >> 33 & 0xff
        ));
    }
    text.push_str("{}]}}");
    Bytes::from(text)
}

fn report(what: &str) {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name: &str| status.lines().find_map(|l| l.strip_prefix(name)).unwrap_or("?").trim().to_owned();
    println!("{what}: RSS {}, peak {}, threads {}", field("VmRSS:"), field("VmHWM:"), field("Threads:"));
}

/// Voluntary context switches of all threads but this one.
fn idle_wakeups(time: Duration) -> anyhow::Result<u64> {
    let count = || -> anyhow::Result<u64> {
        let mut sum = 0;
        for task in fs::read_dir("/proc/self/task")? {
            let task = task?;
            if task.file_name().to_string_lossy() == std::process::id().to_string() {
                continue;
            }
            let status = fs::read_to_string(task.path().join("status"))?;
            let line = status.lines().find_map(|l| l.strip_prefix("voluntary_ctxt_switches:"));
            sum += line.and_then(|l| l.trim().parse::<u64>().ok()).unwrap_or(0);
        }
        Ok(sum)
    };
    thread::sleep(Duration::from_secs(2));
    let before = count()?;
    thread::sleep(time);
    Ok(count()? - before)
}

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        match entry.file_type()?.is_dir() {
            true => copy(&entry.path(), &target)?,
            false => drop(fs::copy(entry.path(), target)?),
        }
    }
    Ok(())
}
