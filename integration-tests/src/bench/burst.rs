//! Real bursts: from the start of the spinning to what a query finds, and what the capture costs the agent.

use std::{
    fs,
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result};
use galen_proto::v1::{Event, EventKind};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::{Figure, mib, percentile};
use crate::{
    burst::Burst,
    fleet::{Agent, Aggregator},
    query,
};

const ROUNDS: usize = 10;
const LIMIT: Duration = Duration::from_secs(60);
/// Idle time between rounds: longer than two windows, so that each burst is one.
const QUIET: Duration = Duration::from_secs(12);
/// Between two looks at the agent's memory.
const LOOK: Duration = Duration::from_millis(50);

pub(super) async fn measure(dir: &Path) -> Result<Vec<Figure>> {
    fs::create_dir_all(dir)?;
    let aggregator = Aggregator::start(dir, &[]).await?;
    let agent = Agent::start("galen-agent", "burst", dir, aggregator.addresses.grpc, &[])?;
    agent.connected(&aggregator).await?;
    let cpus = std::thread::available_parallelism()?.get();
    let (mut to_trigger, mut to_capture, mut costs, mut peaks) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        // Another phase of the agent's tick each time.
        sleep(QUIET + Duration::from_millis(137 * round as u64)).await;
        let path = format!("/galen-bench-{}-{round}", std::process::id());
        let text = format!("tracer:cpuidle AND container.cgroup:\"{path}\"");
        let before = agent.process.usage()?.cpu;
        let start = Instant::now();
        let burst = Burst::start(&path, cpus, LIMIT, dir.join("burst.log"))?;
        let trigger = query::first(&aggregator.query, &text, EventKind::Trigger, LIMIT).await?;
        to_trigger.push(start.elapsed().as_secs_f64());
        let mut peak = 0;
        let capture = loop {
            let found = query::first(&aggregator.query, &text, EventKind::Capture, LOOK).await;
            peak = peak.max(agent.process.usage()?.resident_bytes);
            match found {
                Ok(capture) => break capture,
                Err(error) if start.elapsed() > LIMIT => return Err(error),
                Err(_) => {}
            }
        };
        let found = SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos() as i64;
        costs.push((agent.process.usage()?.cpu - before).as_secs_f64());
        peaks.push(mib(peak));
        drop(burst);
        let ended = capture_end(&trigger, &capture)?;
        to_capture.push((found - ended) as f64 / 1e9);
    }
    Ok(vec![
        Figure {
            name: "start of a burst → trigger found (p99 of the rounds)",
            measured: delay(&mut to_trigger),
            reach: "≤ window + 2 s = 7 s",
        },
        Figure {
            name: "end of the capture → capture found (p99 of the rounds)",
            measured: delay(&mut to_capture),
            reach: "≤1 s",
        },
        Figure {
            name: "capture of 10 s at 99 Hz, all CPUs busy: CPU of the agent, detection included",
            measured: format!("{:.3} s (max {:.3})", percentile(&mut costs, 0.5), percentile(&mut costs, 1.0)),
            reach: "≤0.2 s",
        },
        Figure {
            name: "the same: peak resident memory",
            measured: format!("{:.1} MiB", percentile(&mut peaks, 1.0)),
            reach: "≤40 MiB",
        },
    ])
}

/// The delay that 99 of 100 stay within, and the median, from delays in seconds.
fn delay(seconds: &mut [f64]) -> String {
    format!("{:.2} s (median {:.2})", percentile(seconds, 0.99), percentile(seconds, 0.5))
}

/// When sampling ended, by the wall clock, in nanoseconds: it began at the trigger, or a moment later.
fn capture_end(trigger: &Event, capture: &Event) -> Result<i64> {
    let data: Value = serde_json::from_slice(&capture.data)?;
    let seconds = data["duration_seconds"].as_f64().context("a capture tells how long it took")?;
    let begun = trigger.times.as_ref().context("an event has times")?.observed_unix_nanos;
    Ok(begun + (seconds * 1e9) as i64)
}
