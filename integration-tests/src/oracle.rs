//! What must hold after any fault: every event that an agent accepted is in the store once, as it was recorded, or in a
//! declared loss.
//!
//! An event is known to be accepted when its line is in the agent's record file, because the line is written after the
//! event is durable and carries its id.

use std::{collections::HashMap, fs, path::Path, time::Duration};

use anyhow::{Context, Result, ensure};
use galen_proto::v1::{Event, GetLedgerRequest, GetStatusRequest, Ledger, LossCounter};
use serde::Deserialize;

use crate::{
    fleet::{Agent, Aggregator},
    flood::{self, Data},
    query, wait,
};

const DELIVERY: Duration = Duration::from_secs(120);

#[derive(Deserialize)]
struct Line {
    id: Option<String>,
    data: Data,
}

/// Events that record files of the flood name, by id.
pub fn accepted(records: &Path) -> Result<HashMap<String, Data>> {
    let mut accepted = HashMap::new();
    for file in fs::read_dir(records)? {
        let path = file?.path();
        if path.is_dir() {
            accepted.extend(self::accepted(&path)?);
            continue;
        }
        for line in fs::read_to_string(&path)?.lines() {
            // The last line before a kill may be cut.
            let Ok(Line { id: Some(id), data }) = serde_json::from_str(line) else { continue };
            ensure!(data.is_intact(), "line of {id} in {} is damaged", path.display());
            ensure!(accepted.insert(id.clone(), data).is_none(), "id {id} was given twice");
        }
    }
    Ok(accepted)
}

/// Waits until the agent's buffer and the aggregator's log are drained, `least` events having come.
pub async fn drained(aggregator: &Aggregator, agent: &Agent, least: u64) -> Result<()> {
    wait::until("the backlog to be delivered and stored", DELIVERY, || {
        let mut query = aggregator.query.clone();
        let name = agent.name.clone();
        async move {
            let node = query::node(&mut query, &name).await?.context("the node is known")?;
            let status = query.get_status(GetStatusRequest {}).await?.into_inner();
            let lost: u64 = node.lost.iter().map(|loss| loss.count).sum();
            let stored = status.store_next_offset == status.log_next_offset;
            let drained = node.connected && node.backlog_events == 0 && node.events + lost >= least && stored;
            Ok(drained.then_some(()))
        }
    })
    .await
    .with_context(|| format!("{}\n{}", aggregator.process.tail(), agent.process.tail()))
}

/// Checks the ledger of an agent at rest, and the store against it and the record files; returns how many accepted events there were, and how many stored.
pub async fn check(aggregator: &Aggregator, agent: &Agent) -> Result<(usize, usize)> {
    let ledger = balanced(aggregator, agent).await?;
    let mut query = aggregator.query.clone();
    wait::until("the log to be indexed", DELIVERY, || {
        let mut query = query.clone();
        async move {
            let status = query.get_status(GetStatusRequest {}).await?.into_inner();
            Ok((status.store_next_offset == status.log_next_offset).then_some(()))
        }
    })
    .await?;
    let accepted = accepted(&agent.dir.join("records"))?;
    let stored = query::all(&mut query, &format!("tracer:flood AND node:{}", agent.name)).await?;
    let node = query::node(&mut query, &agent.name).await?.context("the node is known")?;
    let lost: u64 = node.lost.iter().map(|loss| loss.count).sum();
    let mut numbers = HashMap::new();
    for (id, event) in &stored {
        let data = data(event)?;
        ensure!(data.is_intact(), "event {id} is damaged");
        if let Some(other) = numbers.insert((data.pid, data.number), id) {
            anyhow::bail!("number {} of process {} was stored as {other} and as {id}", data.number, data.pid);
        }
    }
    let mut missing = 0_u64;
    for (id, data) in &accepted {
        match stored.get(id) {
            Some(event) => ensure!(self::data(event)? == *data, "event {id} is not what was recorded"),
            None => missing += 1,
        }
    }
    ensure!(missing <= lost, "{missing} of {} accepted events are missing, {lost} are declared lost", accepted.len());
    ensure!(ledger.delivered == stored.len() as u64, "{} events are stored: {ledger:?}", stored.len());
    ensure!(ledger.observed >= accepted.len() as u64, "{} events were accepted: {ledger:?}", accepted.len());
    Ok((accepted.len(), stored.len()))
}

/// The ledger of a node that is at rest: nothing is on its way, nothing is unaccounted for, and no more was observed than
/// the tracers did.
pub async fn balanced(aggregator: &Aggregator, agent: &Agent) -> Result<Ledger> {
    let ledger = wait::until("the node to be at rest", DELIVERY, || {
        let mut query = aggregator.query.clone();
        let request = GetLedgerRequest { node: agent.name.clone() };
        async move {
            let node = query.get_ledger(request).await?.into_inner().nodes.pop().context("the node is known")?;
            let ledger = node.ledger.context("the node has a ledger")?;
            let rests = node.connected && node.backlog_events == 0 && ledger.buffered == 0;
            Ok(rests.then_some(ledger))
        }
    })
    .await
    .with_context(|| format!("{}\n{}", aggregator.process.tail(), agent.process.tail()))?;
    let sum = |counters: &[LossCounter]| counters.iter().map(|counter| counter.count).sum::<u64>();
    let quarantined: u64 = ledger.quarantined.iter().map(|one| one.count).sum();
    let known = ledger.delivered + sum(&ledger.suppressed) + sum(&ledger.dropped) + quarantined;
    ensure!(ledger.unaccounted == 0 && ledger.observed == known, "the ledger does not balance: {ledger:?}");
    let observed = flood::observed(&agent.dir.join("tally"))?;
    ensure!(ledger.observed <= observed, "only {observed} were observed: {ledger:?}");
    Ok(ledger)
}

/// As [`balanced`], of a node none of whose processes was killed: all that its tracers observed is in it.
pub async fn balanced_whole(aggregator: &Aggregator, agent: &Agent) -> Result<Ledger> {
    let ledger = balanced(aggregator, agent).await?;
    let observed = flood::observed(&agent.dir.join("tally"))?;
    ensure!(ledger.observed == observed, "{observed} were observed: {ledger:?}");
    Ok(ledger)
}

/// What an event of the flood carries.
pub fn data(event: &Event) -> Result<Data> {
    Ok(serde_json::from_slice(&event.data)?)
}
