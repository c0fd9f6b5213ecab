//! Many agents at once, and agents that have several aggregators.

use std::{collections::HashSet, fs, time::Duration};

use anyhow::Result;
use galen_integration_tests::{
    fleet::{Agent, Aggregator},
    load::{Arguments, run},
    oracle, query, wait,
};
use galen_proto::v1::GetStatusRequest;
use galen_runtime::Span;

const LIMIT: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_herd_that_comes_back_at_once_is_taken_in_turn_and_loses_nothing() -> Result<()> {
    herd(300, 40, false).await
}

#[tokio::test]
async fn a_herd_with_certificates_is_taken_in_turn_and_loses_nothing() -> Result<()> {
    herd(100, 15, true).await
}

async fn herd(agents: usize, at_once: u32, tls: bool) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let report = run(
        &Arguments {
            agents,
            every: Span::from_millis(500),
            settle: Span::default(),
            watch: Span::from_secs(2),
            reconnects: 2,
            aggregator: None,
            tls,
            pid: None,
            // The most that may come at once, so that the others are told to come later.
            settings: vec![format!("sessions.new_per_second={at_once}")],
        },
        dir.path(),
    )
    .await?;
    assert!(report.refused > 0 && report.events > 0, "{report}");
    Ok(())
}

/// Where the agent is connected: the place among the aggregators.
async fn place(aggregators: &[Aggregator; 2], agent: &str) -> Result<usize> {
    wait::until("the agent to be connected and to deliver", LIMIT, || async {
        for (place, aggregator) in aggregators.iter().enumerate() {
            let node = query::node(&mut aggregator.query.clone(), agent).await.unwrap_or_default();
            if node.is_some_and(|node| node.connected && node.events > 0) {
                return Ok(Some(place));
            }
        }
        Ok(None)
    })
    .await
}

/// As in a rolling update: each aggregator ends in its turn, and the agent goes to the other.
#[tokio::test]
async fn an_agent_goes_to_another_aggregator_before_its_own_ends_and_loses_nothing() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let dirs = ["first", "second", "agent"].map(|name| dir.path().join(name));
    for dir in &dirs {
        fs::create_dir_all(dir)?;
    }
    let mut aggregators = [Aggregator::start(&dirs[0], &[]).await?, Aggregator::start(&dirs[1], &[]).await?];
    let [first, second] = aggregators.each_ref().map(|aggregator| format!("\"http://{}\"", aggregator.addresses.grpc));
    let both = format!("aggregator.endpoint=[{first}, {second}]");
    let settings = [both.as_str(), "tracers.flood.helping=1", "records.max_files=1000", "log.filter=\"info\""];
    let mut agent = Agent::start("galen-flood-agent", "mover", &dirs[2], aggregators[0].addresses.grpc, &settings)?;
    for moves in 1..=3 {
        let at = place(&aggregators, "mover").await?;
        let status = aggregators[at].process.terminate(LIMIT).await?;
        assert!(status.success(), "{}", aggregators[at].process.tail());
        wait::until("the agent to be at the other", LIMIT, || async {
            let node = query::node(&mut aggregators[1 - at].query.clone(), "mover").await?;
            Ok(node.filter(|node| node.connected).map(|_| ()))
        })
        .await?;
        let said = agent.process.log().matches("the aggregator said goodbye").count();
        assert_eq!(said, moves, "it was cut off, not asked to go: {}", agent.process.tail());
        aggregators[at] = Aggregator::start(&dirs[at], &[]).await?;
    }
    assert!(agent.process.terminate(LIMIT).await?.success(), "{}", agent.process.tail());
    // An orderly move is not a fault: nothing was cut off, and nothing dialled in vain.
    let log = agent.process.log();
    let is_fault = |line: &&str| line.contains(" ERROR ") || line.contains(" WARN galen_agent::uplink");
    let faults: Vec<_> = log.lines().filter(is_fault).collect();
    assert!(faults.is_empty() && !log.contains("no session with the aggregator"), "{}", faults.join("\n"));

    let accepted = oracle::accepted(&dirs[2].join("records"))?;
    let mut stored = Vec::new();
    for aggregator in &aggregators {
        wait::until("the log to be in the store", LIMIT, || {
            let mut query = aggregator.query.clone();
            async move {
                let status = query.get_status(GetStatusRequest {}).await?.into_inner();
                Ok((status.store_next_offset == status.log_next_offset).then_some(()))
            }
        })
        .await?;
        stored.extend(query::all(&mut aggregator.query.clone(), "tracer:flood").await?.into_keys());
    }
    let unique: HashSet<_> = stored.iter().collect();
    assert_eq!(unique.len(), stored.len(), "an event is at both");
    let missing: Vec<_> = accepted.keys().filter(|id| !unique.contains(id)).collect();
    assert!(missing.is_empty() && !accepted.is_empty(), "{} of {} are missing", missing.len(), accepted.len());
    Ok(())
}
