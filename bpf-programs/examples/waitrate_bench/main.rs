//! What `waitrate` costs a context switch with its wake-up: two threads on one CPU pass a byte to and fro by pipes, where
//! each round is two of each, with nothing attached, with empty programs on the same hooks, and with the real ones, in
//! turns.
//!
//! ```sh
//! cargo run --release -p galen-bpf --example waitrate_bench -- 21     # runs; as root
//! ```
#![allow(clippy::print_stdout, reason = "it prints what it measured")]

use std::{
    env,
    error::Error,
    io::{self, Read, Write},
    process::Command,
    thread,
};

use aya::{Btf, Ebpf, programs::BtfTracePoint};
use galen_bpf::{Kernel, waitrate::Watch};
use rustix::{
    thread::{CpuSet, sched_setaffinity},
    time::{ClockId, clock_gettime},
};

const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/waitrate_bench/empty.bpf.c");
const TRACEPOINTS: [&str; 4] = ["sched_switch", "sched_migrate_task", "sched_wakeup", "sched_wakeup_new"];
/// Of a byte, to and fro.
const ROUNDS: u32 = 100_000;
const SWITCHES: f64 = 2.0;

fn main() -> Result<(), Box<dyn Error>> {
    let runs: usize = env::args().nth(1).map_or(Ok(21), |runs| runs.parse())?;
    let mut first = CpuSet::new();
    first.set(0);
    sched_setaffinity(None, &first)?;
    let mut watch = Watch::load(&Kernel::open()?)?;
    let empty = compile()?;
    let (mut nothing, mut called, mut counting) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..runs {
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
    println!("nothing attached: {nothing:.3} us a round of two switches (lower quartile of {runs} runs)");
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

/// CPU time of one round, since on a machine that does other work too the time that passes says little.
fn microseconds() -> io::Result<f64> {
    let (mut asked, mut ask) = io::pipe()?;
    let (mut answered, mut answer) = io::pipe()?;
    let before = cpu_seconds();
    thread::scope(|scope| {
        let answering = scope.spawn(move || -> io::Result<()> {
            let mut byte = [0];
            while asked.read(&mut byte)? > 0 {
                answer.write_all(&byte)?;
            }
            Ok(())
        });
        let mut byte = [0];
        for _ in 0..ROUNDS {
            ask.write_all(&byte)?;
            answered.read_exact(&mut byte)?;
        }
        drop(ask);
        answering.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })?;
    Ok((cpu_seconds() - before) * 1e6 / f64::from(ROUNDS))
}

fn cpu_seconds() -> f64 {
    let now = clock_gettime(ClockId::ProcessCPUTime);
    now.tv_sec as f64 + now.tv_nsec as f64 / 1e9
}

/// The lower quartile: what disturbs a run, such as what others leave of the caches, only adds to it.
fn undisturbed(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 4]
}
