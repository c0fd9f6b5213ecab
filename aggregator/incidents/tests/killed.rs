//! kill -9 of what counts, again and again, with a real log: no count is lost, none is doubled.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{
    env, fs,
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use galen_incidents::{Kept, Seen, save};
use galen_log::{Append, EmbeddedLog, Log, embedded::Settings};
use galen_proto::v1::EventKind;
use support::{NOW, Stack, event, limits, lone_trigger, record};

const DIR: &str = "GALEN_INCIDENTS_KILLED_DIR";
const UPTO: &str = "GALEN_INCIDENTS_KILLED_UPTO";
/// Rounds of `make test`; `make soak` sets more by the environment.
const ROUNDS: u64 = 10;
const RECORDS_A_ROUND: u64 = 30;
/// For what must happen: far more than it takes.
const PATIENCE: Duration = Duration::from_secs(120);

const ONE: [Stack<'static>; 1] = [(&[("serve", "/usr/bin/web"), ("cart_total", "/usr/bin/web")], 9)];
const OTHER: [Stack<'static>; 1] = [(&[("serve", "/usr/bin/web"), ("search", "/usr/bin/web")], 9)];

fn fill(dir: &Path, records: u64) {
    let (_log, mut writer, _) = EmbeddedLog::open(Settings::new(dir.join("log"))).unwrap();
    let records = (0..records).map(|n| {
        let run = (n / 20).to_string();
        let image = format!("image-{}", n % 5);
        let stacks = if n % 7 == 0 { &OTHER } else { &ONE };
        // A run's trigger and its capture are in records that lie apart.
        let event = match n % 20 {
            0..10 => event(EventKind::Trigger, &run, &image, &[]),
            10..17 => event(EventKind::Capture, &run, &image, stacks),
            _ => lone_trigger(&format!("{n}"), &image),
        };
        record(&format!("node-{}", n % 10), n / 10 + 1, NOW + n as i64, &[event])
    });
    for group in records.collect::<Vec<_>>().chunks(100) {
        writer.append(group).unwrap();
    }
}

/// Counts up to an offset at least, and saves as often as it can.
async fn count(dir: &Path, upto: u64) -> Kept {
    let (log, _writer, _) = EmbeddedLog::open(Settings::new(dir.join("log"))).unwrap();
    let log: Arc<dyn Log> = Arc::new(log);
    let path = dir.join("incidents");
    let mut kept = Kept::open(&path, limits()).unwrap();
    let mut reader = log.reader(kept.next());
    while kept.next() < upto {
        kept.take(&Seen::of(&reader.next(4).await.unwrap()));
        save(&path, &kept.encoded()).unwrap();
    }
    kept
}

/// Not a test of its own: what is killed.
#[tokio::test]
async fn counts_until_it_is_killed() {
    let (Some(dir), Ok(upto)) = (env::var_os(DIR), env::var(UPTO)) else { return };
    let dir = Path::new(&dir);
    let kept = count(dir, upto.parse().unwrap()).await;
    loop {
        save(&dir.join("incidents"), &kept.encoded()).unwrap();
    }
}

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The offset in the file.
fn place(dir: &Path) -> u64 {
    fs::read(dir.join("incidents")).map_or(0, |bytes| u64::from_le_bytes(bytes[8..16].try_into().unwrap()))
}

#[tokio::test]
async fn a_process_that_is_killed_again_and_again_counts_as_one_that_never_was() {
    let rounds = env::var("GALEN_SOAK_ROUNDS").map_or(ROUNDS, |rounds| rounds.parse().unwrap());
    // Some are left for the one that is not killed.
    let records = (rounds + 2) * RECORDS_A_ROUND;
    let (killed, whole) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fill(killed.path(), records);
    fill(whole.path(), records);
    count(whole.path(), records).await;
    for round in 1..=rounds {
        let target = round * RECORDS_A_ROUND;
        let child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "counts_until_it_is_killed"])
            .env(DIR, killed.path())
            .env(UPTO, (target + 12).to_string())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut child = Killed(child);
        // Wherever it is then: reading, counting, writing the file, or between the file and its name.
        let deadline = Instant::now() + PATIENCE;
        while place(killed.path()) < target {
            assert!(Instant::now() < deadline, "it stands at {}", place(killed.path()));
            assert_eq!(child.0.try_wait().unwrap(), None, "it ended at {}", place(killed.path()));
            thread::yield_now();
        }
    }
    assert!(place(killed.path()) < records);
    count(killed.path(), records).await;
    let read = |dir: &Path| fs::read(dir.join("incidents")).unwrap();
    assert!(read(killed.path()) == read(whole.path()), "the counts differ");
    let kept = Kept::open(&killed.path().join("incidents"), limits()).unwrap();
    let totals = kept.table().totals();
    assert_eq!(totals.events, records);
    assert_eq!(kept.table().changed_since(0).map(|one| one.tally.events).sum::<u64>(), records);
}
