//! The ledger, made of the nodes' books.

use std::sync::Arc;

use galen_kafka::Standings;
use galen_proto::v1::{GetLedgerResponse, Ledger, NodeLedger, Queue, Standing};

use super::{Inner, Nodes};
use crate::ingest::now_unix_nanos;

impl Nodes {
    /// What became of what was observed: of all nodes, or of the one that is named.
    pub fn ledger(&self, name: Option<&str>) -> GetLedgerResponse {
        let inner = &mut *self.inner.lock();
        self.hear(inner);
        let (here, now) = (self.standings.as_ref().map(Standings::replica), now_unix_nanos());
        let mut answer = GetLedgerResponse::default();
        let mut total = Ledger::default();
        for (node, book) in inner.books.iter().filter(|(node, _)| name.is_none_or(|name| name == &***node)) {
            answer.unbalanced += u64::from(book.enter(&mut total) != 0);
            let mut ledger = Ledger::default();
            book.enter(&mut ledger);
            let known = inner.nodes.get(node);
            let is_here = known.is_some_and(|known| known.connected);
            let place = book.place.as_ref();
            let elsewhere = place.filter(|place| here.is_some_and(|here| here != place.replica));
            answer.nodes.push(NodeLedger {
                node: (**node).to_owned(),
                ledger: Some(in_order(ledger)),
                connected: elsewhere.map_or(is_here, |place| place.connected && book.is_recent(now)),
                told_unix_nanos: book.told_unix_nanos,
                backlog_events: match place {
                    Some(place) => place.backlog_events,
                    None => known.map_or(0, |known| known.backlog_events),
                },
                replica: place.map(|place| place.replica.clone()).unwrap_or_default(),
            });
        }
        answer.nodes.sort_unstable_by(|a, b| a.node.cmp(&b.node));
        answer.total = Some(in_order(total));
        answer
    }

    /// A node that is connected here said what its buffer holds.
    pub(super) fn told(
        &self,
        inner: &mut Inner,
        name: &Arc<str>,
        queues: Vec<Queue>,
        backlog_events: u64,
        now_unix_nanos: i64,
    ) {
        match &self.standings {
            None => inner.book(name).told(queues, now_unix_nanos),
            Some(standings) => {
                let told_unix_nanos = now_unix_nanos;
                standings.tell(name, Standing { told_unix_nanos, queues, backlog_events, ..Standing::default() });
            }
        }
    }

    /// Enters what nodes said of themselves, here and at other replicas.
    pub(super) fn hear(&self, inner: &mut Inner) {
        let Some(standings) = &self.standings else { return };
        standings.each(|node, standing| {
            if !inner.books.contains_key(node) {
                if inner.nodes.len() >= self.cap {
                    return;
                }
                inner.node(&Arc::from(node), self.cap).last_seen_unix_nanos = standing.told_unix_nanos;
            }
            if let Some(book) = inner.books.get_mut(node) {
                book.hear(standing);
            }
        });
    }
}

/// By reason, whichever node or queue had it first.
fn in_order(mut ledger: Ledger) -> Ledger {
    for counters in [&mut ledger.suppressed, &mut ledger.dropped, &mut ledger.unseen] {
        counters.sort_unstable_by_key(|counter| counter.reason);
    }
    ledger.quarantined.sort_unstable_by_key(|one| one.reason);
    ledger
}
