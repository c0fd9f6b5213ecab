//! Who was told a while ago and is left alone for now.

use std::{borrow::Borrow, collections::HashMap, hash::Hash, time::Duration};

use crate::clock::Moment;

/// Pauses by key, such as a cgroup's path. Holds no more keys than were told within one pause.
#[derive(Debug)]
pub struct Cooldown<K>(HashMap<K, Duration>);

impl<K> Default for Cooldown<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Eq + Hash> Cooldown<K> {
    pub fn contains<Q: Eq + Hash + ?Sized>(&self, key: &Q, now: Moment) -> bool
    where
        K: Borrow<Q>,
    {
        self.0.get(key).is_some_and(|until| now.boot < *until)
    }

    /// Leaves `key` alone for `pause`, and forgets those whose time has come.
    pub fn insert(&mut self, key: K, now: Moment, pause: Duration) {
        self.0.retain(|_, until| now.boot < *until);
        self.0.insert(key, now.boot + pause);
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
        assert_eq!(cooldown.0.len(), 1);
    }
}
