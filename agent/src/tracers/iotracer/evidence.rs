//! What is seen of a disk while a capture runs.
//!
//! Each kind of evidence has programs of its own; one that this kernel refuses is left out, and said to be. They are
//! attached for as long as the capture takes: programs on system calls and on the scheduler cost everybody something.

use std::{
    collections::HashMap,
    os::fd::AsFd,
    sync::Arc,
    time::{Duration, Instant},
};

use galen_bpf::{Kernel, Owner, block_io};
use galen_profile::Cancel;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{disk::Disk, owners::Owners};
use crate::{clock::Clock, host::Environment, tracer::BoxError};

/// How often is read what the programs hold.
const TICK: Duration = Duration::from_secs(1);

/// The attached programs.
pub(super) struct Tracing {
    block: block_io::Watch,
    /// What is left out, and why.
    left_out: Vec<String>,
}

/// What was seen.
pub(super) struct Evidence {
    pub lasted: Duration,
    pub usage: Vec<block_io::Usage>,
    pub flights: Vec<block_io::Flight>,
    pub histograms: block_io::Histograms,
    pub lost: block_io::Lost,
    pub left_out: Vec<String>,
    /// Paths of cgroups.
    pub cgroups: HashMap<Owner, String>,
}

impl Tracing {
    /// For the requests of these disks.
    pub(super) fn attach(kernel: &Kernel, disks: &[Disk]) -> Result<Self, galen_bpf::Error> {
        let mut numbers: Vec<u32> = disks.iter().map(Disk::number).collect();
        let mut left_out = Vec::new();
        if numbers.len() > block_io::DISKS {
            left_out.push(format!("the requests of {} disks more", numbers.len() - block_io::DISKS));
            numbers.truncate(block_io::DISKS);
        }
        let block = block_io::Watch::attach(kernel, &numbers)?;
        if let galen_bpf::Support::Degraded(why) = block.support() {
            left_out.push(why);
        }
        Ok(Self { block, left_out })
    }

    pub(super) fn left_out(&self) -> &[String] {
        &self.left_out
    }

    /// Gathers for as long as asked, or until cancelled. Blocks.
    pub(super) fn gather(
        self,
        duration: Duration,
        cancel: &Cancel,
        clock: &Clock,
        environment: &Arc<Environment>,
    ) -> Result<Evidence, BoxError> {
        let begun = Instant::now();
        let mut owners = Owners::new(environment);
        loop {
            owners.follow(clock.now().boot);
            let left = duration.saturating_sub(begun.elapsed());
            if left.is_zero() || is_cancelled(cancel, left.min(TICK))? {
                break;
            }
        }
        owners.follow(clock.now().boot);
        Ok(Evidence {
            lasted: begun.elapsed(),
            usage: self.block.usage(),
            flights: self.block.flights(),
            histograms: self.block.histograms(),
            lost: self.block.lost(),
            left_out: self.left_out,
            cgroups: owners.paths(),
        })
    }
}

fn is_cancelled(cancel: &Cancel, within: Duration) -> Result<bool, BoxError> {
    let mut events = [PollFd::from_borrowed_fd(cancel.as_fd(), PollFlags::IN)];
    match poll(&mut events, Some(&Timespec::try_from(within)?)) {
        Ok(ready) => Ok(ready > 0),
        Err(rustix::io::Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
