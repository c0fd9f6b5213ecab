//! kill -9 at random moments under load, of the agent, of the aggregator, and of both.

use std::{fs, time::Duration};

use anyhow::Result;
use galen_integration_tests::{
    fleet::{Agent, Aggregator, FLOOD_AGENT},
    oracle,
};
use tokio::time::sleep;

const AGENT: &str = FLOOD_AGENT;
/// Rounds of `make test`; `make soak` sets more by the environment.
const ROUNDS: usize = 20;
/// Longest life of a program before it is killed.
const LIFE_MILLIS: u64 = 900;

/// Beside the test's own thread, which looks at all events in one go: what happens to connections is seen meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_was_accepted_is_stored_once_whatever_is_killed() -> Result<()> {
    let rounds = std::env::var("GALEN_SOAK_ROUNDS").map_or(Ok(ROUNDS), |rounds| rounds.parse())?;
    let seed = std::env::var("GALEN_SEED").map_or_else(|_| Ok(fastrand::u64(..)), |seed| seed.parse())?;
    println!("GALEN_SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let dir = tempfile::tempdir()?;
    let (agent_dir, aggregator_dir) = (dir.path().join("agent"), dir.path().join("aggregator"));
    fs::create_dir_all(&agent_dir)?;
    fs::create_dir_all(&aggregator_dir)?;

    let mut aggregator = Aggregator::start(&aggregator_dir, &[]).await?;
    let address = aggregator.addresses.grpc;
    // Small segments, so that rolling is among what gets killed.
    let flood = [
        "tracers.flood.helping=3",
        "tracers.flood.left_out=1",
        "buffer.segment_bytes=\"2MiB\"",
        "records.max_files=1000",
        "log.filter=\"warn\"",
    ];
    let quiet = ["tracers.flood.enabled=false", "records.max_files=1000"];
    let mut agent = Agent::start(AGENT, "victim", &agent_dir, address, &flood)?;
    for _ in 0..rounds {
        sleep(Duration::from_millis(random.u64(0..LIFE_MILLIS))).await;
        let (kill_agent, kill_aggregator) = [(true, false), (false, true), (true, true)][random.usize(0..3)];
        if kill_agent {
            agent.process.kill()?;
        }
        if kill_aggregator {
            aggregator.process.kill()?;
            aggregator = Aggregator::start(&aggregator_dir, &[]).await?;
        }
        if kill_agent {
            agent = Agent::start(AGENT, "victim", &agent_dir, address, &flood)?;
        }
    }
    agent.process.kill()?;
    let agent = Agent::start(AGENT, "victim", &agent_dir, address, &quiet)?;
    let accepted = oracle::accepted(&agent_dir.join("records"))?.len();
    oracle::drained(&aggregator, &agent, accepted as u64).await?;
    let (accepted_then, stored) = oracle::check(&aggregator, &agent).await?;
    assert_eq!(accepted, accepted_then);
    assert!(accepted > rounds, "only {accepted} events were accepted: there was no load");
    println!("{rounds} rounds, {accepted} events accepted, {stored} stored");
    println!("{:?}", oracle::balanced(&aggregator, &agent).await?);
    Ok(())
}
