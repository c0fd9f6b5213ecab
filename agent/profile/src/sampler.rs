//! Captures: from cgroups and a duration to a profile.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use galen_bpf::{Kernel, Support, release_free_memory};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::{
    cancel::Cancel,
    profile::Profile,
    report::{self, Taken},
    session::{Ended, Refused, Session},
    target::Target,
};

/// How long samples stay in the ring at most.
const TICK: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Samples a second and CPU. An odd number does not run in step with what happens every so many milliseconds.
    pub hertz: u32,
    /// Size of the ring that samples wait in: a power of two, at least a page. `None` chooses by the number of CPUs.
    pub ring_bytes: Option<u32>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { hertz: 99, ring_bytes: None }
    }
}

#[derive(Debug, Clone)]
pub struct Request {
    /// Cgroups to sample, each with all below it. At least one.
    pub targets: Vec<Target>,
    pub duration: Duration,
}

/// Why there is no profile.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Bpf(#[from] galen_bpf::Error),
    #[error("{} captures run already, no more can", galen_bpf::cpu_profile::SLOTS)]
    Busy,
    #[error("captures name too many cgroups, {} together is the limit", galen_bpf::cpu_profile::TARGETS)]
    TooManyTargets,
    #[error("a capture needs at least one cgroup")]
    NoTarget,
    #[error("cannot wait for samples")]
    Wait(#[source] io::Error),
    #[error("cannot write the profile")]
    Encode(#[source] io::Error),
}

/// The loaded program. Clones share it.
#[derive(Clone)]
pub struct Sampler {
    shared: Arc<Shared>,
}

struct Shared {
    session: Mutex<Session>,
    /// Readable when the kernel side asks to be drained early.
    ring: OwnedFd,
    hertz: u32,
}

impl Sampler {
    /// Loads the program; nothing is sampled before a capture.
    ///
    /// # Errors
    /// What the machine lacks, in one line.
    pub fn load(kernel: &Kernel, settings: &Settings) -> Result<Self, Error> {
        let hertz = settings.hertz.max(1);
        let session = Session::load(kernel, hertz, settings.ring_bytes.unwrap_or_else(ring_bytes))?;
        let ring = session.ring_fd().map_err(Error::Wait)?;
        Ok(Self { shared: Arc::new(Shared { session: Mutex::new(session), ring, hertz }) })
    }

    /// That it was loaded is all it takes.
    #[must_use]
    pub fn support(&self) -> Support {
        Support::Full
    }

    /// Samples for as long as asked, or until cancelled, and gives what there is. Blocks: call it on a thread for it.
    ///
    /// # Errors
    /// Too many captures at one time, or what the kernel refuses.
    pub fn capture(&self, request: &Request, cancel: &Cancel) -> Result<Profile, Error> {
        if request.targets.is_empty() {
            return Err(Error::NoTarget);
        }
        let slot = self.shared.lock().begin(&request.targets).map_err(|refused| match refused {
            Refused::NoSlot => Error::Busy,
            Refused::TooManyTargets => Error::TooManyTargets,
            Refused::Bpf(error) => Error::Bpf(error),
        })?;
        let running = Running { shared: &self.shared, slot, ended: false };
        let (started, clock) = (SystemTime::now(), Instant::now());
        self.wait(clock + request.duration, cancel)?;
        let lasted = clock.elapsed();
        let profile = report::build(running.end(), Taken { started, lasted, hertz: self.shared.hertz });
        release_free_memory();
        profile.map_err(Error::Encode)
    }

    fn wait(&self, deadline: Instant, cancel: &Cancel) -> Result<(), Error> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            let mut events = [
                PollFd::new(&self.shared.ring, PollFlags::IN),
                PollFd::from_borrowed_fd(cancel.as_fd(), PollFlags::IN),
            ];
            let timeout =
                Timespec::try_from(left.min(TICK)).map_err(|_| Error::Wait(io::ErrorKind::InvalidInput.into()))?;
            match poll(&mut events, Some(&timeout)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(Error::Wait(error.into())),
            }
            if !events[1].revents().is_empty() {
                return Ok(());
            }
            self.shared.lock().drain();
        }
    }
}

impl std::fmt::Debug for Sampler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sampler").field("hertz", &self.shared.hertz).finish_non_exhaustive()
    }
}

impl Shared {
    /// A capture that panicked leaves a session that is whole: its tables are changed by one call each.
    fn lock(&self) -> MutexGuard<'_, Session> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends its capture however the capturing thread leaves.
struct Running<'a> {
    shared: &'a Shared,
    slot: usize,
    ended: bool,
}

impl Running<'_> {
    fn end(mut self) -> Ended {
        self.ended = true;
        self.shared.lock().end(self.slot)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.shared.lock().end(self.slot);
        }
    }
}

/// Four ticks' worth of stacks of usual depth; it is drained early when half full.
fn ring_bytes() -> u32 {
    const PER_CPU: u32 = 1 << 17;
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    u32::try_from(cpus).unwrap_or(u32::MAX).saturating_mul(PER_CPU).clamp(1 << 19, 1 << 24).next_power_of_two()
}
