//! Every node that was heard of: who is connected, what its tracers do, what came and what is gone.
//!
//! Filled from the watermarks at the start, then by sessions and by the log. Bounded: beyond the cap the disconnected
//! node that was silent longest is left out of the registry, counted; its watermarks are not touched.
//!
//! Where replicas share a log, what a node says of its queues goes by way of [`Standings`], also at the replica that it is
//! connected to: so the ledger is the same on all of them, and each knows where every node is.

mod book;
mod figures;
mod known;
mod ledger;
mod tracers;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, OnceLock},
};

use galen_kafka::{Mirror, Standings};
use galen_log::Watermarks;
use galen_proto::{
    Term,
    v1::{Heartbeat, Hello, Ledger, LogRecord, LossCounter, Node, QuarantineReason, Queue, TracerStatus},
};
use parking_lot::Mutex;
use prometheus::proto::MetricFamily;

pub use figures::{ParseShardError, Refused, Shard, TooMany};
pub use tracers::Totals;

use book::Book;
use figures::Figures;
use known::{Known, Said};
use tracers::Tracers;

/// Tracers of a node that are kept.
const MAX_TRACERS: usize = 64;
/// Longest text of a node about itself that is kept, in bytes.
const MAX_TEXT: usize = 1 << 10;

/// The registry.
#[derive(Debug)]
pub struct Nodes {
    cap: usize,
    inner: Mutex<Inner>,
    /// `None` where no other replica shares the log.
    standings: Option<Standings>,
    /// Of the log that replicas share.
    copy: OnceLock<Mirror>,
}

#[derive(Debug)]
struct Inner {
    nodes: HashMap<Arc<str>, Box<Known>>,
    /// Of the same nodes. Who adds them up has clones, so that nobody waits meanwhile.
    books: HashMap<Arc<str>, Arc<Book>>,
    /// Of all nodes since the log began, those that were left out included.
    lost: Vec<LossCounter>,
    evicted: u64,
    /// Nodes of other replicas that found no room, when it was looked last.
    unlisted: u64,
    tracers: Tracers,
    figures: Figures,
}

/// All nodes together.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Fleet {
    pub known: u64,
    pub connected: u64,
    /// Nodes that were left out of the registry.
    pub evicted: u64,
    /// Nodes of other replicas that find no room in it.
    pub unlisted: u64,
    /// Nodes without events whose standing was forgotten.
    pub forgotten: u64,
    /// By reason and tracer.
    pub lost: Vec<LossCounter>,
    /// Of the connected nodes.
    pub backlog_events: u64,
    pub buffer_bytes: u64,
    /// How many of the connected nodes there are by tracer and `Support`.
    pub tracer_nodes: BTreeMap<(String, i32), u64>,
    /// Of all nodes, by tracer.
    pub tracers: Vec<(String, Totals)>,
    /// Reports on tracers that are not told apart.
    pub folded_reports: u64,
    /// Figures of agents: series of nodes that are kept, and how often one was not.
    pub kept_figures: u64,
    pub refused_figures: BTreeMap<Refused, u64>,
    /// What the connected agents left out themselves.
    pub left_out_figures: u64,
    /// Of all nodes.
    pub ledger: Ledger,
    /// Nodes of which something is unaccounted for, and how much, whether too few or too many.
    pub unbalanced: u64,
    pub unaccounted: u64,
}

impl Nodes {
    /// With room for `cap` nodes, and for `series` figures of connected ones.
    pub fn new(cap: usize, series: usize, known: &Watermarks) -> Self {
        let mut inner = Inner {
            nodes: HashMap::new(),
            books: HashMap::new(),
            lost: Vec::new(),
            evicted: 0,
            unlisted: 0,
            tracers: Tracers::default(),
            figures: Figures::new(series),
        };
        for (name, totals) in known.totals() {
            let lost = gone(totals.lost);
            for lost in &lost {
                galen_log::add(&mut inner.lost, lost.reason, &lost.tracer, lost.count);
            }
            let key: Arc<str> = name.into();
            inner.book(&key).logged(known.tallies(name));
            let node = Node {
                name: name.to_owned(),
                last_seen_unix_nanos: totals.touched_unix_nanos,
                events: totals.events,
                lost,
                ..Node::default()
            };
            inner.nodes.insert(key, Known::new(node));
        }
        let nodes = Self { cap: cap.max(1), inner: Mutex::new(inner), standings: None, copy: OnceLock::new() };
        nodes.inner.lock().make_room(nodes.cap);
        nodes
    }

    /// Among replicas that share the log.
    #[must_use]
    pub fn among(self, standings: Standings) -> Self {
        Self { standings: Some(standings), ..self }
    }

    /// The log that they share is copied here.
    pub(crate) fn copied_by(&self, mirror: Mirror) {
        // There is one.
        let _ = self.copy.set(mirror);
    }

    /// A session of the node has begun.
    pub fn connected(&self, name: &Arc<str>, hello: Hello, now_unix_nanos: i64) {
        let mut inner = self.inner.lock();
        let node = inner.node(name, self.cap);
        node.connected = true;
        node.agent_version = brief(hello.agent_version);
        node.last_seen_unix_nanos = now_unix_nanos;
        inner.tracers_of(name, hello.tracers);
        let held = |queue: &Queue| queue.next_seq.saturating_sub(queue.first_unacked);
        let backlog_events = hello.queues.iter().map(held).fold(0, u64::saturating_add);
        self.told(&mut inner, name, hello.queues, backlog_events, now_unix_nanos);
    }

    /// The node's last session has ended.
    pub fn disconnected(&self, name: &str) {
        let mut inner = self.inner.lock();
        inner.figures.gone(name);
        if let Some(known) = inner.nodes.get_mut(name) {
            known.node.connected = false;
        }
        if let Some(standings) = &self.standings {
            standings.left(name);
        }
    }

    pub fn heartbeat(&self, name: &Arc<str>, heartbeat: Heartbeat, now_unix_nanos: i64) {
        let mut inner = self.inner.lock();
        let node = inner.node(name, self.cap);
        node.last_seen_unix_nanos = now_unix_nanos;
        node.backlog_events = heartbeat.backlog_events;
        node.buffer_bytes = heartbeat.buffer_bytes;
        node.settings_error = brief(heartbeat.settings_error);
        if heartbeat.sent_unix_nanos != 0 {
            node.clock_offset_nanos = heartbeat.sent_unix_nanos.saturating_sub(now_unix_nanos);
        }
        if !heartbeat.tracers.is_empty() {
            inner.tracers_of(name, heartbeat.tracers);
        }
        // An older agent does not tell.
        if !heartbeat.queues.is_empty() {
            self.told(&mut inner, name, heartbeat.queues, heartbeat.backlog_events, now_unix_nanos);
        }
        inner.figures.report(name, heartbeat.measures, heartbeat.measures_left_out);
    }

    /// These records are in the log, and `watermarks` include them.
    pub fn logged(&self, records: &[LogRecord], watermarks: &Watermarks) {
        let inner = &mut *self.inner.lock();
        for record in records {
            if !inner.nodes.contains_key(&*record.node) {
                inner.node(&Arc::from(&*record.node), self.cap);
            }
            let Some(known) = inner.nodes.get_mut(&*record.node) else { continue };
            let node = &mut known.node;
            node.events += record.events.len() as u64;
            node.last_seen_unix_nanos = node.last_seen_unix_nanos.max(record.received_unix_nanos);
            if let Some(book) = inner.books.get_mut(&*record.node) {
                Arc::make_mut(book).logged(watermarks.tallies(&record.node));
            }
            if record.lost.is_empty() && record.counters.is_empty() {
                continue;
            }
            let lost = gone(watermarks.totals_of(&record.node).lost);
            let before = std::mem::replace(&mut node.lost, lost.clone());
            for now in &lost {
                let known = before.iter().find(|known| known.reason == now.reason && known.tracer == now.tracer);
                let more = now.count.saturating_sub(known.map_or(0, |known| known.count));
                if more > 0 {
                    galen_log::add(&mut inner.lost, now.reason, &now.tracer, more);
                }
            }
        }
    }

    /// Names of the tracers of a node, if it was heard of.
    pub fn tracers(&self, name: &str) -> Option<Vec<String>> {
        let said = self.inner.lock().nodes.get(name)?.said.clone();
        Some(said.tracers().into_iter().map(|tracer| tracer.name).collect())
    }

    /// Events of a node that are in the log were put aside behind it.
    pub fn quarantine(&self, name: &str, reason: QuarantineReason, events: u64) {
        if let Some(book) = self.inner.lock().books.get_mut(name) {
            Arc::make_mut(book).quarantine(reason, events);
        }
    }

    /// These are all events, by node, that are put aside behind the log for `reason`.
    pub fn set_quarantined(&self, reason: QuarantineReason, nodes: &[(String, u64)]) {
        let books = &mut self.inner.lock().books;
        books.values_mut().for_each(|book| Arc::make_mut(book).set_quarantined(reason, 0));
        for (name, count) in nodes {
            if let Some(book) = books.get_mut(&**name) {
                Arc::make_mut(book).set_quarantined(reason, *count);
            }
        }
    }

    /// Figures of all agents together.
    pub fn fleet_figures(&self) -> Vec<MetricFamily> {
        self.inner.lock().figures.of_fleet()
    }

    /// Figures of each agent of a shard.
    ///
    /// # Errors
    /// There are more than an answer may have.
    pub fn node_figures(&self, shard: Shard) -> Result<Vec<MetricFamily>, TooMany> {
        self.inner.lock().figures.of_nodes(shard)
    }

    pub fn fleet(&self) -> Fleet {
        let (mut fleet, books, connected) = {
            let inner = &mut *self.inner.lock();
            self.hear(inner);
            let connected = inner.nodes.values().filter(|known| known.node.connected);
            let connected: Vec<_> = connected.map(|known| known.said.clone()).collect();
            (inner.fleet(), inner.books.values().cloned().collect::<Vec<_>>(), connected)
        };
        fleet.forgotten = self.standings.as_ref().map_or(0, Standings::forgotten);
        // Behind the lock: sessions and the log wait for it.
        for book in books {
            let unaccounted = book.enter(&mut fleet.ledger).unsigned_abs();
            fleet.unbalanced += u64::from(unaccounted > 0);
            fleet.unaccounted = fleet.unaccounted.saturating_add(unaccounted);
        }
        let mut tracer_nodes: HashMap<(String, i32), u64> = HashMap::new();
        for tracer in connected.iter().flat_map(Said::tracers) {
            *tracer_nodes.entry((tracer.name, tracer.support)).or_default() += 1;
        }
        for ((tracer, support), nodes) in tracer_nodes {
            *fleet.tracer_nodes.entry((tracers::name(&fleet.tracers, tracer), support)).or_default() += nodes;
        }
        fleet
    }
}

impl Inner {
    /// Without the ledger, and without what the tracers are able to do.
    fn fleet(&self) -> Fleet {
        let mut fleet = Fleet {
            known: self.nodes.len() as u64,
            evicted: self.evicted,
            unlisted: self.unlisted,
            lost: self.lost.clone(),
            tracers: self.tracers.totals(),
            folded_reports: self.tracers.folded,
            kept_figures: self.figures.kept(),
            refused_figures: self.figures.refused(),
            left_out_figures: self.figures.left_out(),
            ..Fleet::default()
        };
        for Known { node, .. } in self.nodes.values().map(|known| &**known).filter(|known| known.node.connected) {
            fleet.connected += 1;
            fleet.backlog_events += node.backlog_events;
            fleet.buffer_bytes += node.buffer_bytes;
        }
        fleet
    }

    fn node(&mut self, name: &Arc<str>, cap: usize) -> &mut Node {
        if !self.nodes.contains_key(name) {
            self.make_room(cap - 1);
        }
        self.books.entry(Arc::clone(name)).or_default();
        let new = || Known::new(Node { name: (**name).to_owned(), ..Node::default() });
        &mut self.nodes.entry(Arc::clone(name)).or_insert_with(new).node
    }

    /// Of a node that is there.
    fn book(&mut self, name: &Arc<str>) -> &mut Book {
        Arc::make_mut(self.books.entry(Arc::clone(name)).or_default())
    }

    /// The node said what its tracers do.
    fn tracers_of(&mut self, name: &str, mut tracers: Vec<TracerStatus>) {
        let Some(known) = self.nodes.get_mut(name) else { return };
        self.tracers.folded += tracers.len().saturating_sub(MAX_TRACERS) as u64;
        tracers.truncate(MAX_TRACERS);
        for tracer in &mut tracers {
            for text in [&mut tracer.name, &mut tracer.reason, &mut tracer.last_error] {
                *text = brief(std::mem::take(text));
            }
            tracer.suppressed.truncate(tracers::REASONS);
        }
        self.tracers.report(&known.said.tracers(), &tracers);
        known.said = Said::new(tracers);
    }

    /// Leaves out disconnected nodes, those silent longest first, until at most `cap` are left and some room besides,
    /// so that the search is rarely made.
    fn make_room(&mut self, cap: usize) {
        if self.nodes.len() <= cap {
            return;
        }
        let excess = self.nodes.len() - cap + cap / 16;
        let mut silent: Vec<(i64, Arc<str>)> = self
            .nodes
            .iter()
            .filter(|(_, known)| !known.node.connected)
            .map(|(name, known)| (known.node.last_seen_unix_nanos, Arc::clone(name)))
            .collect();
        silent.sort_unstable();
        for (_, name) in silent.into_iter().take(excess) {
            self.nodes.remove(&name);
            self.books.remove(&name);
            self.evicted += 1;
        }
    }
}

/// As much of a text as is kept.
fn brief(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(MAX_TEXT));
    text.shrink_to_fit();
    text
}

/// Without what was left out on purpose.
fn gone(mut counters: Vec<LossCounter>) -> Vec<LossCounter> {
    counters.retain(|counter| Term::of(counter.reason) != Term::Suppressed);
    counters
}

#[cfg(test)]
mod tests {
    use galen_log::Limits;
    use galen_proto::v1::{Loss, LossReason, Range};

    use super::*;

    fn name(text: &str) -> Arc<str> {
        text.into()
    }

    #[test]
    fn beyond_the_cap_the_node_silent_longest_is_left_out_and_none_that_is_connected() {
        let nodes = Nodes::new(3, 10, &Watermarks::default());
        for (seen, node) in ["oldest", "older", "old"].into_iter().enumerate() {
            nodes.connected(&name(node), Hello::default(), seen as i64);
        }
        nodes.disconnected("older");
        nodes.connected(&name("new"), Hello::default(), 9);
        let left: Vec<String> = nodes.list().into_iter().map(|node| node.name).collect();
        assert_eq!(left, ["new", "old", "oldest"]);
        assert_eq!(nodes.fleet().evicted, 1);
    }

    #[test]
    fn what_a_node_says_of_itself_has_an_end() {
        let nodes = Nodes::new(3, 10, &Watermarks::default());
        let long = || "ä".repeat(4 << 10);
        nodes.connected(&name("web-1"), Hello { agent_version: long(), ..Hello::default() }, 1);
        let suppressed = vec![Default::default(); 1000];
        let tracer = TracerStatus { name: "oom".into(), last_error: long(), suppressed, ..TracerStatus::default() };
        let beat = Heartbeat { settings_error: long(), tracers: vec![tracer; 1000], ..Heartbeat::default() };
        nodes.heartbeat(&name("web-1"), beat, 2);
        let kept = nodes.list().remove(0);
        assert_eq!((kept.agent_version.len(), kept.settings_error.len()), (MAX_TEXT, MAX_TEXT));
        assert_eq!((kept.tracers.len(), kept.tracers[0].last_error.len()), (MAX_TRACERS, MAX_TEXT));
        assert!(kept.tracers[0].suppressed.len() <= tracers::REASONS);
    }

    #[test]
    fn events_and_losses_survive_a_restart() {
        let mut watermarks = Watermarks::new(Limits::default());
        let records = [LogRecord {
            node: "web-1".into(),
            epoch: 7,
            first_seq: 1,
            events: vec![bytes::Bytes::from_static(b"a"); 3],
            lost: vec![Loss {
                range: Some(Range { first: 4, last: 5 }),
                reason: LossReason::BufferFull as i32,
                ..Loss::default()
            }],
            ..LogRecord::default()
        }];
        watermarks.apply(&records[0]);
        let nodes = Nodes::new(10, 10, &Watermarks::default());
        nodes.logged(&records, &watermarks);
        let lost = vec![LossCounter { reason: LossReason::BufferFull as i32, tracer: String::new(), count: 2 }];
        for nodes in [nodes, Nodes::new(10, 10, &watermarks)] {
            let node = &nodes.list()[0];
            assert_eq!((node.events, &node.lost), (3, &lost));
            assert_eq!(nodes.fleet().lost, lost);
        }
    }
}
