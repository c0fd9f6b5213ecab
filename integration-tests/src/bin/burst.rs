//! Joins cgroups and spins: the anomaly of the tests.

use std::{
    fs, hint,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use clap::Parser;

#[derive(Parser)]
struct Arguments {
    #[arg(long)]
    cgroup: Vec<PathBuf>,
    #[arg(long, default_value_t = 1)]
    threads: usize,
    #[arg(long)]
    seconds: f64,
}

#[allow(unsafe_code, reason = "the function's name must be found in the symbol table as it is written")]
#[unsafe(no_mangle)]
#[inline(never)]
fn galen_test_hot_function(until: Duration, start: Instant) -> u64 {
    let mut turns = 0_u64;
    while start.elapsed() < until {
        for _ in 0..10_000 {
            turns = hint::black_box(turns.wrapping_mul(31).wrapping_add(7));
        }
    }
    turns
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    for cgroup in &arguments.cgroup {
        fs::write(cgroup.join("cgroup.procs"), std::process::id().to_string())?;
    }
    let (until, start) = (Duration::from_secs_f64(arguments.seconds), Instant::now());
    let threads: Vec<_> =
        (0..arguments.threads).map(|_| thread::spawn(move || galen_test_hot_function(until, start))).collect();
    for thread in threads {
        hint::black_box(thread.join().map_err(|_| anyhow::anyhow!("a spinning thread panicked"))?);
    }
    Ok(())
}
