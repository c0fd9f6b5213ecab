//! The burst: threads that are busy in a function with a name of its own, to be found again in the profile.

use std::{
    fs,
    hint::black_box,
    process, thread,
    time::{Duration, Instant},
};

use super::Error;
use crate::{arguments::Burst, error};

/// What the profile must show.
pub(super) const HOT_FUNCTION: &str = "galen_demo_burst_inner";
/// Rounds between two looks at the clock: about a millisecond.
const ROUNDS: u64 = 1 << 20;

/// The child's side: joins the cgroups and is busy for the time.
pub(crate) fn run(arguments: &Burst) -> Result<(), error::Error> {
    for procs in &arguments.join {
        let failed = |source| Error::Machine { what: format!("join the cgroup by {}", procs.display()), source };
        fs::write(procs, process::id().to_string()).map_err(failed)?;
    }
    let duration = arguments.duration.0;
    thread::scope(|scope| {
        for _ in 1..arguments.threads {
            scope.spawn(|| burn(duration));
        }
        burn(duration);
    });
    Ok(())
}

#[inline(never)]
fn burn(duration: Duration) {
    let started = Instant::now();
    let mut value = 1;
    while started.elapsed() < duration {
        value = black_box(galen_demo_burst_inner(value));
    }
}

/// A xorshift generator: nothing but arithmetic.
#[inline(never)]
fn galen_demo_burst_inner(seed: u64) -> u64 {
    let mut x = seed;
    for _ in 0..ROUNDS {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
    }
    x
}
