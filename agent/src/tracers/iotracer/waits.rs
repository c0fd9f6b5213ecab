//! Which tasks waited for IO, and where in the kernel.

use std::collections::HashMap;

use galen_bpf::io_stall::Stall;
use serde::Serialize;

use super::{
    evidence::Evidence,
    latency::seconds,
    names::{Names, Place},
};

/// Waits of a process at one place.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Wait {
    pid: u32,
    name: String,
    #[serde(flatten)]
    place: Place,
    waits: u64,
    seconds: f64,
    max_seconds: f64,
    /// Functions of the kernel, the innermost first.
    stack: Vec<String>,
}

/// One long wait.
#[derive(Debug, Clone, Serialize)]
pub(super) struct LongWait {
    pid: u32,
    tid: u32,
    name: String,
    thread: String,
    #[serde(flatten)]
    place: Place,
    pub seconds: f64,
    /// Whether it lasted still when the capture ended.
    waits_still: bool,
    stack: Vec<String>,
}

/// Those that waited longest first. Stacks that differ by an instruction are one place.
pub(super) fn waits(evidence: &Evidence, names: &Names) -> Vec<Wait> {
    let mut waits: HashMap<(u32, Vec<String>), Wait> = HashMap::new();
    for waiter in &evidence.waiters {
        let stack = stack(evidence, waiter.stack);
        let wait = waits.entry((waiter.pid, stack.clone())).or_insert_with(|| Wait {
            pid: waiter.pid,
            name: waiter.comm.text().into_owned(),
            place: names.place(waiter.owner),
            waits: 0,
            seconds: 0.0,
            max_seconds: 0.0,
            stack,
        });
        wait.waits += waiter.waits;
        wait.seconds += seconds(waiter.time);
        wait.max_seconds = wait.max_seconds.max(seconds(waiter.time_max));
    }
    let mut waits: Vec<_> = waits.into_values().collect();
    waits.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
    waits
}

/// The newest that ended and those that last, of them the longest first, `most` at most.
pub(super) fn long_waits(evidence: &Evidence, names: &Names, least: f64, most: usize) -> Vec<LongWait> {
    let long_wait = |stall: &Stall| LongWait {
        pid: stall.pid,
        tid: stall.tid,
        name: stall.comm.text().into_owned(),
        thread: stall.thread.text().into_owned(),
        place: names.place(stall.owner),
        seconds: seconds(stall.took.unwrap_or_else(|| evidence.ended.saturating_sub(stall.begun))),
        waits_still: stall.took.is_none(),
        stack: stack(evidence, stall.stack),
    };
    let all = evidence.waiting.iter().chain(&evidence.stalls).map(long_wait);
    let mut all: Vec<_> = all.filter(|wait| wait.seconds >= least).collect();
    all.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
    all.truncate(most);
    all
}

fn stack(evidence: &Evidence, number: Option<u32>) -> Vec<String> {
    number.and_then(|number| evidence.stacks.get(&number)).cloned().unwrap_or_default()
}
