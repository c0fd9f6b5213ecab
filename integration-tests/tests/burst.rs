//! A real CPU burst, from the spinning function to everything that shows it.

use std::{fs, time::Duration};

use anyhow::{Context, Result};
use galen_integration_tests::{
    burst::{Burst, HOT_FUNCTION},
    fleet::{Agent, Aggregator},
    query, wait,
};
use galen_proto::v1::{EventKind, GetEventRequest, GetProfileRequest, ProfileFormat};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(90);

#[tokio::test]
async fn a_burst_in_a_nested_cgroup_is_caught_and_found_with_its_guilty_function() -> Result<()> {
    if !galen_scratch::has_root("a burst in a cgroup of its own") {
        return Ok(());
    }
    let dir = tempfile::tempdir()?;
    let aggregator = Aggregator::start(dir.path(), &[]).await?;
    let path = format!("/galen-test-{}/inner", std::process::id());
    let outer = galen_provoke::Cgroup::cpu(path.trim_end_matches("/inner"))?;
    outer.limit_cpus(0.5)?;
    // A short capture: what is proven is the path, not its length.
    let settings = ["tracers.cpuidle.run_tracing_tool_timeout=\"3s\""];
    let agent = Agent::start("galen-agent", "bursting", dir.path(), aggregator.addresses.grpc, &settings)?;
    agent.connected(&aggregator).await?;

    wait::until("the agent to watch the outer cgroup", LIMIT, || {
        std::future::ready(Ok(agent.process.has_open(&outer.path).then_some(())))
    })
    .await?;
    let burst = Burst::start(&path, 1, LIMIT, dir.path().join("burst.log"))?;
    let text = format!("tracer:cpuidle AND container.cgroup:\"{path}\"");
    let trigger = query::first(&aggregator.query, &text, EventKind::Trigger, LIMIT)
        .await
        .with_context(|| agent.process.tail())?;
    let capture = query::first(&aggregator.query, &text, EventKind::Capture, LIMIT)
        .await
        .with_context(|| agent.process.tail())?;
    drop(burst);
    drop(outer);

    assert_eq!(trigger.run_id, capture.run_id);
    assert!(!trigger.run_id.is_empty() && !trigger.summary.is_empty());
    let values: Value = serde_json::from_slice(&trigger.data)?;
    assert!(values["user_percent"].as_f64().is_some_and(|percent| percent > 75.0), "{values}");

    // The values are searchable, and the other way round.
    let mut client = aggregator.query.clone();
    let found = query::all(&mut client, &format!("{text} AND data.user_percent:>75")).await?;
    assert!(found.values().any(|event| event.id == trigger.id));
    let found = query::all(&mut client, &format!("{text} AND data.user_percent:>1000")).await?;
    assert!(found.is_empty());

    let id = capture.id.clone().context("a stored event has an id")?.to_string();
    let whole = client.get_event(GetEventRequest { id: id.clone() }).await?.into_inner();
    assert!(whole.attachments.iter().any(|attachment| attachment.content.len() > 100));
    // The trigger has no profile of its own: that of its run is given.
    for id in [id, trigger.id.context("a stored event has an id")?.to_string()] {
        let format = ProfileFormat::Folded.into();
        let folded =
            client.get_profile(GetProfileRequest { id, format, ..Default::default() }).await?.into_inner().content;
        let folded = String::from_utf8(folded.to_vec())?;
        let samples = |line: &str| line.rsplit(' ').next().and_then(|count| count.parse::<u64>().ok()).unwrap_or(0);
        let all: u64 = folded.lines().map(samples).sum();
        let hot: u64 = folded.lines().filter(|line| line.contains(HOT_FUNCTION)).map(samples).sum();
        assert!(all > 99 && hot * 10 > all * 9, "{hot} of {all} samples are in {HOT_FUNCTION}:\n{folded}");
    }

    // And on the node itself, joined by the id.
    let mut lines = String::new();
    for file in fs::read_dir(agent.dir.join("records"))? {
        let file = file?.path();
        let files = if file.is_dir() {
            fs::read_dir(&file)?.map(|file| Ok(file?.path())).collect::<Result<_>>()?
        } else {
            vec![file]
        };
        for file in files {
            lines += &String::from_utf8_lossy(&fs::read(file)?);
        }
    }
    assert!(lines.contains(&format!("\"run_id\":\"{}\"", trigger.run_id)), "{lines}");
    Ok(())
}
