//! CPU time: in a function with a known name, in the kernel, in threads or in processes that live for a moment.

use std::{
    hint,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use clap::Args;

use super::in_threads;

/// The function in which user time is spent.
pub const HOT_FUNCTION: &str = "galen_test_hot_function";
/// Length of one turn of a load that works and rests.
const TURN: Duration = Duration::from_millis(50);

#[derive(Args)]
pub(super) struct Spin {
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Spend the time in the kernel.
    #[arg(long)]
    system: bool,
    /// Share of the time that is spent, from 0 to 1.
    #[arg(long, default_value_t = 1.0)]
    share: f64,
    /// Begin at no share and come to it slowly, over the whole time.
    #[arg(long)]
    ramp: bool,
    /// Spend it in one process after another, each of which lives this long.
    #[arg(long)]
    process_millis: Option<u64>,
    /// Rest for `off` seconds after each `on` seconds: `20,40`.
    #[arg(long, value_parser = on_off)]
    every: Option<(Duration, Duration)>,
}

impl Spin {
    pub(super) fn run(self, lasts: Duration) -> Result<()> {
        let end = Instant::now() + lasts;
        in_threads(self.threads, |_| self.worker(lasts, end))
    }

    fn worker(&self, lasts: Duration, end: Instant) -> Result<()> {
        let start = Instant::now();
        while Instant::now() < end {
            if let Some((on, off)) = self.every {
                self.work(end.min(Instant::now() + on))?;
                thread::sleep(off.min(end.saturating_duration_since(Instant::now())));
            } else if self.ramp || self.share < 1.0 {
                let along = if self.ramp { start.elapsed().div_duration_f64(lasts) } else { 1.0 };
                let work = TURN.mul_f64((self.share * along).min(1.0));
                self.work(Instant::now() + work)?;
                thread::sleep(TURN - work);
            } else {
                self.work(end)?;
            }
        }
        Ok(())
    }

    fn work(&self, until: Instant) -> Result<()> {
        if let Some(millis) = self.process_millis {
            let own = std::env::current_exe()?;
            while Instant::now() < until {
                let mut child = Command::new(&own);
                child.args(["--lasts", &format!("{millis}ms"), "spin"]);
                if self.system {
                    child.arg("--system");
                }
                child.status().context("failed to start a process that lives for a moment")?;
            }
        } else if self.system {
            while Instant::now() < until {
                for _ in 0..1000 {
                    hint::black_box(rustix::process::getppid());
                }
            }
        } else {
            hint::black_box(galen_test_hot_function(until));
        }
        Ok(())
    }
}

fn on_off(text: &str) -> Result<(Duration, Duration)> {
    let (on, off) = text.split_once(',').context("two numbers with a comma between them")?;
    Ok((Duration::from_secs_f64(on.parse()?), Duration::from_secs_f64(off.parse()?)))
}

#[allow(unsafe_code, reason = "the function's name must be found in the symbol table as it is written")]
#[unsafe(no_mangle)]
#[inline(never)]
fn galen_test_hot_function(until: Instant) -> u64 {
    let mut turns = 0_u64;
    while Instant::now() < until {
        // Without an iterator, whose functions would be the hottest where they are not inlined.
        let mut left = 10_000_u32;
        while left > 0 {
            turns = hint::black_box(turns * 31 % 8191 + 7);
            left -= 1;
        }
    }
    turns
}
