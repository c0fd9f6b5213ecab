//! Bursts that are over when the capture begins: as long as the window and a second, at any phase of the agent's tick.

use std::{fs, path::Path, time::Duration};

use anyhow::Result;
use futures_util::future::try_join_all;
use galen_proto::v1::EventKind;
use serde_json::Value;
use tokio::time::sleep;

use super::Figure;
use crate::{
    burst::{Burst, HOT_FUNCTION},
    fleet::{Agent, Aggregator},
    query,
};

const BURSTS: usize = 100;
/// At a time, so that all of them get the CPU that they may use.
const TOGETHER: usize = 5;
const CPUS: f64 = 0.2;
const WINDOW: Duration = Duration::from_secs(5);
const LIMIT: Duration = Duration::from_secs(60);
/// Between the groups: captures have ended.
const QUIET: Duration = Duration::from_secs(4);

pub(super) async fn measure(dir: &Path) -> Result<Vec<Figure>> {
    fs::create_dir_all(dir)?;
    let aggregator = Aggregator::start(dir, &[]).await?;
    let settings = [
        "tracers.cpuidle.run_tracing_tool_timeout=\"2s\"",
        "budget.captures_per_hour=1000",
        // Other cgroups may burst meanwhile, those of the bench among them.
        "budget.max_concurrent_captures=32",
        "budget.cpu_per_hour=\"10m\"",
    ];
    let agent = Agent::start("galen-agent", "short", dir, aggregator.addresses.grpc, &settings)?;
    agent.connected(&aggregator).await?;
    sleep(WINDOW * 3).await;
    let (mut caught, mut first, mut missed) = (0, 0, Vec::new());
    for group in 0..BURSTS / TOGETHER {
        let one = |place: usize| {
            let number = group * TOGETHER + place;
            let query = aggregator.query.clone();
            async move {
                // Another phase of the tick each time.
                sleep(Duration::from_millis((number * 137 % 1000) as u64)).await;
                let path = format!("/galen-bench-{}-{number}", std::process::id());
                let burst =
                    Burst::start_limited(&path, 1, CPUS, WINDOW + Duration::from_secs(1), dir.join("burst.log"))?;
                let text = format!("tracer:cpuidle AND container.cgroup:\"{path}\"");
                let found = query::first(&query, &text, EventKind::Capture, LIMIT).await;
                drop(burst);
                let Ok(capture) = found else {
                    let trigger = query::first(&query, &text, EventKind::Trigger, Duration::from_secs(1)).await;
                    let told = trigger.map(|trigger| String::from_utf8_lossy(&trigger.data).into_owned());
                    return anyhow::Ok(Err(told.unwrap_or_else(|_| "no trigger".to_owned())));
                };
                let data: Value = serde_json::from_slice(&capture.data)?;
                Ok(Ok(data["before"]["hottest_functions"][0]["name"] == HOT_FUNCTION))
            }
        };
        for caught_and_first in try_join_all((0..TOGETHER).map(one)).await? {
            match caught_and_first {
                Ok(is_first) => {
                    caught += 1;
                    first += usize::from(is_first);
                }
                Err(told) => missed.push(told),
            }
        }
        sleep(QUIET).await;
    }
    drop(agent);
    Ok(vec![Figure {
        name: "bursts of the window and 1 s, over when the capture begins: caught, function first in `before`",
        measured: match &missed[..] {
            [] => format!("{caught} and {first} of {BURSTS}"),
            missed => format!("{caught} and {first} of {BURSTS}; of the others: {}", missed.join("; ")),
        },
        reach: "100 of 100",
    }])
}
