//! What is seen of a disk while a capture runs.
//!
//! Each kind of evidence has programs of its own; one that this kernel refuses is left out, and said to be. They are
//! attached for as long as the capture takes: programs on system calls and on the scheduler cost everybody something.

use std::{
    collections::{HashMap, VecDeque},
    os::fd::AsFd,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use galen_bpf::{BadRecord, Inode, Kernel, Owner, Support, block_io, file_io, io_stall};
use galen_profile::{Cancel, kernel_functions};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{disk::Disk, owners::Owners, volumes::Volumes};
use crate::{clock::Clock, host::Environment, tracer::BoxError};

/// How often is read what the programs hold.
const TICK: Duration = Duration::from_secs(1);
/// Waits for IO that are told one by one, and how many of them, the newest.
pub(super) const LONG_WAIT: Duration = Duration::from_millis(100);
pub(super) const LONG_WAITS: usize = 10;
/// What every wait for IO goes through, `io_schedule_timeout` among them.
const IO_SCHEDULE: &str = "io_schedule";
/// Names of files that are kept.
const NAMES: usize = 16_384;

/// The attached programs.
pub(super) struct Tracing {
    disk: Disk,
    block: Option<block_io::Watch>,
    files: Option<file_io::Watch>,
    stalls: Option<io_stall::Watch>,
    /// What is left out, and why.
    left_out: Vec<String>,
}

/// What was seen.
#[derive(Default)]
pub(super) struct Evidence {
    pub lasted: Duration,
    /// Requests, by process and container.
    pub usage: Vec<block_io::Usage>,
    pub flights: Vec<block_io::Flight>,
    pub histograms: Option<block_io::Histograms>,
    /// System calls, by process and file.
    pub files: Vec<file_io::Usage>,
    /// Those that are not over.
    pub calls: Vec<file_io::Call>,
    /// Where files are seen.
    pub names: HashMap<Inode, String>,
    /// Waits for IO of the whole machine.
    pub waiters: Vec<io_stall::Waiter>,
    /// The newest long ones.
    pub stalls: VecDeque<io_stall::Stall>,
    pub stalls_seen: u64,
    /// Those that are not over, and when they were looked at, since boot.
    pub waiting: Vec<io_stall::Stall>,
    pub ended: Duration,
    /// Functions of the kernel, the innermost first.
    pub stacks: HashMap<u32, Vec<String>>,
    /// Paths of cgroups.
    pub cgroups: HashMap<Owner, String>,
    pub lost: Lost,
    pub left_out: Vec<String>,
}

/// What is not in the figures.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Lost {
    pub table_full: u64,
    pub ring_full: u64,
    pub bad_record: u64,
    /// Waits whose place is not known.
    pub no_stack: u64,
    /// Not a loss: requests that ended and had begun before the capture.
    pub begun_before: u64,
}

impl Tracing {
    /// For this disk.
    ///
    /// # Errors
    /// None of the programs could be attached; the error is that of the first.
    pub(super) fn attach(kernel: &Kernel, disk: Disk) -> Result<Self, galen_bpf::Error> {
        let mut numbers: Vec<u32> = disk.with_requests().iter().map(Disk::number).collect();
        let mut left_out = Vec::new();
        if numbers.len() > block_io::DISKS {
            left_out.push(format!("requests of {} disks more", numbers.len() - block_io::DISKS));
            numbers.truncate(block_io::DISKS);
        }
        let mut say = |what: &str, error: &galen_bpf::Error| left_out.push(format!("{what}: {}", error.reason()));
        let stalls = io_stall::Watch::attach(kernel, LONG_WAIT).inspect_err(|error| say("waits for IO", error)).ok();
        let files = file_io::Watch::attach(kernel).inspect_err(|error| say("files", error)).ok();
        let block = match block_io::Watch::attach(kernel, &numbers) {
            Err(error) if files.is_none() && stalls.is_none() => return Err(error),
            block => block.inspect_err(|error| say("requests", error)).ok(),
        };
        if let Some(Support::Degraded(why)) = block.as_ref().map(block_io::Watch::support) {
            left_out.push(why);
        }
        Ok(Self { disk, block, files, stalls, left_out })
    }

    pub(super) fn left_out(&self) -> &[String] {
        &self.left_out
    }

    /// Gathers for as long as asked, or until cancelled. Blocks.
    pub(super) fn gather(
        mut self,
        duration: Duration,
        cancel: &Cancel,
        clock: &Clock,
        environment: &Arc<Environment>,
    ) -> Result<Evidence, BoxError> {
        let begun = Instant::now();
        let mut evidence = Evidence::default();
        let mut owners = Owners::new(environment);
        let mut volumes = Volumes::of(&self.disk);
        let raw: Vec<u32> = volumes.numbers().collect();
        self.watch_volumes(&raw, &mut evidence.left_out);
        loop {
            owners.follow(clock.now().boot);
            match volumes.refresh() {
                Ok(fresh) => self.watch_volumes(&fresh, &mut evidence.left_out),
                Err(error) => tracing::debug!(%error, "mounts were not read"),
            }
            self.drain(&mut evidence, &volumes);
            let left = duration.saturating_sub(begun.elapsed());
            if left.is_zero() || is_cancelled(cancel, left.min(TICK))? {
                break;
            }
        }
        evidence.lasted = begun.elapsed();
        self.drain(&mut evidence, &volumes);
        owners.follow(clock.now().boot);
        evidence.ended = clock.now().boot;
        evidence.cgroups = owners.paths();
        self.finish(&mut evidence);
        Ok(evidence)
    }

    fn watch_volumes(&mut self, numbers: &[u32], left_out: &mut Vec<String>) {
        let Some(files) = &mut self.files else { return };
        for number in numbers {
            if files.add_volume(*number).is_err() {
                left_out.push(format!("files of device {}:{}", number >> 20, number & 0xf_ffff));
            }
        }
    }

    /// Takes what lies in the rings.
    fn drain(&mut self, evidence: &mut Evidence, volumes: &Volumes) {
        let Evidence { names, stalls, stalls_seen, lost, .. } = evidence;
        let mut understood = |error: &BadRecord| {
            tracing::warn!(%error, "a record was not understood");
            lost.bad_record += 1;
        };
        while let Some(name) = self.files.as_mut().and_then(file_io::Watch::next_name) {
            let Ok(name) = name.inspect_err(&mut understood) else { continue };
            if names.len() < NAMES {
                names.insert(name.inode, volumes.seen_at(name.inode, &name.path));
            }
        }
        while let Some(stall) = self.stalls.as_mut().and_then(io_stall::Watch::next_stall) {
            let Ok(stall) = stall.inspect_err(&mut understood) else { continue };
            *stalls_seen += 1;
            stalls.push_back(stall);
            if stalls.len() > LONG_WAITS {
                stalls.pop_front();
            }
        }
    }

    /// Reads the tables, then detaches.
    fn finish(self, evidence: &mut Evidence) {
        if let Some(block) = &self.block {
            (evidence.usage, evidence.flights) = (block.usage(), block.flights());
            evidence.histograms = Some(block.histograms());
            let lost = block.lost();
            evidence.lost.table_full += lost.users_full + lost.flights_full;
            evidence.lost.begun_before = lost.begun_before;
        }
        if let Some(files) = &self.files {
            (evidence.files, evidence.calls) = (files.usage(), files.calls());
            // A thread that was killed in a call never ended it.
            let lives = |call: &file_io::Call| Path::new(&format!("/proc/{}/task/{}", call.pid, call.tid)).exists();
            evidence.calls.retain(lives);
            evidence.lost.table_full += files.lost().table_full;
            evidence.lost.ring_full += files.lost().ring_full;
        }
        if let Some(stalls) = &self.stalls {
            (evidence.waiters, evidence.waiting) = (stalls.waiters(), stalls.waiting());
            evidence.stacks = stacks(stalls, evidence);
            evidence.lost.table_full += stalls.lost().table_full;
            evidence.lost.ring_full += stalls.lost().ring_full;
            evidence.lost.no_stack = stalls.lost().no_stack;
        }
        evidence.left_out.splice(0..0, self.left_out);
    }
}

/// The stacks that the evidence speaks of, by name.
fn stacks(watch: &io_stall::Watch, evidence: &Evidence) -> HashMap<u32, Vec<String>> {
    let of_stalls = evidence.stalls.iter().chain(&evidence.waiting).filter_map(|stall| stall.stack);
    let numbers = evidence.waiters.iter().filter_map(|waiter| waiter.stack).chain(of_stalls);
    let stacks: HashMap<u32, Vec<u64>> = numbers.map(|number| (number, watch.stack(number))).collect();
    let names = kernel_functions(stacks.values().flatten().copied().collect());
    let name = |address: &u64| names.get(address).cloned().unwrap_or_else(|| format!("{address:#x}"));
    let named = |addresses: &Vec<u64>| {
        let mut names: Vec<String> = addresses.iter().map(name).collect();
        // What lies further in is the scheduler's, and our own.
        let wait = names.iter().position(|name| name.starts_with(IO_SCHEDULE)).unwrap_or(0);
        names.split_off(wait)
    };
    stacks.iter().map(|(number, addresses)| (*number, named(addresses))).collect()
}

fn is_cancelled(cancel: &Cancel, within: Duration) -> Result<bool, BoxError> {
    let mut events = [PollFd::from_borrowed_fd(cancel.as_fd(), PollFlags::IN)];
    match poll(&mut events, Some(&Timespec::try_from(within)?)) {
        Ok(ready) => Ok(ready > 0),
        Err(rustix::io::Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
