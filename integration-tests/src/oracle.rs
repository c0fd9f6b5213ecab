//! What must hold after any fault: every event that an agent accepted is in the store once, as it was recorded, or in a
//! declared loss.
//!
//! An event is known to be accepted when its line is in the agent's record file, because the line is written after the
//! event is durable and carries its id.

use std::{collections::HashMap, fs, path::Path, time::Duration};

use anyhow::{Context, Result, ensure};
use galen_proto::v1::{Event, GetStatusRequest};
use serde::Deserialize;

use crate::{
    fleet::{Agent, Aggregator},
    flood::Data,
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

/// Checks the store against the record files; returns how many accepted events there were, and how many stored.
pub async fn check(aggregator: &Aggregator, agent: &Agent) -> Result<(usize, usize)> {
    let accepted = accepted(&agent.dir.join("records"))?;
    let mut query = aggregator.query.clone();
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
    Ok((accepted.len(), stored.len()))
}

/// What an event of the flood carries.
pub fn data(event: &Event) -> Result<Data> {
    Ok(serde_json::from_slice(&event.data)?)
}
