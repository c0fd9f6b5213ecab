//! What nodes said of themselves, on all replicas: it goes with what is settled of a node, in its record of the topic
//! `<prefix>.watermarks`.
//!
//! A node speaks to the replica that it is connected to. What is said there is later than all that was heard of the node
//! there before: by the clock, or by a nanosecond. So of two words the later holds, whatever clocks differ by, and a
//! replica that has not noticed yet that its node has gone says nothing of it.
//!
//! Others hear what has changed within a moment, and what has not every [`REPEAT`]: what is older comes from a replica
//! that was killed, or of a node that has left. Bounded: a word is kept for nodes whose watermarks are, and [`SPARE`]
//! others.

use std::{collections::HashMap, time::Duration};

use galen_log::Watermarks;
use galen_proto::v1::Standing;

use crate::known::Known;

/// How often others hear what has not changed.
const REPEAT: Duration = Duration::from_secs(30);
/// Nodes without watermarks: of those that have nothing yet.
const SPARE: usize = 1024;

/// A replica's part in it. Clones are the same.
#[derive(Debug, Clone)]
pub struct Standings {
    known: Known,
    replica: String,
}

/// By node.
#[derive(Debug, Default)]
pub(crate) struct Table(HashMap<Box<str>, Word>);

#[derive(Debug)]
struct Word {
    standing: Standing,
    /// Of the word that others have.
    shared_unix_nanos: i64,
}

impl Standings {
    pub(crate) fn new(known: Known, replica: String) -> Self {
        Self { known, replica }
    }

    /// The name of this replica.
    pub fn replica(&self) -> &str {
        &self.replica
    }

    /// A node that is connected here said this of itself.
    pub fn tell(&self, node: &str, standing: Standing) {
        let standing = Standing { replica: self.replica.clone(), connected: true, ..standing };
        self.known.change(node, |table| table.tell(node, standing));
    }

    /// A node that was connected here has left.
    pub fn left(&self, node: &str) {
        self.known.change(node, |table| table.left(node, &self.replica));
    }

    /// Shows the word of every node.
    pub fn each(&self, mut look: impl FnMut(&str, &Standing)) {
        self.known.standings(|table| table.0.iter().for_each(|(node, word)| look(node, &word.standing)));
    }
}

impl Table {
    /// Whether others are to hear of it.
    fn tell(&mut self, node: &str, mut standing: Standing) -> bool {
        let Some(word) = self.0.get_mut(node) else {
            self.0.insert(node.into(), Word { standing, shared_unix_nanos: 0 });
            return true;
        };
        standing.told_unix_nanos = standing.told_unix_nanos.max(word.standing.told_unix_nanos.saturating_add(1));
        let before = Standing { told_unix_nanos: standing.told_unix_nanos, ..std::mem::take(&mut word.standing) };
        let age = standing.told_unix_nanos.saturating_sub(word.shared_unix_nanos);
        let tells = before != standing || u128::from(age.unsigned_abs()) >= REPEAT.as_nanos();
        word.standing = standing;
        tells
    }

    fn left(&mut self, node: &str, replica: &str) -> bool {
        let Some(Word { standing, .. }) = self.0.get_mut(node) else { return false };
        standing.replica == replica && std::mem::take(&mut standing.connected)
    }

    /// Another replica told it, or this one before.
    pub(crate) fn hear(&mut self, node: &str, other: Standing) {
        let age = |standing: &Standing| (standing.told_unix_nanos, !standing.connected);
        let shared_unix_nanos = other.told_unix_nanos;
        match self.0.get_mut(node) {
            Some(known) if age(&known.standing) >= age(&other) => {}
            Some(known) => *known = Word { standing: other, shared_unix_nanos },
            None => drop(self.0.insert(node.into(), Word { standing: other, shared_unix_nanos })),
        }
    }

    /// The word of a node, for others.
    pub(crate) fn share(&mut self, node: &str) -> Option<Standing> {
        let word = self.0.get_mut(node)?;
        word.shared_unix_nanos = word.standing.told_unix_nanos;
        Some(word.standing.clone())
    }

    /// Forgets nodes whose watermarks were forgotten, once they are many.
    pub(crate) fn make_room(&mut self, watermarks: &Watermarks) {
        if self.0.len() > watermarks.len() + SPARE {
            self.0.retain(|node, _| !watermarks.tallies(node).is_empty());
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
        Standing { replica: replica.into(), connected: true, told_unix_nanos: told, queues, backlog_events: 0 }
    }

    fn of(table: &Table, node: &str) -> (String, bool, u64) {
        let standing = &table.0[node].standing;
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
    fn of_nodes_without_watermarks_only_some_are_kept() {
        let mut table = Table::default();
        for node in 0..=SPARE {
            table.tell(&node.to_string(), said("a", SECOND, 5));
            table.make_room(&Watermarks::default());
        }
        assert!(table.0.len() <= SPARE);
    }
}
