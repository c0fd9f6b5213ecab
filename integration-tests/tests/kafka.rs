//! Two replicas on one Kafka, with an agent that moves between them: whatever is killed or hangs, what was accepted is
//! found on both, once. Searches are answered by each replica's own store, or by one OpenSearch.

#![allow(clippy::print_stdout, reason = "a failure is repeated with the seed that is said")]

use std::{fs, path::PathBuf, time::Duration};

use anyhow::{Context, Result};
use galen_integration_tests::{
    fleet::{Agent, Aggregator},
    oracle, query, wait,
};
use galen_proto::v1::{GetLedgerRequest, GetStatusRequest, SearchEventsRequest};
use galen_services::{Server, kafka, opensearch};
use rustix::process::Signal;
use tempfile::TempDir;
use tokio::time::sleep;

const AGENT: &str = "galen-flood-agent";
const NODE: &str = "victim";
const EVENTS: &str = "tracer:flood AND node:victim";
/// Rounds of `make test`; `make soak` sets more by the environment.
const ROUNDS: usize = 10;
/// Longest time between two faults.
const PACE_MILLIS: u64 = 1500;
const DELIVERY: Duration = Duration::from_secs(120);

/// Everything, each with a directory of its own.
struct Fleet {
    kafka: Server,
    opensearch: Option<Server>,
    dir: TempDir,
    replicas: Vec<Aggregator>,
    agent: Agent,
    /// The replica that the agent dials.
    at: usize,
}

impl Fleet {
    async fn start(opensearch: Option<Server>) -> Result<Self> {
        let (kafka, dir) = (kafka(), tempfile::tempdir()?);
        for name in ["replica-0", "replica-1", "agent"] {
            fs::create_dir_all(dir.path().join(name))?;
        }
        let mut replicas = Vec::new();
        for place in 0..2 {
            replicas.push(replica(&kafka, opensearch.as_ref(), dir.path().join(format!("replica-{place}"))).await?);
        }
        let agent = agent(&dir, &replicas[0], true)?;
        Ok(Self { kafka, opensearch, dir, replicas, agent, at: 0 })
    }

    async fn kill_replica(&mut self, place: usize) -> Result<()> {
        self.replicas[place].process.kill()?;
        let dir = self.dir.path().join(format!("replica-{place}"));
        self.replicas[place] = replica(&self.kafka, self.opensearch.as_ref(), dir).await?;
        Ok(())
    }

    /// The agent ends without a word, and begins again at the other replica.
    fn move_agent(&mut self, floods: bool) -> Result<()> {
        self.agent.process.kill()?;
        self.at = 1 - self.at;
        self.agent = agent(&self.dir, &self.replicas[self.at], floods)?;
        Ok(())
    }

    /// Waits until both replicas have all, and checks what they have.
    async fn check(mut self) -> Result<usize> {
        self.move_agent(false)?;
        let accepted = oracle::accepted(&self.agent.dir.join("records"))?.len();
        oracle::drained(&self.replicas[self.at], &self.agent, accepted as u64).await?;
        let events = query::node(&mut self.replicas[self.at].query.clone(), NODE).await?.context("known")?.events;
        for replica in &self.replicas {
            has_copied(replica, events).await?;
            has_stored(replica).await?;
            finds(replica, events).await?;
        }
        let (accepted_then, stored) = oracle::check(&self.replicas[self.at], &self.agent).await?;
        assert_eq!((accepted_then, stored as u64), (accepted, events));
        // The other has the same, none of them twice.
        let here = query::all(&mut self.replicas[self.at].query.clone(), EVENTS).await?;
        let there = query::all(&mut self.replicas[1 - self.at].query.clone(), EVENTS).await?;
        assert!(here == there, "{} events here, {} there", here.len(), there.len());
        has_one_ledger(&self.replicas).await?;
        Ok(accepted)
    }
}

async fn replica(kafka: &Server, opensearch: Option<&Server>, dir: PathBuf) -> Result<Aggregator> {
    let brokers = format!("kafka.brokers=\"{}\"", kafka.brokers());
    let urls = opensearch.map(|server| format!("opensearch.urls=[\"{}\"]", server.url()));
    let settings = [Some(brokers.as_str()), Some("kafka.partitions=3"), Some("kafka.patience=\"5s\""), urls.as_deref()];
    let settings: Vec<&str> = settings.into_iter().flatten().collect();
    Aggregator::start(&dir, &settings).await
}

fn agent(dir: &TempDir, replica: &Aggregator, floods: bool) -> Result<Agent> {
    let flood = if floods { "tracers.flood.helping=3" } else { "tracers.flood.enabled=false" };
    let settings = [flood, "buffer.segment_bytes=\"2MiB\"", "records.max_files=1000", "log.filter=\"warn\""];
    Agent::start(AGENT, NODE, &dir.path().join("agent"), replica.addresses.grpc, &settings)
}

/// Waits until a replica shows so many events of the node.
async fn has_copied(replica: &Aggregator, events: u64) -> Result<()> {
    wait::until("the replica to have copied all", DELIVERY, || {
        let mut query = replica.query.clone();
        async move {
            let node = query::node(&mut query, NODE).await?;
            Ok(node.filter(|node| node.events >= events).map(|_| ()))
        }
    })
    .await
    .with_context(|| replica.process.tail())
}

/// Waits until all that a replica has can be found. Nothing more comes.
async fn has_stored(replica: &Aggregator) -> Result<()> {
    wait::until("the replica to have stored all", DELIVERY, || {
        let mut query = replica.query.clone();
        async move {
            let status = query.get_status(GetStatusRequest {}).await?.into_inner();
            Ok((status.store_next_offset == status.log_next_offset).then_some(()))
        }
    })
    .await
    .with_context(|| replica.process.tail())
}

/// Waits until a search finds so many events of the node: OpenSearch shows what it has taken a moment later.
async fn finds(replica: &Aggregator, events: u64) -> Result<()> {
    wait::until("all to be found", DELIVERY, || {
        let mut query = replica.query.clone();
        async move {
            let request = SearchEventsRequest { query: EVENTS.to_owned(), limit: 1, ..Default::default() };
            Ok((query.search_events(request).await?.into_inner().total == events).then_some(()))
        }
    })
    .await
    .with_context(|| replica.process.tail())
}

/// Waits until all replicas say the same of what became of the node's observations: none of them is unaccounted for.
async fn has_one_ledger(replicas: &[Aggregator]) -> Result<()> {
    wait::until("the replicas to have one ledger", DELIVERY, || async {
        let mut ledgers = Vec::new();
        for replica in replicas {
            let request = GetLedgerRequest { node: NODE.to_owned() };
            let answer = replica.query.clone().get_ledger(request).await?.into_inner();
            ledgers.push(answer.nodes.into_iter().map(|node| (node.ledger, node.connected, node.replica)).next());
        }
        let ledger = ledgers[0].as_ref().and_then(|(ledger, ..)| ledger.as_ref());
        let is_whole = ledger.is_some_and(|ledger| ledger.unaccounted == 0 && ledger.buffered == 0);
        Ok((is_whole && ledgers.iter().all(|other| *other == ledgers[0])).then_some(()))
    })
    .await
}

#[tokio::test]
async fn a_replica_that_hung_while_its_agent_moved_tells_nothing_twice() -> Result<()> {
    let mut fleet = Fleet::start(None).await?;
    for _ in 0..2 {
        let hung = fleet.at;
        // In the middle of a batch, as likely as not: it has events that it did not write yet.
        sleep(Duration::from_millis(fastrand::u64(300..1000))).await;
        fleet.replicas[hung].process.signal(Signal::STOP)?;
        fleet.move_agent(true)?;
        let moved_to = &fleet.replicas[fleet.at];
        let before = query::node(&mut moved_to.query.clone(), NODE).await?.map_or(0, |node| node.events);
        has_copied(moved_to, before + 100).await?;
        fleet.replicas[hung].process.signal(Signal::CONT)?;
    }
    let accepted = fleet.check().await?;
    println!("{accepted} events accepted");
    Ok(())
}

/// Beside the test's own thread, which looks at all events in one go: what happens to connections is seen meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_was_accepted_is_found_once_on_every_replica_whatever_is_killed() -> Result<()> {
    survives(Fleet::start(None).await?).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_was_accepted_is_found_once_in_opensearch_whatever_is_killed() -> Result<()> {
    survives(Fleet::start(Some(opensearch())).await?).await
}

async fn survives(mut fleet: Fleet) -> Result<()> {
    let rounds = std::env::var("GALEN_SOAK_ROUNDS").map_or(Ok(ROUNDS), |rounds| rounds.parse())?;
    let seed = std::env::var("GALEN_SEED").map_or_else(|_| Ok(fastrand::u64(..)), |seed| seed.parse())?;
    println!("GALEN_SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    for _ in 0..rounds {
        sleep(Duration::from_millis(random.u64(0..PACE_MILLIS))).await;
        match (random.usize(0..5), &fleet.opensearch) {
            (0, _) => fleet.move_agent(true)?,
            (1, _) => fleet.kill_replica(fleet.at).await?,
            (2, _) => fleet.kill_replica(1 - fleet.at).await?,
            (3, Some(opensearch)) => revive(opensearch, &mut random).await,
            _ => revive(&fleet.kafka, &mut random).await,
        }
    }
    let accepted = fleet.check().await?;
    assert!(accepted > rounds, "only {accepted} events were accepted: there was no load");
    println!("{rounds} rounds, {accepted} events accepted");
    Ok(())
}

/// Kills a server, and starts it again after a while.
async fn revive(server: &Server, random: &mut fastrand::Rng) {
    server.kill();
    sleep(Duration::from_millis(random.u64(0..PACE_MILLIS))).await;
    server.restart();
}
