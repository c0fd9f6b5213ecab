//! What a look at the tasks costs: `cargo run --release -p galen-bpf --example tasks_bench -- [ROUNDS]` prints the CPU
//! time of the question whether anybody waits, of a look at those who do, and of a look at everyone.

use galen_bpf::{Kernel, tasks::Tasks};
use rustix::time::{ClockId, clock_gettime};

#[allow(clippy::print_stdout, reason = "it is what the example is for")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let rounds: u32 = std::env::args().nth(1).map_or(Ok(100), |text| text.parse())?;
    let mut tasks = Tasks::load(&Kernel::open()?)?;
    let mut counted = None;
    let begin = cpu();
    for _ in 0..rounds {
        counted = tasks.blocked()?.uninterruptible();
    }
    let asked = cpu();
    let (mut blocked, mut frames) = (0, 0);
    for _ in 0..rounds {
        (blocked, frames) = (0, 0);
        tasks.blocked()?.each(|task| {
            blocked += 1;
            frames += task.stack().len();
        })?;
    }
    let looked = cpu();
    let mut all = 0;
    for _ in 0..rounds {
        all = 0;
        tasks.everyone()?.each(|_| all += 1)?;
    }
    let each = |from: i64, to: i64| (to - from) as f64 / f64::from(rounds) / 1e6;
    println!("count    {:8.4} ms of CPU: {counted:?} tasks in uninterruptible sleep", each(begin, asked));
    println!("blocked  {:8.4} ms of CPU: {blocked} tasks, {frames} frames", each(asked, looked));
    println!("everyone {:8.4} ms of CPU: {all} tasks", each(looked, cpu()));
    Ok(())
}

/// Nanoseconds of CPU of this thread so far.
fn cpu() -> i64 {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    now.tv_sec * 1_000_000_000 + now.tv_nsec
}
