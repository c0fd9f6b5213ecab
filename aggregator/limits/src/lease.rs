//! What a replica may spend: tokens that end.
//!
//! A lease is given for one version of the table and is worth nothing after its end, by a clock that never jumps; its end
//! is counted from before it was asked for. A new lease takes the place of the old one, so there is never more than one;
//! of the old one a single token stays, without which limits of few events a second would hardly let any pass.
//!
//! A tenth is kept for those who have had little of this lease: what is common takes the rest, and what is rare finds
//! something there in the same moment in which a storm begins, before any share was computed.

use std::time::Duration;

use crate::KEPT;

/// Tokens until a time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lease {
    pub tokens: u64,
    /// The version of the table that it was asked for.
    pub epoch: u64,
    pub expires: Duration,
}

/// A lease that is being spent.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Pool {
    lease: Lease,
    left: u64,
}

impl Pool {
    /// With another lease in the place of this one.
    pub(crate) fn renewed(&self, now: Duration, lease: Lease) -> Self {
        Self { lease, left: lease.tokens + self.left(now).min(1) }
    }

    /// Takes a token, for one of `groups` groups that has had `had` of this lease.
    pub(crate) fn take(&mut self, now: Duration, had: u64, groups: usize) -> bool {
        if now >= self.lease.expires {
            return false;
        }
        let kept = self.lease.tokens / KEPT;
        let little = (kept / (groups as u64).max(1)).max(1);
        let floor = if had < little { 0 } else { kept };
        let may = self.left > floor;
        if may {
            self.left -= 1;
        }
        may
    }

    /// At most so many are left.
    pub(crate) fn cut(&mut self, tokens: u64) {
        self.left = self.left.min(tokens);
    }

    pub(crate) fn left(&self, now: Duration) -> u64 {
        if now < self.lease.expires { self.left } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const END: Duration = Duration::from_secs(10);

    fn pool(tokens: u64) -> Pool {
        Pool::default().renewed(Duration::ZERO, Lease { tokens, epoch: 1, expires: END })
    }

    #[test]
    fn a_lease_is_worth_nothing_after_its_end() {
        let mut pool = pool(5);
        assert!(pool.take(END - Duration::from_nanos(1), 0, 1));
        assert!(!pool.take(END, 0, 1));
        assert_eq!((pool.left(END), pool.left(Duration::ZERO)), (0, 4));
    }

    #[test]
    fn what_is_common_leaves_a_tenth_to_what_is_rare() {
        let mut pool = pool(100);
        let common = (0..1000).take_while(|&had| pool.take(Duration::ZERO, had, 2)).count();
        assert_eq!(common, 90);
        let rare = (0..1000).take_while(|&had| pool.take(Duration::ZERO, had, 2)).count();
        assert_eq!(rare, 5, "and that leaves something to the next");
        assert!(pool.take(Duration::ZERO, 0, 3));
    }

    #[test]
    fn a_new_lease_takes_the_place_of_the_old_one() {
        let lease = Lease { tokens: 7, epoch: 2, expires: END * 2 };
        assert_eq!(pool(100).renewed(Duration::ZERO, lease).left(Duration::ZERO), 8);
        assert_eq!(pool(100).renewed(END, lease).left(END), 7, "an old one that has ended leaves nothing");
    }

    #[test]
    fn one_token_is_spent() {
        assert!(pool(1).take(Duration::ZERO, 0, 9));
        assert!(!pool(0).take(Duration::ZERO, 0, 9));
    }
}
