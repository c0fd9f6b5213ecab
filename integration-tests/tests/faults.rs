//! Faults of what surrounds the programs: the other side away or wiped, a full disk, a clock that jumps.

use std::{collections::HashMap, fs, net::SocketAddr, path::Path, process::Command, time::Duration};

use anyhow::{Context, Result, ensure};
use galen_integration_tests::{
    fleet::{Agent, Aggregator, FLOOD_AGENT, nowhere},
    flood::Data,
    oracle, query, wait,
};
use galen_proto::v1::LossReason;
use galen_scratch::Tmpfs;

const AGENT: &str = FLOOD_AGENT;
const LIMIT: Duration = Duration::from_secs(60);
const FLOOD: [&str; 3] = ["tracers.flood.helping=3", "records.max_files=1000", "log.filter=\"warn\""];
const QUIET: [&str; 2] = ["tracers.flood.enabled=false", "records.max_files=1000"];

async fn accepts(agent: &Agent, least: usize) -> Result<()> {
    wait::until("the agent to accept events", LIMIT, || {
        let accepted = oracle::accepted(&agent.dir.join("records")).map(|accepted| accepted.len());
        std::future::ready(Ok((accepted.unwrap_or(0) >= least).then_some(())))
    })
    .await
    .with_context(|| agent.process.tail())
}

#[tokio::test]
async fn an_agent_that_starts_without_an_aggregator_loses_nothing() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let address = nowhere()?;
    let agent_dir = dir.path().join("agent");
    fs::create_dir_all(&agent_dir)?;
    let mut agent = Agent::start(AGENT, "early", &agent_dir, address, &FLOOD)?;
    accepts(&agent, 500).await?;
    assert!(agent.process.terminate(LIMIT).await?.success());
    let agent = Agent::start(AGENT, "early", &agent_dir, address, &QUIET)?;

    let aggregator = Aggregator::start_at(dir.path(), address).await?;
    let accepted = oracle::accepted(&agent_dir.join("records"))?.len() as u64;
    oracle::drained(&aggregator, &agent, accepted).await?;
    let (accepted, stored) = oracle::check(&aggregator, &agent).await?;
    assert!(stored >= accepted && accepted >= 500, "{accepted} accepted, {stored} stored");
    let ledger = oracle::balanced_whole(&aggregator, &agent).await?;
    assert_eq!((ledger.observed, &ledger.dropped), (ledger.delivered, &Vec::new()));
    Ok(())
}

#[tokio::test]
async fn a_buffer_over_its_cap_drops_what_the_ledger_names() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let address = nowhere()?;
    let agent_dir = dir.path().join("agent");
    fs::create_dir_all(&agent_dir)?;
    let small = [&FLOOD[..], &["buffer.max_bytes=\"16MiB\"", "buffer.segment_bytes=\"2MiB\""]].concat();
    let full = [&small[..], &["tracers.flood.helping=50", "tracers.flood.left_out=5"]].concat();
    let mut agent = Agent::start(AGENT, "capped", &agent_dir, address, &full)?;
    wait::until("the cap to be reached", LIMIT, || {
        std::future::ready(Ok(agent.process.log().contains("its oldest segment is dropped").then_some(())))
    })
    .await
    .with_context(|| agent.process.tail())?;
    ensure!(agent.process.terminate(LIMIT).await?.success(), "{}", agent.process.tail());

    let aggregator = Aggregator::start_at(dir.path(), address).await?;
    let quiet = [&small[..], &QUIET[..1]].concat();
    let agent = Agent::start(AGENT, "capped", &agent_dir, address, &quiet)?;
    oracle::check(&aggregator, &agent).await?;
    let ledger = oracle::balanced_whole(&aggregator, &agent).await?;
    let dropped = |reason| ledger.dropped.iter().any(|lost| lost.reason() == reason && lost.count > 0);
    assert!(dropped(LossReason::BufferFull), "{ledger:?}");
    assert!(ledger.suppressed.iter().any(|left_out| left_out.reason() == LossReason::Cooldown), "{ledger:?}");
    Ok(())
}

#[tokio::test]
async fn an_aggregator_that_was_wiped_takes_what_comes_next() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (agent_dir, aggregator_dir) = (dir.path().join("agent"), dir.path().join("aggregator"));
    fs::create_dir_all(&agent_dir)?;
    fs::create_dir_all(&aggregator_dir)?;
    let mut aggregator = Aggregator::start(&aggregator_dir, &[]).await?;
    let mut agent = Agent::start(AGENT, "steady", &agent_dir, aggregator.addresses.grpc, &FLOOD)?;
    accepts(&agent, 200).await?;
    aggregator.process.kill()?;
    fs::remove_dir_all(aggregator_dir.join("data"))?;
    let before = oracle::accepted(&agent_dir.join("records"))?;

    let aggregator = Aggregator::start(&aggregator_dir, &[]).await?;
    accepts(&agent, before.len() + 200).await?;
    let newest = oracle::accepted(&agent_dir.join("records"))?;
    let (id, data) = newest.iter().max_by_key(|(_, data)| data.number).context("there are events")?;
    wait::until("the newest event", LIMIT, || {
        let mut query = aggregator.query.clone();
        async move {
            let found = query::all(&mut query, &format!("tracer:flood AND data.number:{}", data.number)).await?;
            Ok(found.contains_key(id).then_some(()))
        }
    })
    .await
    .with_context(|| format!("{}\n{}", aggregator.process.tail(), agent.process.tail()))?;

    ensure!(agent.process.terminate(LIMIT).await?.success(), "{}", agent.process.tail());
    let agent = Agent::start(AGENT, "steady", &agent_dir, aggregator.addresses.grpc, &QUIET)?;
    let ledger = oracle::balanced_whole(&aggregator, &agent).await?;
    assert!(ledger.dropped.iter().all(|lost| lost.reason() == LossReason::LogLost), "{ledger:?}");
    Ok(())
}

#[tokio::test]
async fn a_full_disk_under_the_buffer_ends_in_declared_losses() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let agent_dir = dir.path().join("agent");
    fs::create_dir_all(&agent_dir)?;
    let Some(disk) = Tmpfs::mount(24 << 20) else { return Ok(()) };
    std::os::unix::fs::symlink(disk.path(), agent_dir.join("data"))?;
    let address = nowhere()?;
    let flood = [&FLOOD[..], &["tracers.flood.helping=50", "buffer.segment_bytes=\"4MiB\""]].concat();
    let mut agent = Agent::start(AGENT, "full", &agent_dir, address, &flood)?;
    wait::until("the disk to be full", LIMIT, || {
        let full = fs::read_dir(agent_dir.join("records")).is_ok_and(|_| {
            let log = agent.process.log();
            log.contains("No space left") || log.contains("StorageFull") || log.contains("os error 28")
        });
        std::future::ready(Ok(full.then_some(())))
    })
    .await
    .with_context(|| agent.process.tail())?;
    assert!(agent.process.ended()?.is_none(), "the agent goes on\n{}", agent.process.tail());
    agent.process.kill()?;

    let aggregator = Aggregator::start_at(dir.path(), address).await?;
    let agent = Agent::start(AGENT, "full", &agent_dir, address, &QUIET)?;
    let accepted = oracle::accepted(&agent_dir.join("records"))?.len() as u64;
    oracle::drained(&aggregator, &agent, accepted).await?;
    oracle::check(&aggregator, &agent).await?;
    let node = query::node(&mut aggregator.query.clone(), "full").await?.context("the node is known")?;
    let disk = [LossReason::DiskError, LossReason::QueueFull, LossReason::BufferFull];
    assert!(node.lost.iter().any(|loss| disk.contains(&loss.reason()) && loss.count > 0), "{:?}", node.lost);
    Ok(())
}

/// Runs the agent until it has accepted `least` events in `records`, and ends it in order.
async fn run_to(least: usize, agent_dir: &Path, address: SocketAddr) -> Result<HashMap<String, Data>> {
    let mut agent = Agent::start(AGENT, "restored", agent_dir, address, &FLOOD)?;
    accepts(&agent, least).await?;
    ensure!(agent.process.terminate(LIMIT).await?.success(), "{}", agent.process.tail());
    oracle::accepted(&agent_dir.join("records"))
}

/// Goes back to an older copy of the buffer. The agent learns of it at once, or only `late`: when it has ended once more
/// and given more numbers than were ever logged.
async fn restore_a_copy(late: bool) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let agent_dir = dir.path().join("agent");
    let [data, copy, records] = [agent_dir.join("data"), dir.path().join("copy"), agent_dir.join("records")];
    fs::create_dir_all(&agent_dir)?;
    let aggregator = Aggregator::start(dir.path(), &[]).await?;
    let address = aggregator.addresses.grpc;
    run_to(100, &agent_dir, address).await?;
    ensure!(Command::new("cp").arg("-a").args([&data, &copy]).status()?.success(), "the copy is not made");
    let before = run_to(400, &agent_dir, address).await?;
    fs::remove_dir_all(&data)?;
    fs::rename(&copy, &data)?;
    fs::rename(&records, dir.path().join("records before"))?;

    let taken = if late { run_to(before.len() + 100, &agent_dir, nowhere()?).await? } else { HashMap::new() };
    let mut agent = Agent::start(AGENT, "restored", &agent_dir, address, &FLOOD)?;
    accepts(&agent, taken.len() + 100).await?;
    wait::until("the agent to begin a new epoch", LIMIT, || {
        std::future::ready(Ok(agent.process.log().contains("begins a new epoch").then_some(())))
    })
    .await
    .with_context(|| agent.process.tail())?;
    ensure!(agent.process.terminate(LIMIT).await?.success(), "{}", agent.process.tail());
    let after = oracle::accepted(&records)?;
    let agent = Agent::start(AGENT, "restored", &agent_dir, address, &QUIET)?;
    oracle::drained(&aggregator, &agent, (before.len() + after.len()) as u64).await?;

    let stored = query::all(&mut aggregator.query.clone(), "tracer:flood").await?;
    let is_stored =
        |id: &String, data: &Data| stored.get(id).is_some_and(|event| oracle::data(event).ok().as_ref() == Some(data));
    assert!(before.iter().all(|(id, data)| is_stored(id, data)), "what was delivered before is as it was");
    let missing = after.iter().filter(|(id, data)| !is_stored(id, data));
    let node = query::node(&mut aggregator.query.clone(), "restored").await?.context("the node is known")?;
    let lost =
        node.lost.iter().filter(|loss| loss.reason() == LossReason::NumberTaken).map(|loss| loss.count).sum::<u64>();
    let missing: Vec<_> = missing.map(|(id, _)| id).collect();
    assert!(missing.iter().all(|id| stored.contains_key(*id)), "only what has the id of another event is lost");
    // Under load, not every event that was accepted has its line.
    assert!(missing.len() as u64 <= lost, "{} of {lost} that are declared lost", missing.len());
    assert!(!late || lost > 200, "{lost}");
    assert!(after.len() as u64 > lost, "the agent goes on");
    let ledger = oracle::balanced_whole(&aggregator, &agent).await?;
    let taken = ledger.dropped.iter().find(|dropped| dropped.reason() == LossReason::NumberTaken);
    assert_eq!(taken.map_or(0, |taken| taken.count), lost);
    assert_eq!(agent.process.log().matches("begins a new epoch").count(), 1);
    Ok(())
}

#[tokio::test]
async fn an_agent_with_an_older_copy_of_its_queue_begins_a_new_one_and_goes_on() -> Result<()> {
    restore_a_copy(false).await
}

#[tokio::test]
async fn an_agent_that_outgrew_the_older_copy_of_its_queue_declares_what_it_gave_twice() -> Result<()> {
    restore_a_copy(true).await
}
