//! CPU time: in a function with a known name, in the kernel, in threads or in processes that live for a moment.

use std::{
    fs::File,
    hint,
    io::Read,
    thread,
    time::{Duration, Instant},
};

use clap::Args;
use rustix::thread::{CpuSet, sched_setaffinity};

use crate::{
    Again,
    error::{Context, Error},
    in_threads,
};

/// The function in which user time is spent.
pub const HOT_FUNCTION: &str = "galen_hot_function";
/// Read at a time: so much that hardly any time is spent outside of the kernel.
const ZEROS: usize = 64 << 10;
/// Length of one turn of a load that works and rests.
const TURN: Duration = Duration::from_millis(50);

#[derive(Debug, Args)]
pub(crate) struct Spin {
    /// 0: one for each CPU.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// All on this CPU.
    #[arg(long)]
    cpu: Option<usize>,
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
    pub(crate) fn run(self, lasts: Duration, again: &Again<'_>) -> Result<(), Error> {
        if let Some(cpu) = self.cpu {
            let mut cpus = CpuSet::new();
            cpus.set(cpu);
            sched_setaffinity(None, &cpus).to(|| format!("run on CPU {cpu}"))?;
        }
        let end = Instant::now() + lasts;
        let threads = match self.threads {
            0 => thread::available_parallelism().map_or(1, usize::from),
            threads => threads,
        };
        in_threads(threads, |_| self.worker(lasts, end, again))
    }

    fn worker(&self, lasts: Duration, end: Instant, again: &Again<'_>) -> Result<(), Error> {
        let start = Instant::now();
        while Instant::now() < end {
            if let Some((on, off)) = self.every {
                self.work(end.min(Instant::now() + on), again)?;
                thread::sleep(off.min(end.saturating_duration_since(Instant::now())));
            } else if self.ramp || self.share < 1.0 {
                let along = if self.ramp { start.elapsed().div_duration_f64(lasts) } else { 1.0 };
                let work = TURN.mul_f64((self.share * along).min(1.0));
                self.work(Instant::now() + work, again)?;
                thread::sleep(TURN - work);
            } else {
                self.work(end, again)?;
            }
        }
        Ok(())
    }

    fn work(&self, until: Instant, again: &Again<'_>) -> Result<(), Error> {
        if let Some(millis) = self.process_millis {
            let load: &[&str] = if self.system { &["spin", "--system"] } else { &["spin"] };
            while Instant::now() < until {
                let mut child = again.command(Duration::from_millis(millis), load)?;
                child.status().to(|| "start a process that lives for a moment".into())?;
            }
        } else if self.system {
            let mut zeros = File::open("/dev/zero").to(|| "open /dev/zero".into())?;
            let mut page = vec![0; ZEROS];
            while Instant::now() < until {
                zeros.read_exact(&mut page).to(|| "read /dev/zero".into())?;
            }
        } else {
            hint::black_box(galen_hot_function(until));
        }
        Ok(())
    }
}

fn on_off(text: &str) -> Result<(Duration, Duration), String> {
    let two = text.split_once(',').and_then(|(on, off)| Some((on.parse().ok()?, off.parse().ok()?)));
    let (on, off): (f64, f64) = two.ok_or("two numbers with a comma between them")?;
    Ok((Duration::from_secs_f64(on), Duration::from_secs_f64(off)))
}

#[allow(unsafe_code, reason = "the function's name must be found in the symbol table as it is written")]
#[unsafe(no_mangle)]
#[inline(never)]
fn galen_hot_function(until: Instant) -> u64 {
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
