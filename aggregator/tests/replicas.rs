//! Replicas on a real Kafka: each gives the ledger of the whole fleet, and says where a node is and as of when.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::path::Path;

use bytes::Bytes;
use galen_aggregator::Settings;
use galen_proto::v1::{
    Account, Batch, Event, GetLedgerRequest, GetLedgerResponse, Heartbeat, Ledger, ListNodesRequest, LossCounter,
    LossReason, Node, NodeLedger, Queue, query_service_client::QueryServiceClient,
};
use galen_services::{Server, kafka};
use prost::Message;
use support::{Agent, Aggregator, EPOCH, PATIENCE, hello, queue, settings};
use tempfile::tempdir;
use tokio::time::Instant;
use tonic::transport::Channel;

struct Replica {
    aggregator: Aggregator,
    query: QueryServiceClient<Channel>,
}

impl Replica {
    async fn start(dir: &Path, kafka: &Server) -> Self {
        let settings = settings(dir, |config| {
            config.kafka.brokers = kafka.brokers();
            config.kafka.partitions = 3;
        });
        let aggregator = Aggregator::with(Settings { index: true, ..settings }).await;
        let query = QueryServiceClient::new(aggregator.endpoint().connect().await.unwrap());
        Self { aggregator, query }
    }

    /// In which nothing is ever unaccounted for.
    async fn ledger(&self) -> GetLedgerResponse {
        let answer = self.query.clone().get_ledger(GetLedgerRequest::default()).await.unwrap().into_inner();
        assert_eq!((answer.unbalanced, answer.total.as_ref().unwrap().unaccounted), (0, 0), "{answer:?}");
        answer
    }

    async fn node(&self, name: &str) -> Node {
        let nodes = self.query.clone().list_nodes(ListNodesRequest {}).await.unwrap().into_inner().nodes;
        nodes.into_iter().find(|node| node.name == name).unwrap()
    }

    fn is(&self, name: &str) -> bool {
        name.ends_with(&format!(":{}", self.aggregator.addresses.grpc.port()))
    }
}

/// Waits until both give the same ledger, in which this holds of a node.
async fn both_say(replicas: [&Replica; 2], node: &str, holds: impl Fn(&NodeLedger, &Ledger) -> bool) {
    let deadline = Instant::now() + 3 * PATIENCE;
    loop {
        let [one, other] = [replicas[0].ledger().await, replicas[1].ledger().await];
        let known = one.nodes.iter().find(|known| known.node == node);
        let is_so = known.is_some_and(|known| holds(known, known.ledger.as_ref().unwrap()));
        if is_so && (&one.nodes, &one.total) == (&other.nodes, &other.total) {
            return;
        }
        assert!(Instant::now() < deadline, "{one:#?}\n{other:#?}");
        tokio::task::yield_now().await;
    }
}

fn account(observed: u64, counted: u64, waiting: u64) -> Option<Account> {
    Some(Account { observed, counted, waiting })
}

/// Events `first ..= last`, of as many as were observed with them.
fn batch(first: u64, last: u64, observed: u64) -> Batch {
    let event = |seq| Event { tracer: "test".into(), summary: format!("number {seq}"), ..Event::default() };
    let events = (first..=last).map(|seq| Bytes::from(event(seq).encode_to_vec())).collect();
    let (next_seq, account) = (observed + 1, account(observed, 0, 0));
    Batch { epoch: EPOCH, first_seq: first, events, next_seq, account, ..Batch::default() }
}

async fn says(agent: &Agent, queue: Queue) {
    let backlog_events = queue.next_seq - queue.first_unacked;
    agent.heartbeat(Heartbeat { queues: vec![queue], backlog_events, ..Heartbeat::default() }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_replica_has_the_ledger_of_all_nodes_and_says_where_each_is() {
    let kafka = kafka();
    let dirs = [tempdir().unwrap(), tempdir().unwrap(), tempdir().unwrap()];
    let first = Replica::start(dirs[0].path(), &kafka).await;
    let second = Replica::start(dirs[1].path(), &kafka).await;
    let both = [&first, &second];

    let (mut agent, _) = first.aggregator.welcomed(hello("web-1", &[queue(1, 1)])).await;
    agent.batch(batch(1, 40, 60)).await;
    agent.acknowledged(40).await;
    both_say(both, "web-1", |node, ledger| {
        let terms = (ledger.observed, ledger.delivered, ledger.buffered);
        node.connected && first.is(&node.replica) && node.told_unix_nanos > 0 && terms == (60, 40, 20)
    })
    .await;

    // Of this nothing comes with an event, nor into the log.
    let now = Queue { account: account(75, 5, 3), ..queue(41, 71) };
    says(&agent, now).await;
    both_say(both, "web-1", |node, ledger| {
        (ledger.observed, ledger.buffered, node.backlog_events) == (78, 38, 30) && node.connected
    })
    .await;
    for replica in both {
        let node = replica.node("web-1").await;
        assert!(node.connected && first.is(&node.replica) && node.backlog_events == 30, "{node:?}");
    }

    // A node that has nothing yet.
    let (idle, _) = second.aggregator.welcomed(hello("idle", &[])).await;
    both_say(both, "idle", |node, ledger| node.connected && second.is(&node.replica) && ledger.observed == 0).await;
    drop(idle);
    both_say(both, "idle", |node, _| !node.connected && second.is(&node.replica)).await;
    for replica in both {
        assert!(!replica.node("idle").await.connected);
    }

    // It moves, and the first replica has not noticed: what it would say of the node does not hold any more.
    let (mut moved, _) = second.aggregator.welcomed(hello("web-1", &[now])).await;
    both_say(both, "web-1", |node, _| node.connected && second.is(&node.replica)).await;
    let counters = vec![LossCounter { reason: LossReason::QueueFull.into(), count: 5, ..LossCounter::default() }];
    moved.batch(Batch { counters, account: account(75, 5, 0), ..batch(41, 70, 70) }).await;
    moved.acknowledged(70).await;
    says(&moved, Queue { account: account(75, 5, 0), ..queue(71, 71) }).await;
    drop(agent);
    first.aggregator.shows("galen_aggregator_session_connected_agents", 0.0).await;
    let is_settled = |node: &NodeLedger, ledger: &Ledger| {
        let terms = (ledger.observed, ledger.delivered, ledger.buffered, ledger.dropped.len());
        node.connected && second.is(&node.replica) && node.backlog_events == 0 && terms == (75, 70, 0, 1)
    };
    both_say(both, "web-1", is_settled).await;

    // One that begins with nothing, while another is there no more, knows as much.
    first.aggregator.stop().await;
    let third = Replica::start(dirs[2].path(), &kafka).await;
    both_say([&third, &second], "web-1", is_settled).await;
    drop(moved);
    both_say([&third, &second], "web-1", |node, ledger| !node.connected && ledger.delivered == 70).await;
    second.aggregator.stop().await;
    third.aggregator.stop().await;
}
