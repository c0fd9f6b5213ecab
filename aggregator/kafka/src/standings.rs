//! What nodes said of themselves, on all replicas: it goes with what is settled of a node, in its record of the topic
//! `<prefix>.watermarks`.
//!
//! A node speaks to the replica that it is connected to. What is said there is later than all that was heard of the node
//! there before: by the clock, or by a nanosecond. So of two words the later holds, whatever clocks differ by, and a
//! replica that has not noticed yet that its node has gone says nothing of it.
//!
//! Others hear what has changed within a moment, and what has not with the first heartbeat after [`REPEAT`]. A replica
//! says how often that is, so that one that was killed is known by its silence. Bounded: a word is kept for nodes whose
//! watermarks are, and [`SPARE`] others; what is forgotten is counted.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use galen_log::Watermarks;
use galen_proto::v1::Standing;

use crate::known::Known;

/// How often others hear what has not changed.
const REPEAT: Duration = Duration::from_secs(30);
/// Nodes without watermarks: of those that have nothing yet.
const SPARE: usize = 1024;
/// Periods of a replica after which its silence is that of one that has ended.
const PERIODS: u32 = 3;
/// Of a replica that does not tell its period: the longest interval of heartbeats.
const LONGEST: Duration = Duration::from_secs(300);

/// A replica's part in it. Clones are the same.
#[derive(Debug, Clone)]
pub struct Standings {
    known: Known,
    replica: String,
    period: Duration,
}

/// What a node said of itself last. Clones are the same.
#[derive(Debug, Clone)]
pub struct Word {
    pub standing: Arc<Standing>,
    /// Here.
    pub heard: Instant,
}

/// By node.
#[derive(Debug, Default)]
pub(crate) struct Table {
    words: HashMap<Arc<str>, Entry>,
    forgotten: u64,
}

#[derive(Debug)]
struct Entry {
    word: Word,
    /// Of the word that others have.
    shared_unix_nanos: i64,
}

impl Standings {
    /// `heartbeat`: the interval at which nodes say something here.
    pub(crate) fn new(known: Known, replica: String, heartbeat: Duration) -> Self {
        Self { known, replica, period: heartbeat.max(REPEAT) }
    }

    /// The name of this replica.
    pub fn replica(&self) -> &str {
        &self.replica
    }

    /// A node that is connected here said this of itself.
    pub fn tell(&self, node: &str, standing: Standing) {
        let period_seconds = self.period.as_secs().try_into().unwrap_or(u32::MAX);
        let standing = Standing { replica: self.replica.clone(), connected: true, period_seconds, ..standing };
        self.known.change(node, |table| table.tell(node, standing));
    }

    /// A node that was connected here has left.
    pub fn left(&self, node: &str) {
        self.known.change(node, |table| table.left(node, &self.replica));
    }

    /// The word of every node, as of now: nobody waits while it is looked at.
    pub fn words(&self) -> Vec<(Arc<str>, Word)> {
        self.known
            .standings(|table| table.words.iter().map(|(node, entry)| (Arc::clone(node), entry.word.clone())).collect())
    }

    /// Words that were forgotten, because they were too many.
    pub fn forgotten(&self) -> u64 {
        self.known.standings(|table| table.forgotten)
    }
}

impl Word {
    pub fn new(standing: Standing) -> Self {
        Self { standing: Arc::new(standing), heard: Instant::now() }
    }

    /// Whether the node is connected where it was heard last: that replica says so, and said it when it last had to.
    pub fn is_connected(&self, now: Instant, now_unix_nanos: i64) -> bool {
        let period = match self.standing.period_seconds {
            0 => LONGEST,
            seconds => Duration::from_secs(seconds.into()),
        };
        let age = now_unix_nanos.saturating_sub(self.standing.told_unix_nanos).max(0).unsigned_abs();
        self.standing.connected
            && now.saturating_duration_since(self.heard) < period * PERIODS
            // A word of long ago may have been heard just now, at the start. Clocks differ: by less, it is hoped.
            && u128::from(age) < (LONGEST * PERIODS).max(period * PERIODS).as_nanos()
    }
}

impl Table {
    /// Whether others are to hear of it.
    fn tell(&mut self, node: &str, mut standing: Standing) -> bool {
        let Some(Entry { word, shared_unix_nanos }) = self.words.get_mut(node) else {
            self.words.insert(node.into(), Entry { word: Word::new(standing), shared_unix_nanos: 0 });
            return true;
        };
        let before = word.standing.told_unix_nanos;
        let told = standing.told_unix_nanos.max(before.saturating_add(1));
        standing.told_unix_nanos = before;
        let is_same = standing == *word.standing;
        standing.told_unix_nanos = told;
        *word = Word::new(standing);
        let age = told.saturating_sub(*shared_unix_nanos).unsigned_abs();
        !is_same || u128::from(age) >= REPEAT.as_nanos()
    }

    fn left(&mut self, node: &str, replica: &str) -> bool {
        let Some(Entry { word, .. }) = self.words.get_mut(node) else { return false };
        let is_here = word.standing.replica == replica && word.standing.connected;
        if is_here {
            Arc::make_mut(&mut word.standing).connected = false;
        }
        is_here
    }

    /// Another replica told it, or this one before.
    pub(crate) fn hear(&mut self, node: &str, other: Standing) {
        let age = |standing: &Standing| (standing.told_unix_nanos, !standing.connected);
        let shared_unix_nanos = other.told_unix_nanos;
        match self.words.get_mut(node) {
            Some(known) if age(&known.word.standing) >= age(&other) => {}
            Some(known) => *known = Entry { word: Word::new(other), shared_unix_nanos },
            None => drop(self.words.insert(node.into(), Entry { word: Word::new(other), shared_unix_nanos })),
        }
    }

    /// The word of a node, for others.
    pub(crate) fn share(&mut self, node: &str) -> Option<Standing> {
        let Entry { word, shared_unix_nanos } = self.words.get_mut(node)?;
        *shared_unix_nanos = word.standing.told_unix_nanos;
        Some((*word.standing).clone())
    }

    /// Forgets nodes whose watermarks were forgotten, once they are many.
    pub(crate) fn make_room(&mut self, watermarks: &Watermarks) {
        let before = self.words.len();
        if before > watermarks.len() + SPARE {
            self.words.retain(|node, _| !watermarks.tallies(node).is_empty());
            self.forgotten += (before - self.words.len()) as u64;
        }
    }
}

#[cfg(test)]
mod tests {
    use galen_proto::v1::Queue;

    use super::*;

    const SECOND: i64 = 1_000_000_000;

    fn said(replica: &str, told: i64, next_seq: u64) -> Standing {
        let queues = vec![Queue { epoch: 7, first_unacked: 1, next_seq, account: None }];
        Standing { replica: replica.into(), connected: true, told_unix_nanos: told, queues, ..Standing::default() }
    }

    fn of(table: &Table, node: &str) -> (String, bool, u64) {
        let standing = &table.words[node].word.standing;
        (standing.replica.clone(), standing.connected, standing.queues[0].next_seq)
    }

    #[test]
    fn others_hear_what_has_changed_at_once_and_what_has_not_now_and_then() {
        let mut table = Table::default();
        assert!(table.tell("web-1", said("a", SECOND, 5)));
        table.share("web-1").unwrap();
        assert!(!table.tell("web-1", said("a", 11 * SECOND, 5)));
        assert!(table.tell("web-1", said("a", 12 * SECOND, 6)));
        table.share("web-1").unwrap();
        assert!(!table.tell("web-1", said("a", 41 * SECOND, 6)));
        assert!(table.tell("web-1", said("a", 43 * SECOND, 6)));
        assert!(table.left("web-1", "a") && !table.left("web-1", "a"));
    }

    #[test]
    fn a_node_is_where_it_was_heard_last_whatever_the_clocks_show() {
        // The clock of `a` is an hour ahead.
        let (mut a, mut b, mut c) = (Table::default(), Table::default(), Table::default());
        a.tell("web-1", said("a", 3600 * SECOND, 5));
        let at_a = a.share("web-1").unwrap();
        b.hear("web-1", at_a.clone());
        b.tell("web-1", said("b", SECOND, 9));
        let at_b = b.share("web-1").unwrap();
        for words in [[&at_a, &at_b], [&at_b, &at_a]] {
            words.into_iter().for_each(|word| c.hear("web-1", word.clone()));
            assert_eq!(of(&c, "web-1"), ("b".into(), true, 9));
        }
        // `a` notices late that the node has gone.
        a.hear("web-1", at_b);
        assert!(!a.left("web-1", "a"));
        assert!(b.left("web-1", "b"));
        let gone = b.share("web-1").unwrap();
        for table in [&mut a, &mut c] {
            table.hear("web-1", gone.clone());
            assert_eq!(of(table, "web-1"), ("b".into(), false, 9));
        }
    }

    #[test]
    fn of_nodes_without_watermarks_only_some_are_kept_and_the_others_counted() {
        let mut table = Table::default();
        for node in 0..=SPARE {
            table.tell(&node.to_string(), said("a", SECOND, 5));
            table.make_room(&Watermarks::default());
        }
        assert!(table.words.len() <= SPARE);
        assert_eq!(table.words.len() + table.forgotten as usize, SPARE + 1);
    }

    #[test]
    fn nobody_waits_while_the_words_are_looked_at() {
        let standings = Standings::new(Known::default(), "a".into(), Duration::ZERO);
        standings.tell("web-1", said("", SECOND, 5));
        let words = standings.words();
        for (node, word) in &words {
            standings.tell(node, said("", 2 * SECOND, 6));
            assert_eq!(word.standing.queues[0].next_seq, 5);
        }
        assert_eq!(standings.words()[0].1.standing.queues[0].next_seq, 6);
    }

    #[test]
    fn a_replica_that_said_nothing_for_three_of_its_periods_has_ended() {
        let said_by = |period_seconds| Word::new(Standing { period_seconds, ..said("a", SECOND, 5) });
        let after = |seconds, word: Word| word.is_connected(word.heard + Duration::from_secs(seconds), 2 * SECOND);
        assert!(after(29, said_by(10)) && !after(30, said_by(10)));
        // An older replica does not tell its period.
        assert!(after(899, said_by(0)) && !after(900, said_by(0)));
        let left = Word::new(Standing { connected: false, ..said("a", SECOND, 5) });
        assert!(!after(0, left));
        let long_ago = said_by(10);
        assert!(!long_ago.is_connected(long_ago.heard, 1000 * SECOND), "though it was heard just now");
    }
}
