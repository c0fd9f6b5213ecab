//! What `waitrate` costs a context switch with its wake-up: `perf bench sched pipe` on one CPU, where an operation is
//! two of each, with nothing attached, with empty programs on the same hooks, and with the real ones, in turns.
//!
//! ```sh
//! cargo run --release -p galen-bpf --example waitrate_bench -- 21     # rounds; as root
//! ```
#![allow(clippy::print_stdout, reason = "it prints what it measured")]

use std::{env, error::Error, process::Command};

use aya::{Btf, Ebpf, programs::BtfTracePoint};
use galen_bpf::{Kernel, waitrate::Watch};

const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/waitrate_bench/empty.bpf.c");
const TRACEPOINTS: [&str; 4] = ["sched_switch", "sched_migrate_task", "sched_wakeup", "sched_wakeup_new"];
const OPERATIONS: &str = "100000";
const SWITCHES: f64 = 2.0;

fn main() -> Result<(), Box<dyn Error>> {
    let rounds: usize = env::args().nth(1).map_or(Ok(21), |rounds| rounds.parse())?;
    let mut watch = Watch::load(&Kernel::open()?)?;
    let empty = compile()?;
    let (mut nothing, mut called, mut counting) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        nothing.push(microseconds()?);
        {
            let _attached = attach(&empty)?;
            called.push(microseconds()?);
        }
        watch.attach()?;
        counting.push(microseconds()?);
        watch.detach()?;
    }
    let (nothing, called, counting) = (undisturbed(nothing), undisturbed(called), undisturbed(counting));
    let (called, counting) = ((called - nothing) / SWITCHES, (counting - nothing) / SWITCHES);
    println!("nothing attached: {nothing:.3} us an operation of two switches (lower quartile of {rounds} runs)");
    println!("empty programs:   {called:.3} us added a switch with its wake-up");
    println!("waitrate:         {counting:.3} us added, {:.2} times the empty programs", counting / called);
    Ok(())
}

fn compile() -> Result<Vec<u8>, Box<dyn Error>> {
    let object = env::temp_dir().join(format!("galen-empty-{}.o", std::process::id()));
    let include = format!("-I/usr/include/{}-linux-gnu", env::consts::ARCH);
    let status = Command::new("clang")
        .args(["-g", "-O2", "-target", "bpf", "-mcpu=v3", &include, "-c", SOURCE, "-o"])
        .arg(&object)
        .status()?;
    let bytes = std::fs::read(&object);
    let _ = std::fs::remove_file(&object);
    if status.success() { Ok(bytes?) } else { Err("clang failed".into()) }
}

fn attach(object: &[u8]) -> Result<Ebpf, Box<dyn Error>> {
    let btf = Btf::from_sys_fs()?;
    let mut object = Ebpf::load(object)?;
    for tracepoint in TRACEPOINTS {
        let program: &mut BtfTracePoint = object.program_mut(tracepoint).ok_or("no such program")?.try_into()?;
        program.load(tracepoint, &btf)?;
        program.attach()?;
    }
    Ok(object)
}

/// CPU time of one operation, since on a machine that does other work too the time that passes says little.
fn microseconds() -> Result<f64, Box<dyn Error>> {
    let before = children_seconds();
    let output = Command::new("taskset")
        .args(["-c", "0", "perf", "bench", "sched", "pipe", "-l", OPERATIONS])
        .output()
        .map_err(|error| format!("cannot run taskset and perf ({error}): apt-get install util-linux linux-perf"))?;
    if !output.status.success() {
        return Err(format!("`perf bench sched pipe` failed: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok((children_seconds() - before) * 1e6 / OPERATIONS.parse::<f64>()?)
}

#[allow(unsafe_code, reason = "nothing safe tells the CPU time of ended children to the microsecond")]
fn children_seconds() -> f64 {
    // SAFETY: all zeros are a valid rusage.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a whole rusage of ours.
    unsafe { libc::getrusage(libc::RUSAGE_CHILDREN, &raw mut usage) };
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    seconds(usage.ru_utime) + seconds(usage.ru_stime)
}

/// The lower quartile: what disturbs a run, such as what others leave of the caches, only adds to it.
fn undisturbed(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 4]
}
