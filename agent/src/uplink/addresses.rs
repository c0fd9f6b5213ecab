//! Which aggregator is dialled next.
//!
//! All that are configured are equal. They are tried in rounds, each in a random order, so that a fleet spreads over
//! them. One that said not to come again before a time is left out until then; if all of them did, the one that is free
//! first is waited for.

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
        Self { all, round: Vec::new(), last: 0 }
    }

    /// The next to dial, and from when on it may be.
    pub(super) fn next(&mut self) -> (Endpoint, Instant) {
        let now = Instant::now();
        if self.round.is_empty() {
            self.round = (0..self.all.len()).collect();
            fastrand::shuffle(&mut self.round);
        }
        let first_free = || (0..self.all.len()).min_by_key(|place| self.all[*place].free.max(now));
        let in_turn = self.round.iter().rposition(|place| self.all[*place].free <= now);
        self.last = match in_turn {
            Some(turn) => self.round.remove(turn),
            None => first_free().unwrap_or_default(),
        };
        let Address { endpoint, free } = &self.all[self.last];
        (endpoint.clone(), *free)
    }

    /// The one that was given last is the next as well.
    pub(super) fn same_again(&mut self) {
        self.round.push(self.last);
    }

    /// The one that was given last is not to be dialled before `wait` has passed.
    pub(super) fn leave_alone(&mut self, wait: Duration) {
        self.all[self.last].free = Instant::now() + wait;
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
        Addresses::new(&endpoints)
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
    async fn the_same_can_be_asked_for_again() {
        let mut addresses = addresses(5);
        let first = addresses.next().0;
        addresses.same_again();
        assert_eq!(addresses.next().0, first);
    }
}
