//! Which aggregator is dialled next.
//!
//! All that are configured are equal. They are tried in rounds, each in a random order, so that a fleet spreads over
//! them. One that said not to come again before a time is left out until then; if all of them did, the one that is free
//! first is waited for.
//!
//! An agent stays away somewhat longer than it was told, so that those who were told the same do not come together. It is
//! always the same part that it adds: of two that say goodbye one after the other the first is free first, because the
//! second is still down by then.

use std::time::Duration;

use galen_runtime::endpoint::Endpoint;
use tokio::time::Instant;

#[derive(Debug)]
pub(super) struct Addresses {
    all: Vec<Address>,
    /// Places in `all` that this round has still to try; the last is next.
    round: Vec<usize>,
    /// Place of the one that was given last.
    last: usize,
    /// How much longer than it was told this agent stays away: a factor.
    stretch: f64,
}

#[derive(Debug)]
struct Address {
    endpoint: Endpoint,
    free: Instant,
}

impl Addresses {
    pub(super) fn new(endpoints: &[Endpoint]) -> Self {
        let now = Instant::now();
        let all = endpoints.iter().map(|endpoint| Address { endpoint: endpoint.clone(), free: now }).collect();
        Self { all, round: Vec::new(), last: 0, stretch: 1.0 + fastrand::f64() / 2.0 }
    }

    /// The next to dial, and from when on it may be.
    pub(super) fn next(&mut self) -> (Endpoint, Instant) {
        let now = Instant::now();
        let all = &self.all;
        let is_free = |place: &usize| all[*place].free <= now;
        if !self.round.iter().any(is_free) {
            self.round = (0..all.len()).collect();
            fastrand::shuffle(&mut self.round);
        }
        let in_turn = self.round.iter().rposition(is_free);
        let first_free = || (0..self.round.len()).min_by_key(|turn| all[self.round[*turn]].free);
        let turn = in_turn.or_else(first_free).unwrap_or_default();
        self.last = self.round.remove(turn);
        let Address { endpoint, free } = &self.all[self.last];
        (endpoint.clone(), *free)
    }

    /// The one that was given last is the next as well.
    pub(super) fn same_again(&mut self) {
        self.round.push(self.last);
    }

    /// The one that was given last is not to be dialled before `wait` has passed, and up to half of it more.
    pub(super) fn leave_alone(&mut self, wait: Duration) {
        self.all[self.last].free = Instant::now() + wait.mul_f64(self.stretch);
    }

    /// Whether each was tried since the round began.
    pub(super) fn all_tried(&self) -> bool {
        let now = Instant::now();
        self.round.iter().all(|place| self.all[*place].free > now)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn addresses(count: usize) -> Addresses {
        let endpoints: Vec<Endpoint> =
            (1..=count).map(|port| format!("http://127.0.0.1:{port}").parse().unwrap()).collect();
        Addresses { stretch: 1.0, ..Addresses::new(&endpoints) }
    }

    #[tokio::test(start_paused = true)]
    async fn a_round_has_each_once_and_not_always_in_the_same_order() {
        let mut addresses = addresses(3);
        let mut orders = BTreeSet::new();
        for _ in 0..100 {
            let mut round = Vec::new();
            while round.is_empty() || !addresses.all_tried() {
                round.push(addresses.next().0.to_string());
            }
            orders.insert(round.clone());
            round.sort();
            round.dedup();
            assert_eq!(round.len(), 3);
        }
        assert!(orders.len() > 1, "{orders:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_said_goodbye_is_dialled_again_only_when_its_time_has_come() {
        let mut addresses = addresses(3);
        let gone = addresses.next().0;
        addresses.leave_alone(Duration::from_secs(2));
        for _ in 0..20 {
            let (other, free) = addresses.next();
            assert!(other != gone && free <= Instant::now());
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!((0..3).any(|_| addresses.next().0 == gone));
    }

    #[tokio::test(start_paused = true)]
    async fn if_none_is_free_the_first_that_will_be_is_waited_for() {
        let mut addresses = addresses(2);
        addresses.next();
        addresses.leave_alone(Duration::from_secs(9));
        let soon = addresses.next().0;
        addresses.leave_alone(Duration::from_secs(3));
        assert!(addresses.all_tried());
        assert_eq!(addresses.next(), (soon, Instant::now() + Duration::from_secs(3)));
    }

    #[tokio::test(start_paused = true)]
    async fn of_two_that_said_goodbye_the_first_to_say_so_is_dialled_first() {
        const AWAY: Duration = Duration::from_secs(2);
        let mut waits = BTreeSet::new();
        for _ in 0..100 {
            let stretch = Addresses::new(&[]).stretch;
            let mut addresses = Addresses { stretch, ..addresses(2) };
            let (began, first) = (Instant::now(), addresses.next().0);
            addresses.leave_alone(AWAY);
            let second = addresses.next().0;
            tokio::time::advance(Duration::from_millis(1)).await;
            addresses.leave_alone(AWAY);
            let (next, free) = addresses.next();
            assert!(next == first && next != second && free >= began + AWAY);
            waits.insert(free - began);
        }
        assert!(waits.len() > 1, "all agents would come back together");
    }

    #[tokio::test(start_paused = true)]
    async fn the_same_can_be_asked_for_again() {
        let mut addresses = addresses(5);
        let first = addresses.next().0;
        addresses.same_again();
        assert_eq!(addresses.next().0, first);
    }
}
