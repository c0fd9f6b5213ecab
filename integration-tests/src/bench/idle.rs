//! What the agent takes of an idle machine, connected, nothing happening: with three tracers, with everything, and with
//! everything on a machine of many containers.

use std::{fs, path::Path, process::Command, time::Duration};

use anyhow::Result;
use galen_agent::{TracerSet, tracers::Shipped};
use galen_provoke::Cgroup;
use tokio::time::{Instant, sleep};

use super::{Figure, mib};
use crate::{
    fleet::{Agent, Aggregator},
    process::Process,
};

const SETTLE: Duration = Duration::from_secs(40);
const WATCH: Duration = Duration::from_secs(120);
/// The tracers of the smallest set.
const THREE: [&str; 3] = ["cpuidle", "memburst", "oom"];
const CONTAINERS: usize = 500;

struct Taken {
    cpu_percent: f64,
    memory: String,
    wakeups: String,
}

pub(super) async fn measure(dir: &Path) -> Result<Vec<Figure>> {
    let others = Shipped::factories().into_iter().filter(|factory| !THREE.contains(&factory.name));
    let mut off: Vec<String> = others.map(|factory| format!("tracers.{}.enabled=false", factory.name)).collect();
    off.push("profiler.flight_recorder=false".into());
    let off: Vec<&str> = off.iter().map(String::as_str).collect();
    let three = watch(&dir.join("three"), &off).await?;
    let all = watch(&dir.join("all"), &[]).await?;
    let crowd = crowd(&dir.join("crowd"))?;
    let crowded = watch(&dir.join("crowded"), &[]).await?;
    drop(crowd);
    Ok([
        (three, "cpuidle, memburst and oom, idle", "≤0.05 %", "≤16 MiB"),
        (all, "every tracer and the flight recorder, idle", "≤0.15 %", "≤20 MiB"),
        (crowded, "the same with 500 containers", "≤1 %", "≤40 MiB"),
    ]
    .into_iter()
    .flat_map(|(taken, what, cpu, memory)| {
        [
            Figure { name: what, measured: format!("{:.3} % of one core", taken.cpu_percent), reach: cpu },
            Figure { name: "   resident memory (peak)", measured: taken.memory, reach: memory },
            Figure { name: "   wake-ups a second", measured: taken.wakeups, reach: "" },
        ]
    })
    .collect())
}

async fn watch(dir: &Path, settings: &[&str]) -> Result<Taken> {
    fs::create_dir_all(dir)?;
    let aggregator = Aggregator::start(dir, &[]).await?;
    let agent = Agent::start("galen-agent", "idle", dir, aggregator.addresses.grpc, settings)?;
    agent.connected(&aggregator).await?;
    sleep(SETTLE).await;
    let (before, waits, start) = (agent.process.usage()?, switches(agent.process.pid())?, Instant::now());
    sleep(WATCH).await;
    let (after, elapsed) = (agent.process.usage()?, start.elapsed().as_secs_f64());
    let wakeups = (switches(agent.process.pid())? - waits) as f64 / elapsed;
    Ok(Taken {
        cpu_percent: (after.cpu - before.cpu).as_secs_f64() / elapsed * 100.0,
        memory: format!("{:.1} MiB ({:.1})", mib(after.resident_bytes), mib(after.peak_resident_bytes)),
        wakeups: format!("{wakeups:.1}"),
    })
}

/// Cgroups with a sleeping process each.
fn crowd(dir: &Path) -> Result<Vec<(Process, Cgroup)>> {
    fs::create_dir_all(dir)?;
    let one = |number: usize| {
        let cgroup = Cgroup::everywhere(&format!("/galen-bench-{}-{number}", std::process::id()))?;
        let log = dir.join("sleep.log");
        let process = Process::adopt(Command::new("sleep").arg("3600").spawn()?, log);
        for folder in &cgroup.folders {
            fs::write(folder.join("cgroup.procs"), process.pid().to_string())?;
        }
        Ok((process, cgroup))
    };
    (0..CONTAINERS).map(one).collect()
}

/// Voluntary context switches of all threads: each is a wake-up.
fn switches(pid: u32) -> Result<u64> {
    let mut sum = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let status = fs::read_to_string(task?.path().join("status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        sum += line.map_or(Ok(0), |count| count.trim().parse::<u64>())?;
    }
    Ok(sum)
}
