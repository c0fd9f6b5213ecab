//! Who was told a while ago and is left alone for now.

use std::{borrow::Borrow, collections::HashMap, hash::Hash, time::Duration};

use crate::clock::Moment;

/// Pauses by key, such as a cgroup's path. Holds no more keys than were told within one pause.
#[derive(Debug)]
pub struct Cooldown<K> {
    until: HashMap<K, Duration>,
    swept: Duration,
}

impl<K> Default for Cooldown<K> {
    fn default() -> Self {
        Self { until: HashMap::new(), swept: Duration::ZERO }
    }
}

impl<K: Eq + Hash> Cooldown<K> {
    pub fn contains<Q: Eq + Hash + ?Sized>(&self, key: &Q, now: Moment) -> bool
    where
        K: Borrow<Q>,
    {
        self.until.get(key).is_some_and(|until| now.boot < *until)
    }

    /// As [`contains`](Self::contains), asked because `key` meets its rule again: what goes on is told once, so the pause
    /// does not end before the rule was not met for `lull`.
    pub fn goes_on<Q: Eq + Hash + ?Sized>(&mut self, key: &Q, now: Moment, lull: Duration) -> bool
    where
        K: Borrow<Q>,
    {
        let Some(until) = self.until.get_mut(key).filter(|until| now.boot < **until) else { return false };
        *until = (*until).max(now.boot + lull);
        true
    }

    /// Leaves `key` alone for `pause`, if not for longer already, and forgets those whose time has come.
    pub fn insert(&mut self, key: K, now: Moment, pause: Duration) {
        // Once a tick, however many are told in it.
        if self.swept != now.boot {
            self.swept = now.boot;
            self.until.retain(|_, until| now.boot < *until);
        }
        let until = self.until.entry(key).or_default();
        *until = (*until).max(now.boot + pause);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment { boot: Duration::from_secs(seconds), unix_nanos: 0 }
    }

    #[test]
    fn a_key_is_left_alone_for_its_pause_and_forgotten_after() {
        let mut cooldown = Cooldown::<String>::default();
        cooldown.insert("/a".into(), at(10), Duration::from_secs(5));
        assert!(cooldown.contains("/a", at(14)) && !cooldown.contains("/b", at(14)));
        assert!(!cooldown.contains("/a", at(15)));
        cooldown.insert("/b".into(), at(15), Duration::from_secs(5));
        assert_eq!(cooldown.until.len(), 1);
    }

    #[test]
    fn what_goes_on_is_left_alone_until_it_was_over_for_the_lull() {
        let (mut cooldown, lull) = (Cooldown::<()>::default(), Duration::from_secs(3));
        assert!(!cooldown.goes_on(&(), at(10), lull));
        cooldown.insert((), at(10), Duration::from_secs(1));
        assert!(!cooldown.goes_on(&(), at(11), lull));
        cooldown.insert((), at(11), Duration::from_secs(4));
        cooldown.insert((), at(11), Duration::from_secs(1));
        for second in [12, 13, 14, 16, 17] {
            assert!(cooldown.goes_on(&(), at(second), lull), "{second}");
        }
        assert!(!cooldown.goes_on(&(), at(20), lull));
        // A long pause is not made longer by what happens early in it.
        cooldown.insert((), at(30), Duration::from_secs(60));
        assert!(
            cooldown.goes_on(&(), at(31), lull) && cooldown.contains(&(), at(89)) && !cooldown.contains(&(), at(90))
        );
    }
}
