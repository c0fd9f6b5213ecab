//! The ledger, made of the nodes' books, and where the nodes are.

use std::{sync::Arc, time::Instant};

use galen_kafka::{Mirror, Standings, Word};
use galen_proto::v1::{GetLedgerResponse, Ledger, Node, NodeLedger, Queue, Standing};

use super::{Book, Inner, Known, Nodes};
use crate::ingest::now_unix_nanos;

impl Nodes {
    /// What became of what was observed: of all nodes, or of the one that is named.
    pub fn ledger(&self, name: Option<&str>) -> GetLedgerResponse {
        // Added up behind the lock: sessions and the log wait for it.
        let known: Vec<_> = {
            let inner = &mut *self.inner.lock();
            self.hear(inner);
            let named = inner.books.iter().filter(|(node, _)| name.is_none_or(|name| name == &***node));
            named
                .map(|(node, book)| {
                    let here = inner.nodes.get(node).map(|known| (known.node.connected, known.node.backlog_events));
                    (Arc::clone(node), Arc::clone(book), here.unwrap_or_default())
                })
                .collect()
        };
        let (here, now) = (self.replica(), (Instant::now(), now_unix_nanos()));
        let mut answer = GetLedgerResponse::default();
        let mut total = Ledger::default();
        for (node, book, (is_here, backlog_events)) in known {
            answer.unbalanced += u64::from(book.enter(&mut total) != 0);
            let mut ledger = Ledger::default();
            book.enter(&mut ledger);
            let said = book.word.as_ref().map(|word| &word.standing);
            answer.nodes.push(NodeLedger {
                node: (*node).to_owned(),
                ledger: Some(in_order(ledger)),
                connected: book.elsewhere(here).map_or(is_here, |word| word.is_connected(now.0, now.1)),
                told_unix_nanos: said.map_or(0, |said| said.told_unix_nanos),
                backlog_events: said.filter(|_| here.is_some()).map_or(backlog_events, |said| said.backlog_events),
                replica: said.map(|said| said.replica.clone()).unwrap_or_default(),
            });
        }
        answer.nodes.sort_unstable_by(|a, b| a.node.cmp(&b.node));
        answer.total = Some(in_order(total));
        answer
    }

    /// Every node, by name, wherever it is connected.
    pub fn list(&self) -> Vec<Node> {
        let mut nodes: Vec<(Box<Known>, Option<Arc<Book>>)> = {
            let inner = &mut *self.inner.lock();
            self.hear(inner);
            inner.nodes.iter().map(|(name, known)| (known.clone(), inner.books.get(name).cloned())).collect()
        };
        nodes.sort_unstable_by(|(a, _), (b, _)| a.node.name.cmp(&b.node.name));
        let (here, now) = (self.replica(), (Instant::now(), now_unix_nanos()));
        let placed = nodes.into_iter().map(|(known, book)| {
            let mut node = known.whole();
            let word = book.as_ref().and_then(|book| book.word.as_ref());
            node.replica = word.map(|word| word.standing.replica.clone()).unwrap_or_default();
            if let Some(word) = book.as_ref().and_then(|book| book.elsewhere(here)) {
                node.connected = word.is_connected(now.0, now.1);
                node.backlog_events = word.standing.backlog_events;
                node.last_seen_unix_nanos = node.last_seen_unix_nanos.max(word.standing.told_unix_nanos);
            }
            node
        });
        placed.collect()
    }

    /// The name of this one among the replicas that share the log.
    fn replica(&self) -> Option<&str> {
        self.standings.as_ref().map(Standings::replica)
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
        if let Some(standings) = &self.standings {
            inner.hear(standings.words(), self.copy.get().and_then(Mirror::whole), self.cap);
        }
    }
}

impl Inner {
    fn hear(&mut self, words: Vec<(Arc<str>, Word)>, whole: Option<Instant>, cap: usize) {
        self.unlisted = 0;
        for (node, word) in words {
            if !self.books.contains_key(&node) {
                if self.nodes.len() >= cap {
                    self.unlisted += 1;
                    continue;
                }
                self.node(&node, cap).last_seen_unix_nanos = word.standing.told_unix_nanos;
            }
            self.book(&node).hear(word, whole);
        }
    }
}

/// By reason or name, whichever node or queue had it first.
fn in_order(mut ledger: Ledger) -> Ledger {
    for counters in [&mut ledger.suppressed, &mut ledger.dropped, &mut ledger.unseen] {
        counters.sort_unstable_by_key(|counter| counter.reason);
    }
    ledger.quarantined.sort_unstable_by_key(|one| one.reason);
    ledger.left_out.sort_unstable_by(|a, b| (&a.tracer, &a.tenant).cmp(&(&b.tracer, &b.tenant)));
    ledger
}

#[cfg(test)]
mod tests {
    use galen_log::Watermarks;
    use galen_proto::v1::Hello;

    use super::*;

    #[test]
    fn nodes_of_other_replicas_that_find_no_room_are_counted() {
        let nodes = Nodes::new(2, 10, &Watermarks::default());
        let inner = &mut *nodes.inner.lock();
        let words = ["a", "b", "c", "d"].map(|node| (Arc::<str>::from(node), Word::new(Standing::default())));
        for _ in 0..2 {
            inner.hear(words.to_vec(), None, nodes.cap);
            assert_eq!((inner.nodes.len(), inner.fleet().unlisted), (2, 2));
        }
    }

    #[test]
    fn nobody_waits_while_books_are_added_up() {
        let nodes = Nodes::new(2, 10, &Watermarks::default());
        let name: Arc<str> = "web-1".into();
        nodes.connected(&name, Hello::default(), 1);
        let book = nodes.inner.lock().books[&name].clone();
        nodes.connected(&name, Hello { queues: vec![Queue::default()], ..Hello::default() }, 2);
        let told = |book: &Book| book.word.as_ref().map(|word| word.standing.told_unix_nanos);
        assert_eq!((told(&book), told(&nodes.inner.lock().books[&name])), (Some(1), Some(2)));
    }
}
