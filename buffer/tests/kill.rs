//! kill -9 of a process that appends, on the real file system: what it reported as durable is there.

#![allow(clippy::unwrap_used, reason = "a test may fail anywhere")]

mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    io::{BufRead, BufReader, Write as _},
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use bytes::Bytes;
use galen_buffer::{Buffer, EventPosition, LossReasonCode, Receipt, Settings};
use support::{MIB, assert_complete};

const ROUNDS: u64 = 12;
/// Set for the child, which is this very test.
const DIR: &str = "GALEN_BUFFER_KILL_DIR";
const SEED: &str = "GALEN_BUFFER_KILL_SEED";

fn event(seed: u64) -> Bytes {
    support::event(seed, (seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize % 20_000)
}

fn settings(dir: impl Into<PathBuf>) -> Settings {
    Settings { max_bytes: 4096 * MIB, ..support::settings(dir) }
}

/// Appends for ever and prints what is durable.
fn append_forever(dir: &str, first: u64) {
    let buffer = Buffer::open(settings(dir)).unwrap();
    let mut standing = Vec::new();
    let mut out = std::io::stdout().lock();
    for seed in first.. {
        standing.push((seed, buffer.append(event(seed))));
        if standing.len() >= 64 {
            for (seed, receipt) in standing.drain(..32) {
                let position = Receipt::wait(receipt).unwrap();
                writeln!(out, "durable {} {} {seed}", position.epoch, position.seq).unwrap();
            }
            out.flush().unwrap();
        }
    }
}

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[test]
fn what_was_durable_before_a_kill_is_there_after_it() {
    if let (Ok(dir), Ok(seed)) = (env::var(DIR), env::var(SEED)) {
        return append_forever(&dir, seed.parse().unwrap());
    }
    let dir = tempfile::tempdir().unwrap();
    let mut durable: BTreeMap<EventPosition, u64> = BTreeMap::new();
    let mut epochs = BTreeSet::new();
    for round in 0..ROUNDS {
        let child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "what_was_durable_before_a_kill_is_there_after_it", "--nocapture"])
            .env(DIR, dir.path())
            .env(SEED, (round * 1_000_000).to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut child = Killed(child);
        let lines = BufReader::new(child.0.stdout.take().unwrap()).lines();
        // A different amount each round; what it prints until it is dead is read as well.
        let enough = 1 + round * 97;
        let mut reported = 0;
        for line in lines {
            let line = line.unwrap();
            let Some(rest) = line.split("durable ").nth(1) else { continue };
            let fields: Vec<u64> = rest.split(' ').map_while(|f| f.parse().ok()).collect();
            let [epoch, seq, seed] = fields[..] else { break };
            assert_eq!(durable.insert(EventPosition { epoch, seq }, seed), None, "a number was given twice");
            epochs.insert(epoch);
            reported += 1;
            if reported == enough {
                child.0.kill().unwrap();
            }
        }
        assert!(reported >= enough, "the child ended by itself");
        drop(child);
        assert_eq!(epochs.len() as u64, round + 1, "each unclean end begins a new epoch");

        if round % 4 == 3 {
            check(dir.path(), &durable);
        }
    }
}

fn check(dir: &std::path::Path, durable: &BTreeMap<EventPosition, u64>) {
    let image = tempfile::tempdir().unwrap();
    support::crash_image(dir, image.path());
    let buffer = Buffer::open(settings(image.path())).unwrap();
    let all = assert_complete(&buffer);
    for queue in buffer.queues() {
        // It had no number when it was killed; what had is looked for below.
        let lost = buffer.losses(queue.epoch);
        assert!(lost.iter().all(|loss| loss.reason == LossReasonCode::NODE_LOST), "{lost:?}");
    }
    for (position, seed) in durable {
        assert_eq!(all.get(position), Some(&event(*seed)), "{position:?}");
    }
}
