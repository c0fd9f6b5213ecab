//! What the flight recorder costs: `cargo run --release -p galen-profile --example history_bench -- [SECONDS]` lets it
//! run, on whatever load the machine has, and prints the time of its program by the kernel's own count
//! (`kernel.bpf_stats_enabled`), and what freezing it costs.

use std::{
    fs,
    time::{Duration, Instant},
};

use galen_profile::{Kernel, Sampler, Scope, Settings};

const STATS: &str = "/proc/sys/kernel/bpf_stats_enabled";

#[allow(clippy::print_stdout, reason = "it is what the example is for")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let seconds = std::env::args().nth(1).map_or(Ok(10), |text| text.parse())?;
    let kernel = Kernel::open()?;
    let sampler = Sampler::load(&kernel, &Settings::default())?;
    drop(kernel);
    let stats = fs::read_to_string(STATS)?;
    fs::write(STATS, "1")?;
    let (begin, spent) = (sampler.counts().ok_or("the flight recorder does not work")?, run_time()?);
    let clock = Instant::now();
    std::thread::sleep(Duration::from_secs(seconds));
    let (end, nanoseconds) = (sampler.counts().unwrap_or_default(), run_time()? - spent);
    let lasted = clock.elapsed();
    fs::write(STATS, stats)?;
    let (samples, ticks) = (end.samples - begin.samples, end.ticks - begin.ticks);
    println!("{samples} samples of {ticks} ticks in {lasted:?}, {} µs each", nanoseconds / samples.max(1) / 1000);
    println!("program         {:.4} % of a core", nanoseconds as f64 / lasted.as_nanos() as f64 * 100.0);
    let clock = Instant::now();
    let profile = sampler.freeze(&Scope::Host, Duration::from_secs(60))?.name()?;
    println!("freeze          {:?}, {} bytes of pprof", clock.elapsed(), profile.pprof.len());
    println!("covered         {:?}, {} samples", profile.summary.lasted, profile.summary.samples);
    println!("user stacks     {:?}", profile.summary.user_stacks);
    Ok(())
}

/// Nanoseconds that this process's programs ran so far, all together.
fn run_time() -> Result<u64, Box<dyn std::error::Error>> {
    let mut sum = 0;
    for entry in fs::read_dir("/proc/self/fdinfo")? {
        let text = fs::read_to_string(entry?.path()).unwrap_or_default();
        let time = text.lines().find_map(|line| line.strip_prefix("run_time_ns:"));
        sum += time.map_or(Ok(0), |time| time.trim().parse::<u64>())?;
    }
    Ok(sum)
}
