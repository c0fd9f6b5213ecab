//! What a capture costs the process that takes it: `cargo run --release -p galen-profile --example capture_bench --
//! CGROUP [SECONDS] [FILE]` samples the cgroup of a directory and prints CPU time and memory, and the summary.

use std::{fs, path::PathBuf, time::Duration};

use galen_profile::{Cancel, Kernel, Request, Sampler, Settings, Target};

#[allow(clippy::print_stdout, reason = "it is what the example is for")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = PathBuf::from(arguments.next().ok_or("which cgroup? name its directory")?);
    let seconds = arguments.next().map_or(Ok(10), |text| text.parse())?;
    let file = arguments.next();

    println!("at start        {}", usage()?);
    let kernel = Kernel::open()?;
    println!("BTF parsed      {}", usage()?);
    let sampler = Sampler::load(&kernel, &Settings::default())?;
    drop(kernel);
    println!("loaded          {}", usage()?);
    fs::write("/proc/self/clear_refs", "5")?;
    let before = cpu()?;
    let request = Request { scope: Target::from_path(path)?.into(), duration: Duration::from_secs(seconds) };
    let profile = sampler.capture(&request, &Cancel::new()?)?;
    println!("after capture   {}", usage()?);
    println!("capture         {} ms of CPU, {} bytes of pprof", cpu()? - before, profile.pprof.len());
    println!("{:#?}", profile.summary);
    if let Some(file) = file {
        fs::write(file, &profile.pprof)?;
    }
    Ok(())
}

/// Milliseconds of CPU of this process so far.
fn cpu() -> Result<u64, Box<dyn std::error::Error>> {
    let text = fs::read_to_string("/proc/self/schedstat")?;
    let nanoseconds: u64 = text.split(' ').next().ok_or("no schedstat")?.parse()?;
    Ok(nanoseconds / 1_000_000)
}

fn usage() -> Result<String, Box<dyn std::error::Error>> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line =
        |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim().to_owned();
    Ok(format!(
        "cpu {} ms, VmRSS {} (anon {}, file {}, shmem {}), peak VmHWM {}",
        cpu()?,
        line("VmRSS:"),
        line("RssAnon:"),
        line("RssFile:"),
        line("RssShmem:"),
        line("VmHWM:")
    ))
}
