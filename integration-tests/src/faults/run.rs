//! Runs cases against one agent and one aggregator, the real programs.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use futures_util::future::try_join_all;
use galen_proto::v1::{Event, EventKind};
use serde_json::Value;
use tokio::time::sleep;

use super::{
    Case, Score, Truth,
    score::outcome,
    stage::{Moment, Stage},
};
use crate::{
    fleet::{Agent, Aggregator, Query},
    query,
};

/// For the agent to start, and for the evidence of what was told to arrive.
const LIMIT: Duration = Duration::from_secs(60);
/// Between two looks at what was told.
const LOOK: Duration = Duration::from_millis(200);
/// Since the agent's start: longer than two windows of every tracer, so that each has something to compare with.
const SETTLED: Duration = Duration::from_secs(12);
/// Captures short enough that cases end soon, and room for those of cases that run side by side. As these make each
/// other wait for a CPU, which is no false alarm, cases for `waitrate` switch it on and so have an agent of their own.
const SETTINGS: [&str; 7] = [
    "budget.max_concurrent_captures=16",
    "budget.captures_per_hour=10000",
    "budget.cpu_per_hour=\"1h\"",
    "tracers.cpuidle.run_tracing_tool_timeout=\"3s\"",
    "tracers.cpusys.run_tracing_tool_timeout=\"3s\"",
    "tracers.iotracer.run_tracing_tool_timeout=\"3s\"",
    "tracers.waitrate.enabled=false",
];

/// An agent that has settled, and where it reports to.
pub struct Runner {
    aggregator: Aggregator,
    agent: Agent,
}

impl Runner {
    /// Starts both in `dir`.
    pub async fn start(dir: &Path, settings: &[String]) -> Result<Self> {
        let aggregator = Aggregator::start(dir, &[]).await?;
        let settings: Vec<&str> = SETTINGS.into_iter().chain(settings.iter().map(String::as_str)).collect();
        let agent = Agent::start("galen-agent", "faults", dir, aggregator.addresses.grpc, &settings)?;
        agent.connected(&aggregator).await?;
        sleep(SETTLED).await;
        Ok(Self { aggregator, agent })
    }

    /// Lets `case` happen and scores what is told of it.
    pub async fn case(&self, case: &Case) -> Result<Score> {
        self.happen(case).await.with_context(|| format!("{}\n{}", case.name, self.agent.process.tail()))
    }

    async fn happen(&self, case: &Case) -> Result<Score> {
        let mut stage = Stage::set(case)?;
        let mut query = self.aggregator.query.clone();
        let began = Moment::now()?;
        loop {
            stage.go_on(case, began.instant.elapsed())?;
            let events = told(&mut query, case, &stage, began.unix_nanos).await?;
            let complete = case.truth.iter().all(|truth| is_complete(&of(truth, &stage, &events)));
            let over = began.instant.elapsed() >= case.lasts.0;
            let late = began.instant.elapsed() >= case.lasts.0 + LIMIT;
            let early = complete && !case.truth.is_empty() && !case.to_the_end;
            if early || late || (over && complete) {
                return score(case, &stage, &events);
            }
            sleep(LOOK).await;
        }
    }
}

/// Runs `cases`: those that concern the whole machine one by one, the others all at once.
///
/// # Errors
/// What could not be started or asked. A case that went wrong is no error: its score says so.
pub async fn run(cases: Vec<Case>, dir: &Path, mut done: impl FnMut(&Score)) -> Result<Vec<Score>> {
    let possible = |case: &Case| case.impossible().inspect(|why| galen_scratch::skip(why)).is_none();
    let (own, shared): (Vec<_>, Vec<_>) =
        cases.into_iter().filter(possible).partition(|case| !case.settings.is_empty());
    let (alone, together): (Vec<_>, Vec<_>) = shared.into_iter().partition(|case| case.alone);
    let mut scores = Vec::new();
    if !alone.is_empty() || !together.is_empty() {
        let runner = Runner::start(&subfolder(dir, "shared")?, &[]).await?;
        for score in try_join_all(together.iter().map(|case| runner.case(case))).await? {
            done(&score);
            scores.push(score);
        }
        for case in &alone {
            scores.push(runner.case(case).await?);
            scores.last().into_iter().for_each(&mut done);
        }
    }
    for case in &own {
        let runner = Runner::start(&subfolder(dir, &case.name)?, &case.settings).await?;
        scores.push(runner.case(case).await?);
        scores.last().into_iter().for_each(&mut done);
    }
    Ok(scores)
}

/// Runs cases that must raise nothing, over and over for as long as asked, against one agent with every tracer.
///
/// # Errors
/// As [`run`].
pub async fn quiet(
    mut cases: Vec<Case>,
    dir: &Path,
    lasts: Duration,
    mut done: impl FnMut(&Score),
) -> Result<Vec<Score>> {
    cases.retain(|case| case.truth.is_empty() && case.settings.is_empty());
    let (alone, together): (Vec<_>, Vec<_>) = cases.into_iter().partition(|case| case.alone);
    let runner = Runner::start(dir, &["tracers.waitrate.enabled=true".to_owned()]).await?;
    let began = Instant::now();
    let mut scores = Vec::new();
    while began.elapsed() < lasts {
        let mut round = try_join_all(together.iter().map(|case| runner.case(case))).await?;
        for case in &alone {
            round.push(runner.case(case).await?);
        }
        round.iter().for_each(&mut done);
        scores.extend(round);
    }
    Ok(scores)
}

fn subfolder(dir: &Path, name: &str) -> Result<PathBuf> {
    let folder = dir.join(name);
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// What was told since the case began: of its disks, its cgroups and, if it may, the host.
async fn told(query: &mut Query, case: &Case, stage: &Stage, began: i64) -> Result<Vec<Event>> {
    let events = query::all(query, "").await?;
    let below = format!("{}/", stage.root);
    let concerns = |event: &Event| match (device(event), &event.container) {
        (Some(device), _) => stage.has_disk(&device),
        (None, Some(container)) => container.cgroup == stage.root || container.cgroup.starts_with(&below),
        (None, None) => case.alone || case.truth.iter().any(|truth| truth.is_of_host() && truth.tracer == event.tracer),
    };
    let recent = |event: &Event| event.times.as_ref().is_some_and(|times| times.observed_unix_nanos >= began);
    Ok(events.into_values().filter(|event| recent(event) && concerns(event)).collect())
}

/// The events of the runs that tell what `truth` says.
fn of<'a>(truth: &Truth, stage: &Stage, events: &'a [Event]) -> Vec<&'a Event> {
    let cgroup = truth.cgroup.as_ref().map(|name| stage.path(name));
    let disk = truth.disk.as_ref().map(|name| stage.disk(name));
    let tells = |event: &&Event| {
        let place = event.container.as_ref().map(|container| container.cgroup.as_str());
        let is_there = place == cgroup.as_deref() && device(event).as_deref() == disk;
        event.kind() != EventKind::Capture && event.tracer == truth.tracer && is_there
    };
    let runs: HashSet<&str> = events.iter().filter(tells).map(|event| event.run_id.as_str()).collect();
    events.iter().filter(|event| runs.contains(event.run_id.as_str())).collect()
}

/// The disk that an event names.
fn device(event: &Event) -> Option<String> {
    let data: Value = serde_json::from_slice(&event.data).unwrap_or_default();
    let named = [&data["reason_snapshot"]["device"], &data["device"]].into_iter().find_map(Value::as_str);
    named.map(str::to_owned)
}

/// Whether there is something, and all of it that there will be.
fn is_complete(events: &[&Event]) -> bool {
    let ended = |run: &str| {
        let mut of_run = events.iter().filter(|event| event.run_id == run);
        of_run.any(|event| {
            let data: Value = serde_json::from_slice(&event.data).unwrap_or_default();
            event.kind() != EventKind::Trigger || data["capture"] == false
        })
    };
    !events.is_empty() && events.iter().all(|event| ended(&event.run_id))
}

fn score(case: &Case, stage: &Stage, events: &[Event]) -> Result<Score> {
    let mut outcomes = Vec::new();
    for truth in &case.truth {
        let is = truth.culprit.as_ref().map(|culprit| stage.expand(&culprit.is));
        outcomes.push(outcome(truth, is.as_deref(), stage.began(truth.load)?, &of(truth, stage, events)));
    }
    let is_false = |event: &&Event| {
        let known = case.truth.iter().any(|truth| of(truth, stage, events).iter().any(|known| known.id == event.id));
        !known && !case.also.contains(&event.tracer) && event.kind() != EventKind::Capture
    };
    let false_alarms = events.iter().filter(is_false).map(|event| format!("{}: {}", event.tracer, event.summary));
    Ok(Score { case: case.name.clone(), outcomes, false_alarms: false_alarms.collect() })
}
