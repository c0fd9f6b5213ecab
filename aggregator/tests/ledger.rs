//! What the nodes observed against what became of it: through restarts, losses and miscounts.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use galen_proto::v1::{
    Account, Batch, GetLedgerRequest, Heartbeat, Ledger, LossCounter, LossReason, NodeLedger, Queue,
    query_service_client::QueryServiceClient,
};
use support::{Aggregator, EPOCH, batch, hello, loss, queue};
use tempfile::tempdir;
use tonic::Code;

fn account(observed: u64, counted: u64) -> Option<Account> {
    Some(Account { observed, counted, waiting: 0 })
}

fn counter(reason: LossReason, count: u64) -> LossCounter {
    LossCounter { reason: reason.into(), tracer: "oom".into(), count }
}

fn count(counters: &[LossCounter], reason: LossReason) -> u64 {
    counters.iter().filter(|counter| counter.reason() == reason).map(|counter| counter.count).sum()
}

impl Aggregator {
    async fn ledger_of(&self, node: &str) -> NodeLedger {
        let mut query = QueryServiceClient::new(self.endpoint().connect().await.unwrap());
        let answer = query.get_ledger(GetLedgerRequest { node: node.into() }).await.unwrap().into_inner();
        assert_eq!(answer.nodes.len(), 1);
        let [known] = <[_; 1]>::try_from(answer.nodes).unwrap();
        assert_eq!(answer.total, known.ledger);
        known
    }

    async fn terms_of(&self, node: &str) -> Ledger {
        self.ledger_of(node).await.ledger.unwrap()
    }
}

/// Of 110 observations: 90 delivered, 10 numbered and lost, 3 counted as lost, 2 left out, 5 on the node.
fn batches() -> [Batch; 2] {
    let first = Batch { next_seq: 106, account: account(105, 0), ..batch(1, 90) };
    let counters =
        vec![counter(LossReason::QueueFull, 3), counter(LossReason::Cooldown, 2), counter(LossReason::RingFull, 999)];
    let lost = vec![loss(91, 100)];
    [first, Batch { epoch: EPOCH, lost, counters, next_seq: 106, account: account(110, 5), ..Batch::default() }]
}

fn is_as_sent(ledger: &Ledger) {
    assert_eq!((ledger.observed, ledger.delivered, ledger.buffered, ledger.unaccounted), (110, 90, 5, 0));
    assert_eq!(count(&ledger.dropped, LossReason::BufferFull), 10);
    assert_eq!(count(&ledger.dropped, LossReason::QueueFull), 3);
    assert_eq!(ledger.dropped.len(), 2);
    assert_eq!((count(&ledger.suppressed, LossReason::Cooldown), ledger.suppressed.len()), (2, 1));
    assert_eq!((count(&ledger.unseen, LossReason::RingFull), ledger.unseen.len()), (999, 1));
}

#[tokio::test]
async fn every_observation_has_its_place_and_keeps_it_when_the_aggregator_starts_anew() {
    let dir = tempdir().unwrap();
    let aggregator = Aggregator::start(dir.path()).await;
    let (mut agent, _) = aggregator.welcomed(hello("web-1", &[queue(1, 1)])).await;
    for batch in batches() {
        agent.batch(batch).await;
    }
    agent.acknowledged(100).await;
    is_as_sent(&aggregator.terms_of("web-1").await);
    drop(agent);
    aggregator.stop().await;

    let aggregator = Aggregator::start(dir.path()).await;
    let known = aggregator.ledger_of("web-1").await;
    assert_eq!((known.connected, known.told_unix_nanos), (false, 0));
    is_as_sent(&known.ledger.unwrap());
    // What was observed meanwhile is known by the hello.
    let now = Queue { account: account(130, 5), ..queue(101, 126) };
    let (mut agent, _) = aggregator.welcomed(hello("web-1", &[now])).await;
    let ledger = aggregator.terms_of("web-1").await;
    assert_eq!((ledger.observed, ledger.buffered, ledger.unaccounted), (130, 25, 0));
    agent.batch(Batch { next_seq: 126, account: account(130, 5), ..batch(101, 125) }).await;
    agent.acknowledged(125).await;
    let ledger = aggregator.terms_of("web-1").await;
    assert_eq!((ledger.observed, ledger.delivered, ledger.buffered, ledger.unaccounted), (130, 115, 0, 0));
    let figures = aggregator.metrics().await;
    let figure = |name: &str| figures[&format!("galen_aggregator_ledger_{name}")];
    assert_eq!((figure("observed_events"), figure("delivered_events"), figure("buffered_events")), (130.0, 115.0, 0.0));
    assert_eq!(figure("dropped_events{reason=\"buffer_full\"}"), 10.0);
    assert_eq!(figure("suppressed_events{reason=\"cooldown\"}"), 2.0);
    assert_eq!((figure("unaccounted_events"), figure("unbalanced_nodes")), (0.0, 0.0));
    let lost = "galen_aggregator_fleet_lost_observations_total{reason=\"cooldown\"}";
    assert!(!figures.contains_key(lost), "what is left out on purpose is not lost");
}

#[tokio::test]
async fn a_node_that_lost_an_observation_without_knowing_is_named() {
    let dir = tempdir().unwrap();
    let aggregator = Aggregator::start(dir.path()).await;
    let (mut good, _) = aggregator.welcomed(hello("good", &[queue(1, 1)])).await;
    let (mut bad, _) = aggregator.welcomed(hello("bad", &[queue(1, 1)])).await;
    good.batch(Batch { account: account(40, 0), ..batch(1, 40) }).await;
    // One of 41 has neither a number nor a place in a counter.
    bad.batch(Batch { account: account(41, 0), ..batch(1, 40) }).await;
    good.acknowledged(40).await;
    bad.acknowledged(40).await;
    assert_eq!(aggregator.terms_of("good").await.unaccounted, 0);
    let ledger = aggregator.terms_of("bad").await;
    assert_eq!((ledger.observed, ledger.delivered, ledger.unaccounted), (41, 40, 1));
    let figures = aggregator.metrics().await;
    assert_eq!(figures["galen_aggregator_ledger_unaccounted_events"], 1.0);
    assert_eq!(figures["galen_aggregator_ledger_unbalanced_nodes"], 1.0);
    drop((good, bad));
    aggregator.stop().await;

    let aggregator = Aggregator::start(dir.path()).await;
    assert_eq!(aggregator.terms_of("bad").await.unaccounted, 1, "a restart does not hide it");
    // It reports 39 of what were 41: two events were given twice.
    let (agent, _) = aggregator.welcomed(hello("bad", &[Queue { account: account(38, 0), ..queue(41, 41) }])).await;
    assert_eq!(aggregator.terms_of("bad").await.unaccounted, -2);
    drop(agent);
}

#[tokio::test]
async fn what_was_in_a_queue_that_the_node_has_no_more_is_dropped() {
    let dir = tempdir().unwrap();
    let aggregator = Aggregator::start(dir.path()).await;
    let (mut agent, _) = aggregator.welcomed(hello("web-1", &[queue(1, 1)])).await;
    agent.batch(Batch { next_seq: 61, account: account(60, 0), ..batch(1, 40) }).await;
    agent.acknowledged(40).await;
    assert_eq!(aggregator.terms_of("web-1").await.buffered, 20);
    let new = Queue { epoch: EPOCH + 1, first_unacked: 1, next_seq: 1, account: account(0, 0) };
    agent.heartbeat(Heartbeat { queues: vec![new], ..Heartbeat::default() }).await;
    // In order behind the heartbeat: what it says is known when this is acknowledged.
    agent.batch(Batch { next_seq: 61, account: account(60, 0), ..batch(41, 42) }).await;
    agent.acknowledged(42).await;
    let ledger = aggregator.terms_of("web-1").await;
    assert_eq!((ledger.observed, ledger.delivered, ledger.buffered, ledger.unaccounted), (60, 42, 0, 0));
    assert_eq!(count(&ledger.dropped, LossReason::NodeLost), 18);
}

#[tokio::test]
async fn a_node_that_was_never_heard_of_has_no_ledger() {
    let dir = tempdir().unwrap();
    let aggregator = Aggregator::start(dir.path()).await;
    let mut query = QueryServiceClient::new(aggregator.endpoint().connect().await.unwrap());
    let refused = query.get_ledger(GetLedgerRequest { node: "nobody".into() }).await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound);
    let all = query.get_ledger(GetLedgerRequest::default()).await.unwrap().into_inner();
    assert_eq!((all.nodes.len(), all.total), (0, Some(Ledger::default())));
}
