//! What became of a node's observations: what the log has of its queues, set against what the node says of them.
//!
//! The node counts where observations come in, and tells that count together with its numbers and counters; the log
//! counts what it has. Neither is derived from the other, so an observation that got lost without being declared, or was
//! counted twice, is a difference: `unaccounted`. Both are of one moment each, and what the node tells is never behind
//! what the log has of it, so the sum holds while events are underway, too. Agents may say what they like: nothing here
//! overflows.
//!
//! The log's part, and what came with the events, survives a restart. What a node says in its hello and its heartbeats
//! is the later word, is known until the aggregator ends, and stays when the node leaves. A queue that the node does
//! not name any more holds nothing: what was still in it is lost.
//!
//! Where replicas share a log, a node says it at one of them, and all hear it. Each has a copy of the log, which may be
//! behind: what the node takes for delivered and the copy does not have yet is underway, and counts as buffered. Once
//! all is copied that the log had when the node said so, it will not come any more: the log lost it.

use std::{collections::BTreeMap, time::Instant};

use galen_kafka::Word;
use galen_log::{Tally, Told, add, leave_out};
use galen_proto::{
    Term,
    v1::{Ledger, LossReason, QuarantineReason, Quarantined, Queue, Standing},
};

/// Queues of a node that are looked at; an agent has no more.
const MAX_QUEUES: usize = 64;

#[derive(Debug, Clone, Default)]
pub(super) struct Book {
    tallies: Vec<Tally>,
    /// What the node said last; it names a replica where replicas share the log. `None`: nothing since the start.
    pub(super) word: Option<Word>,
    /// Of an earlier word, until all is copied that the log had then.
    taken: Option<Taken>,
    /// Of words of which all is copied: by epoch, the first number that was not delivered.
    copied: Vec<(u64, u64)>,
    quarantined: BTreeMap<i32, u64>,
}

/// What a node took for delivered.
#[derive(Debug, Clone)]
struct Taken {
    heard: Instant,
    /// By epoch, the first number that was not.
    firsts: Vec<(u64, u64)>,
}

impl Book {
    pub(super) fn logged(&mut self, tallies: Vec<Tally>) {
        self.tallies = tallies;
    }

    /// The node said what its buffer holds.
    pub(super) fn told(&mut self, mut queues: Vec<Queue>, now_unix_nanos: i64) {
        queues.truncate(MAX_QUEUES);
        self.word = Some(Word::new(Standing { queues, told_unix_nanos: now_unix_nanos, ..Standing::default() }));
    }

    /// The node said it at a replica. All that the shared log had at `whole` is copied.
    pub(super) fn hear(&mut self, word: Word, whole: Option<Instant>) {
        let taken = self.taken.get_or_insert_with(|| Taken {
            heard: word.heard,
            firsts: looked_at(&word).iter().map(|queue| (queue.epoch, queue.first_unacked)).collect(),
        });
        if whole.is_some_and(|whole| whole >= taken.heard) {
            let firsts = std::mem::take(&mut taken.firsts);
            // A queue that it names no more was delivered before it was given up, or is lost: what is known stays.
            self.copied.retain(|(epoch, _)| {
                firsts.iter().all(|(named, _)| named != epoch) && self.tallies.iter().any(|tally| tally.epoch == *epoch)
            });
            self.copied.extend(firsts);
            self.taken = None;
        }
        self.word = Some(word);
    }

    /// What the node said last, if that was at another replica than this one.
    pub(super) fn elsewhere(&self, here: Option<&str>) -> Option<&Word> {
        self.word.as_ref().filter(|word| here.is_some_and(|here| here != word.standing.replica))
    }

    /// This many events of the log, `more` than before, were put aside behind it.
    pub(super) fn quarantine(&mut self, reason: QuarantineReason, more: u64) {
        *self.quarantined.entry(reason.into()).or_default() += more;
    }

    /// So many events of the log are put aside behind it.
    pub(super) fn set_quarantined(&mut self, reason: QuarantineReason, count: u64) {
        self.quarantined.insert(reason.into(), count);
    }

    /// Adds it to a sum. Returns what of it is unaccounted for.
    pub(super) fn enter(&self, ledger: &mut Ledger) -> i64 {
        let (delivered, unaccounted) = (ledger.delivered, ledger.unaccounted);
        let named = self.word.iter().flat_map(looked_at);
        let new = named.filter(|queue| self.tallies.iter().all(|tally| tally.epoch != queue.epoch));
        let new: Vec<Tally> = new.map(|queue| Tally { epoch: queue.epoch, ..Tally::default() }).collect();
        for tally in self.tallies.iter().chain(&new) {
            self.enter_queue(ledger, tally);
        }
        for (&reason, &count) in self.quarantined.iter().filter(|(_, count)| **count > 0) {
            // The log may have been replaced since.
            let count = count.min(ledger.delivered - delivered);
            ledger.delivered -= count;
            quarantine(ledger, reason, count);
        }
        ledger.unaccounted.saturating_sub(unaccounted)
    }

    fn enter_queue(&self, ledger: &mut Ledger, tally: &Tally) {
        let queue = self.word.as_ref().map(|word| looked_at(word).iter().find(|queue| queue.epoch == tally.epoch));
        let is_gone = queue == Some(None);
        let (mut told, mut waiting, mut forgotten) = (tally.told, 0, 0);
        if let Some(Some(queue)) = queue {
            let now = match queue.account {
                Some(account) => Told::new(queue.next_seq, account),
                None => Told { next_seq: queue.next_seq, counted: tally.counted, gap: told.map_or(0, |told| told.gap) },
            };
            told = Some(told.map_or(now, |before| before.and(now)));
            waiting = queue.account.map_or(0, |account| account.waiting);
            if self.word.as_ref().is_some_and(|word| word.standing.replica.is_empty()) {
                forgotten = tally.missing_below(queue.first_unacked);
            }
        }
        let held = tally.held(told);
        // What the node takes for delivered it does not hold.
        let forgotten = forgotten.min(held);
        let held = held - forgotten;
        let copied = self.copied.iter().find(|(epoch, _)| *epoch == tally.epoch);
        let lost = copied.map_or(0, |(_, first)| tally.missing_below(*first)).min(held);
        let held = held - lost;
        let unaccounted = tally.unaccounted(told).saturating_add_unsigned(forgotten);
        let mut known = tally.events.saturating_add(held).saturating_add(waiting).saturating_add(lost);
        ledger.delivered += tally.events;
        if lost > 0 {
            add(&mut ledger.dropped, LossReason::LogLost.into(), "", lost);
        }
        for lost in &tally.lost {
            let list = match Term::of(lost.reason) {
                Term::Dropped => &mut ledger.dropped,
                Term::Suppressed => &mut ledger.suppressed,
                Term::Quarantined => {
                    quarantine(ledger, QuarantineReason::Undecodable.into(), lost.count);
                    known = known.saturating_add(lost.count);
                    continue;
                }
                Term::Unseen => {
                    add(&mut ledger.unseen, lost.reason, "", lost.count);
                    continue;
                }
            };
            add(list, lost.reason, "", lost.count);
            known = known.saturating_add(lost.count);
        }
        for left_out in &tally.left_out {
            leave_out(&mut ledger.left_out, &left_out.tracer, &left_out.tenant, left_out.count);
        }
        if is_gone && held > 0 {
            add(&mut ledger.dropped, LossReason::NodeLost.into(), "", held);
        } else {
            ledger.buffered = ledger.buffered.saturating_add(held);
        }
        ledger.buffered = ledger.buffered.saturating_add(waiting);
        ledger.unaccounted = ledger.unaccounted.saturating_add(unaccounted);
        ledger.observed = ledger.observed.saturating_add(known.saturating_add_signed(unaccounted));
    }
}

/// The queues that a word names.
fn looked_at(word: &Word) -> &[Queue] {
    let queues = &word.standing.queues;
    &queues[..queues.len().min(MAX_QUEUES)]
}

fn quarantine(ledger: &mut Ledger, reason: i32, count: u64) {
    match ledger.quarantined.iter_mut().find(|known| known.reason == reason) {
        Some(known) => known.count = known.count.saturating_add(count),
        None => ledger.quarantined.push(Quarantined { reason, count }),
    }
}

#[cfg(test)]
mod tests {
    use galen_log::Settled;
    use galen_proto::v1::{Account, LossCounter};

    use super::*;

    const EPOCH: u64 = 7;

    /// A queue of which 100 numbers were given, `counted` observations are counted, and as much was observed.
    fn queue(counted: u64) -> Queue {
        let account = Some(Account { observed: 100 + counted, counted, waiting: 2 });
        Queue { epoch: EPOCH, first_unacked: 91, next_seq: 101, account }
    }

    /// Of which the log has 90 events, and 5 that were dropped before they had a number.
    fn tally() -> Tally {
        let lost = vec![
            LossCounter { reason: LossReason::QueueFull.into(), tracer: String::new(), count: 3 },
            LossCounter { reason: LossReason::Cooldown.into(), tracer: String::new(), count: 2 },
            LossCounter { reason: LossReason::RingFull.into(), tracer: String::new(), count: 1000 },
        ];
        let told = Some(Told { next_seq: 96, counted: 5, gap: 0 });
        let settled = settled(1, 90);
        Tally { epoch: EPOCH, events: 90, settled, lost, left_out: Vec::new(), counted: 5, told }
    }

    fn settled(first: u64, last: u64) -> Settled {
        let mut settled = Settled::default();
        settled.insert(first, last);
        settled
    }

    /// Said at a replica.
    fn word(queue: Queue) -> Word {
        Word::new(Standing { replica: "a".into(), connected: true, queues: vec![queue], ..Standing::default() })
    }

    fn book(queues: &[Queue]) -> Book {
        let mut book = Book::default();
        book.logged(vec![tally()]);
        book.told(queues.to_vec(), 1);
        book
    }

    fn ledger(book: &Book) -> Ledger {
        let mut ledger = Ledger::default();
        assert_eq!(book.enter(&mut ledger), ledger.unaccounted);
        ledger
    }

    fn balances(ledger: &Ledger) -> bool {
        let counted = |counters: &[LossCounter]| counters.iter().map(|counter| counter.count).sum::<u64>();
        let quarantined: u64 = ledger.quarantined.iter().map(|one| one.count).sum();
        let terms = ledger.delivered + counted(&ledger.suppressed) + counted(&ledger.dropped) + quarantined;
        i128::from(ledger.observed) == i128::from(terms + ledger.buffered) + i128::from(ledger.unaccounted)
    }

    #[test]
    fn what_was_observed_is_delivered_or_dropped_or_suppressed_or_buffered() {
        let mut book = book(&[queue(5)]);
        book.quarantine(QuarantineReason::Undecodable, 4);
        let ledger = ledger(&book);
        assert!(balances(&ledger));
        assert_eq!((ledger.observed, ledger.delivered, ledger.buffered, ledger.unaccounted), (107, 86, 12, 0));
        assert_eq!((ledger.dropped[0].count, ledger.suppressed[0].count), (3, 2));
        assert_eq!((ledger.quarantined[0].count, ledger.unseen[0].count), (4, 1000));
    }

    #[test]
    fn an_observation_that_vanished_on_the_node_is_found() {
        let mut vanished = queue(5);
        vanished.account = Some(Account { observed: 106, counted: 5, waiting: 0 });
        let ledger = ledger(&book(&[vanished]));
        assert_eq!((ledger.observed, ledger.buffered, ledger.unaccounted), (106, 10, 1));
        assert!(balances(&ledger));
    }

    #[test]
    fn an_event_that_the_log_settled_and_does_not_have_is_found() {
        let mut book = book(&[queue(5)]);
        book.logged(vec![Tally { events: 89, ..tally() }]);
        let ledger = ledger(&book);
        assert_eq!((ledger.unaccounted, ledger.buffered), (1, 12));
        assert!(balances(&ledger));
    }

    #[test]
    fn an_event_that_the_node_forgot_and_the_log_does_not_have_is_found() {
        let ledger = ledger(&book(&[Queue { first_unacked: 94, ..queue(5) }]));
        assert_eq!((ledger.observed, ledger.buffered, ledger.unaccounted), (107, 9, 3));
        assert!(balances(&ledger));
    }

    #[test]
    fn what_a_node_delivered_to_a_log_of_which_the_copy_is_behind_is_underway() {
        let mut book = book(&[queue(5)]);
        book.hear(word(Queue { first_unacked: 94, ..queue(5) }), None);
        let ledger = ledger(&book);
        assert_eq!((ledger.observed, ledger.buffered, ledger.unaccounted), (107, 12, 0));
        assert!(balances(&ledger));
        assert!(book.elsewhere(Some("b")).is_some() && book.elsewhere(Some("a")).is_none());
        assert!(book.elsewhere(None).is_none());
    }

    #[test]
    fn what_a_node_delivered_and_a_whole_copy_does_not_have_is_lost_to_it() {
        let mut book = Book::default();
        // The copy begins with the newest three of what was delivered.
        book.logged(vec![Tally { epoch: EPOCH, events: 3, settled: settled(91, 93), ..Tally::default() }]);
        let all = Queue { first_unacked: 94, ..queue(0) };
        let (before, then) = (Instant::now(), word(all));
        book.hear(then.clone(), Some(before));
        assert_eq!(ledger(&book).buffered, 99, "it may come yet");
        // More is delivered meanwhile: of that nothing is known.
        let now = Queue { first_unacked: 101, ..all };
        book.hear(word(now), Some(then.heard));
        let known = ledger(&book);
        assert_eq!((known.observed, known.delivered, known.buffered, known.unaccounted), (102, 3, 9, 0));
        assert_eq!((known.dropped[0].reason(), known.dropped[0].count), (LossReason::LogLost, 90));
        assert!(balances(&known));
        // It comes, and what was lost stays so.
        let told = Some(Told { next_seq: 101, counted: 0, gap: 0 });
        book.logged(vec![Tally { epoch: EPOCH, events: 10, settled: settled(91, 100), told, ..Tally::default() }]);
        let known = ledger(&book);
        assert_eq!((known.observed, known.delivered, known.buffered, known.dropped[0].count), (102, 10, 2, 90));
        assert!(balances(&known));
        // The node has another disk.
        let new = word(Queue { epoch: EPOCH + 1, first_unacked: 1, next_seq: 1, account: None });
        book.hear(new.clone(), Some(new.heard));
        book.hear(new.clone(), Some(new.heard));
        let known = ledger(&book);
        assert_eq!((known.observed, known.delivered, known.buffered, known.dropped[0].count), (100, 10, 0, 90));
        assert!(balances(&known));
    }

    #[test]
    fn what_was_gone_before_any_of_it_was_copied_is_lost_to_the_copy() {
        let mut book = Book::default();
        let idle = word(Queue { first_unacked: 101, ..queue(0) });
        book.hear(idle.clone(), Some(idle.heard));
        let known = ledger(&book);
        assert_eq!((known.observed, known.buffered, known.dropped[0].count), (102, 2, 100));
        assert!(balances(&known));
    }

    #[test]
    fn an_event_that_was_counted_twice_is_found() {
        let mut twice = queue(5);
        twice.account = Some(Account { observed: 104, counted: 5, waiting: 0 });
        let ledger = ledger(&book(&[twice]));
        assert_eq!((ledger.observed, ledger.unaccounted), (104, -1));
        assert!(balances(&ledger));
    }

    #[test]
    fn what_was_in_a_queue_that_the_node_lost_is_dropped() {
        let ledger = ledger(&book(&[]));
        assert!(ledger.dropped.iter().any(|lost| lost.reason() == LossReason::NodeLost && lost.count == 5));
        assert_eq!((ledger.observed, ledger.buffered, ledger.unaccounted), (100, 0, 0));
        assert!(balances(&ledger));
    }

    #[test]
    fn a_node_that_was_not_heard_since_the_start_has_what_it_told_with_its_events() {
        let mut book = Book::default();
        book.logged(vec![tally()]);
        let ledger = ledger(&book);
        assert_eq!((ledger.observed, ledger.buffered, ledger.unaccounted), (100, 5, 0));
    }

    #[test]
    fn an_agent_that_does_not_tell_has_no_difference_on_its_side() {
        let mut book = Book::default();
        book.logged(vec![Tally { told: None, ..tally() }]);
        book.told(vec![Queue { account: None, ..queue(5) }], 1);
        let ledger = ledger(&book);
        assert_eq!((ledger.observed, ledger.buffered, ledger.unaccounted), (105, 10, 0));
    }

    #[test]
    fn sums_are_by_reason() {
        let mut total = Ledger::default();
        for _ in 0..2 {
            assert_eq!(book(&[queue(5)]).enter(&mut total), 0);
        }
        assert_eq!((total.observed, total.buffered, total.dropped.len(), total.dropped[0].count), (214, 24, 1, 6));
        assert!(balances(&total));
    }
}
