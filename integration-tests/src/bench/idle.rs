//! What the agent takes of an idle machine: all tracers on, connected, nothing happening.

use std::{fs, path::Path, time::Duration};

use anyhow::Result;
use tokio::time::{Instant, sleep};

use super::{Figure, mib};
use crate::{
    fleet::{Agent, Aggregator},
    query, wait,
};

const SETTLE: Duration = Duration::from_secs(20);
const WATCH: Duration = Duration::from_secs(120);

pub(super) async fn measure(dir: &Path) -> Result<Vec<Figure>> {
    fs::create_dir_all(dir)?;
    let aggregator = Aggregator::start(dir, &[]).await?;
    let agent = Agent::start("galen-agent", "idle", dir, aggregator.addresses.grpc, &[])?;
    wait::until("the agent to connect", Duration::from_secs(30), || {
        let mut query = aggregator.query.clone();
        async move { query::node(&mut query, "idle").await }
    })
    .await?;
    sleep(SETTLE).await;
    let (before, waits, start) = (agent.process.usage()?, switches(agent.process.pid())?, Instant::now());
    sleep(WATCH).await;
    let (after, elapsed) = (agent.process.usage()?, start.elapsed().as_secs_f64());
    let cpu = (after.cpu - before.cpu).as_secs_f64() / elapsed * 100.0;
    let wakeups = (switches(agent.process.pid())? - waits) as f64 / elapsed;
    Ok(vec![
        Figure { name: "idle agent: CPU of one core", measured: format!("{cpu:.3} %"), reach: "≤0.05 %" },
        Figure {
            name: "idle agent: resident memory (peak)",
            measured: format!("{:.1} MiB ({:.1})", mib(after.resident_bytes), mib(after.peak_resident_bytes)),
            reach: "≤16 MiB",
        },
        Figure { name: "idle agent: wake-ups a second", measured: format!("{wakeups:.1}"), reach: "" },
    ])
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
