//! OpenSearch is away while events come all the time, with Kafka as the log: what agents notice of it, whether anything
//! is lost, and how soon what is new and what was missed is found once it is back.

use std::{
    fs,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Result, ensure};
use galen_proto::v1::{GetLedgerRequest, SearchEventsRequest};
use galen_services::Server;
use tokio::{
    task::spawn_blocking,
    time::{Instant, sleep},
};

use super::{Figure, percentile};
use crate::{
    fleet::{Aggregator, Query},
    load, wait,
};

/// How long it is away, as a rule.
pub(super) const AWAY: Duration = Duration::from_secs(600);

/// Together 2,000 events a second.
const AGENTS: usize = 200;
const EVERY: Duration = Duration::from_millis(100);
/// In nanoseconds: from an event's moment to the one that it is given, and more.
const SECOND: i64 = 1_000_000_000;
/// Until every agent sends, and the servers are warm.
const WARM: Duration = Duration::from_secs(20);
/// How long is watched what is usual.
const USUAL: Duration = Duration::from_secs(30);
/// How often it is looked what was found.
const LOOK: Duration = Duration::from_millis(250);
/// Before it is given up, for each second that it was away.
const PATIENCE: u32 = 10;

pub(super) async fn measure(dir: &Path, away: Duration) -> Result<Vec<Figure>> {
    fs::create_dir_all(dir)?;
    let (kafka, opensearch) = (galen_services::kafka(), Arc::new(galen_services::opensearch()));
    let settings = [
        format!("kafka.brokers=\"{}\"", kafka.brokers()),
        format!("opensearch.urls=[\"{}\"]", opensearch.url()),
        "opensearch.replicas=0".to_owned(),
    ];
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    let aggregator = Aggregator::start(dir, &settings).await?;
    let load = load::connect(aggregator.addresses.grpc, 0..AGENTS).await?;
    load.record(EVERY);
    sleep(WARM).await;
    load.waits();
    sleep(USUAL).await;
    let usual = load.waits();

    let gone = Instant::now();
    with(&opensearch, Server::stop).await?;
    sleep(away.saturating_sub(gone.elapsed())).await;
    let during = load.waits();
    let (missed, missed_until) = (load.recorded(), now()? + SECOND);
    with(&opensearch, Server::restart).await?;
    let (back, since) = (Instant::now(), now()?);
    let limit = away * PATIENCE + WARM;
    let query = || aggregator.query.clone();
    wait::until("an event of now to be found", limit, || looked(found(query(), Some(since), None), 1)).await?;
    let fresh = back.elapsed();
    let old = found(query(), None, Some(missed_until)).await?;
    wait::until("what was missed to be found", limit, || looked(found(query(), None, Some(missed_until)), missed))
        .await?;
    let caught_up = back.elapsed();
    let after = load.waits();

    load.settle().await?;
    let recorded = load.recorded();
    wait::until("every event to be found", limit, || looked(found(query(), None, None), recorded)).await?;
    let found = found(query(), None, None).await?;
    ensure!(found == recorded, "{recorded} events were recorded, {found} are found");
    let ledger = query().get_ledger(GetLedgerRequest::default()).await?.into_inner();
    let unaccounted = ledger.total.map_or(0, |total| total.unaccounted);
    ensure!(unaccounted == 0, "{unaccounted} observations are unaccounted for");
    let figure = |name, measured, reach| Figure { name, measured, reach };
    Ok(vec![
        figure(
            "OpenSearch away at 2,000 events/s with Kafka: how long, events until then",
            format!("{:.0} s, {missed}", gone.elapsed().saturating_sub(back.elapsed()).as_secs_f64()),
            "600 s",
        ),
        figure("   acknowledged after, before it was away: p50, p99, max", times(usual), ""),
        figure("   the same while it was away", times(during), "agents not delayed"),
        figure("   the same while it caught up", times(after), ""),
        figure("   events lost, of all", format!("0 of {recorded}"), "nothing lost"),
        figure(
            "   back: an event of now is found after, with so many still missed",
            format!("{:.1} s, {}", fresh.as_secs_f64(), missed.saturating_sub(old)),
            "fresh events first",
        ),
        figure("   back: caught up after", format!("{:.1} s", caught_up.as_secs_f64()), "caught up"),
    ])
}

/// Stops or starts a server, on a thread where that does not hold up the agents.
async fn with(server: &Arc<Server>, change: fn(&Server)) -> Result<()> {
    let server = Arc::clone(server);
    Ok(spawn_blocking(move || change(&server)).await?)
}

/// Asks, not too often, whether there are so many.
async fn looked(ask: impl Future<Output = Result<u64>>, enough: u64) -> Result<Option<()>> {
    sleep(LOOK).await;
    Ok((ask.await? >= enough).then_some(()))
}

/// Events that a search finds, observed since a moment or until another.
async fn found(mut query: Query, since_unix_nanos: Option<i64>, until_unix_nanos: Option<i64>) -> Result<u64> {
    let request = SearchEventsRequest { since_unix_nanos, until_unix_nanos, limit: 1, ..Default::default() };
    Ok(query.search_events(request).await?.into_inner().total)
}

fn now() -> Result<i64> {
    Ok(i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos())?)
}

fn times(waits: Vec<Duration>) -> String {
    let mut millis: Vec<f64> = waits.into_iter().map(|wait| wait.as_secs_f64() * 1000.0).collect();
    let [p50, p99, max] = [0.5, 0.99, 1.0].map(|share| percentile(&mut millis, share));
    format!("{p50:.0} ms, {p99:.0} ms, {max:.0} ms")
}
