//! Captures and looks back: from a scope and a duration to a profile.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use galen_bpf::{Kernel, Support, flight::Image, release_free_memory};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::{
    cancel::Cancel,
    collector::Collector,
    history::{self, Counts, History, HistoryError},
    profile::{NoHistory, Profile, Recording},
    report::{self, Taken},
    session::{Ended, Refused, Session},
    target::Scope,
};

/// How long samples stay in the ring at most.
const TICK: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Samples a second and CPU. An odd number does not run in step with what happens every so many milliseconds.
    pub hertz: u32,
    /// Size of the ring that samples wait in: a power of two, at least a page. `None` chooses by the number of CPUs.
    pub ring_bytes: Option<u32>,
    /// Whether the flight recorder runs.
    pub history: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self { hertz: 99, ring_bytes: None, history: true }
    }
}

#[derive(Debug, Clone)]
pub struct Request {
    pub scope: Scope,
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
    #[error(transparent)]
    NoHistory(#[from] NoHistory),
}

/// The loaded programs. Clones share them.
#[derive(Clone)]
pub struct Sampler {
    shared: Arc<Shared>,
}

struct Shared {
    session: Mutex<Session>,
    /// Readable when the kernel side asks to be drained early.
    ring: OwnedFd,
    hertz: u32,
    no_history: Option<NoHistory>,
}

impl Sampler {
    /// Loads the programs. The flight recorder runs from now on; nothing else is sampled before a capture.
    ///
    /// # Errors
    /// What the machine lacks, in one line. A flight recorder that does not work is no error: see
    /// [`support`](Self::support).
    pub fn load(kernel: &Kernel, settings: &Settings) -> Result<Self, Error> {
        let hertz = settings.hertz.max(1);
        let mut session = Session::load(kernel, hertz, settings.ring_bytes.unwrap_or_else(ring_bytes))?;
        let no_history = match settings.history.then(|| History::load(kernel)) {
            None => Some(NoHistory::Off),
            Some(Err(HistoryError::Bpf(error))) => Some(NoHistory::Broken(error.reason())),
            Some(Err(error)) => Some(NoHistory::Broken(error.to_string())),
            Some(Ok(history)) => {
                session.history = Some(history);
                None
            }
        };
        let ring = session.ring_fd().map_err(Error::Wait)?;
        Ok(Self { shared: Arc::new(Shared { session: Mutex::new(session), ring, hertz, no_history }) })
    }

    /// Whether profiles begin before their trigger.
    #[must_use]
    pub fn support(&self) -> Support {
        match &self.shared.no_history {
            None | Some(NoHistory::Off) => Support::Full,
            Some(why) => Support::Degraded(format!("profiles begin with their trigger: {why}")),
        }
    }

    /// Samples for as long as asked, or until cancelled, and gives what there is. Blocks: call it on a thread for it.
    ///
    /// # Errors
    /// Too many captures at one time, or what the kernel refuses.
    pub fn capture(&self, request: &Request, cancel: &Cancel) -> Result<Profile, Error> {
        let running = self.begin(&request.scope)?;
        let (started, clock) = (SystemTime::now(), Instant::now());
        self.wait(clock + request.duration, cancel)?;
        self.finish(running, started, clock.elapsed())
    }

    /// As [`capture`](Self::capture), with what the flight recorder has of the time before.
    ///
    /// # Errors
    /// As [`capture`](Self::capture); of the flight recorder, what the kernel refuses.
    pub fn record(&self, request: &Request, span: Duration, cancel: &Cancel) -> Result<Recording, Error> {
        // The capture first, so that nothing is lost between the two.
        let running = self.begin(&request.scope)?;
        let (started, clock) = (SystemTime::now(), Instant::now());
        let past = self.freeze(&request.scope, span);
        self.wait(clock + request.duration, cancel)?;
        let after = self.finish(running, started, clock.elapsed())?;
        let before = match past.and_then(Frozen::name) {
            Ok(profile) => Ok(profile),
            Err(Error::NoHistory(why)) => Err(why),
            Err(error) => return Err(error),
        };
        Ok(Recording { before, after })
    }

    /// The last seconds up to now, as far as the flight recorder has them. Blocks for some milliseconds.
    ///
    /// # Errors
    /// There is no flight recorder, or what the kernel refuses.
    pub fn freeze(&self, scope: &Scope, span: Duration) -> Result<Frozen, Error> {
        check(scope)?;
        if let Some(why) = &self.shared.no_history {
            return Err(why.clone().into());
        }
        let (now, at) = (SystemTime::now(), history::now());
        let nanoseconds = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        let mut session = self.shared.lock();
        let Some((collector, covered)) = session.past(scope, at.saturating_sub(nanoseconds)..at)? else {
            return Err(NoHistory::Off.into());
        };
        let period = session.history.as_ref().map_or(Duration::ZERO, |history| history.period);
        let lasted = Duration::from_nanos(at.saturating_sub(covered.from));
        Ok(Frozen { collector, taken: Taken { started: now.checked_sub(lasted).unwrap_or(now), lasted, period } })
    }

    /// To be called about once a second: program images that are new to the flight recorder, for
    /// [`keep_up`](Self::keep_up). Costs nothing while there are none. `None` when nothing is to be done.
    #[must_use]
    pub fn news(&self) -> Option<News> {
        // Who holds the lock looks at processes itself.
        self.shared.session.try_lock().ok()?.news().map(News)
    }

    /// Reads what these processes have mapped, while they live. Blocks for a millisecond.
    pub fn keep_up(&self, news: &News) {
        self.shared.lock().keep_up(&news.0);
    }

    /// What the flight recorder did so far; `None` if there is none.
    #[must_use]
    pub fn counts(&self) -> Option<Counts> {
        self.shared.lock().history.as_ref()?.counts().ok()
    }

    fn begin(&self, scope: &Scope) -> Result<Running<'_>, Error> {
        check(scope)?;
        let slot = self.shared.lock().begin(scope).map_err(|refused| match refused {
            Refused::NoSlot => Error::Busy,
            Refused::TooManyTargets => Error::TooManyTargets,
            Refused::Bpf(error) => Error::Bpf(error),
        })?;
        Ok(Running { shared: &self.shared, slot, ended: false })
    }

    fn finish(&self, running: Running<'_>, started: SystemTime, lasted: Duration) -> Result<Profile, Error> {
        let period = Duration::from_secs(1) / self.shared.hertz;
        let profile = report::build(running.end(), &Taken { started, lasted, period });
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

/// Program images to look at.
#[derive(Debug)]
pub struct News(Vec<Image>);

/// Samples of the past, not named yet.
pub struct Frozen {
    collector: Collector,
    taken: Taken,
}

impl Frozen {
    /// How far back it goes.
    #[must_use]
    pub fn lasted(&self) -> Duration {
        self.taken.lasted
    }

    /// Finds the names. Blocks, for seconds if files are large and read for the first time.
    ///
    /// # Errors
    /// The profile cannot be written.
    pub fn name(self) -> Result<Profile, Error> {
        let ended = Ended { collector: self.collector, ring_full: 0 };
        let profile = report::build(ended, &self.taken).map_err(Error::Encode);
        release_free_memory();
        profile
    }
}

fn check(scope: &Scope) -> Result<(), Error> {
    match scope {
        Scope::Cgroups(targets) if targets.is_empty() => Err(Error::NoTarget),
        _ => Ok(()),
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
