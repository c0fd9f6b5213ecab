//! What runtimes said, by the id that they were asked for.
//!
//! An entry holds for one life of the cgroup that bore the id: another directory under the same id is another life, of
//! a container that was started again or of another one, so what was said before is forgotten. A runtime's word that it
//! knows nothing is kept for a while too. At the cap the oldest entry goes; if it is needed again, it is asked for again.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

use super::Description;

/// Entries kept.
const CAP: usize = 4096;
/// How long a description is taken for right: names and labels of a living container may change.
const FRESH: Duration = Duration::from_secs(600);
/// How long a runtime's "not known" is: it comes to know a sandbox a moment after its cgroup is there.
const UNKNOWN_FRESH: Duration = Duration::from_secs(1);

/// The id of a cgroup directory; `None` if the cgroup is gone, or was.
pub(super) type Life = Option<u64>;

#[derive(Default)]
pub(super) struct Cache {
    entries: HashMap<String, Entry>,
    order: VecDeque<String>,
}

struct Entry {
    life: Life,
    at: Instant,
    /// `None`: nobody knows it.
    told: Option<Arc<Description>>,
}

impl Cache {
    pub(super) fn get(&self, id: &str) -> Option<Arc<Description>> {
        self.entries.get(id)?.told.clone()
    }

    /// Whether a runtime is to be asked, the cgroup being in this life now. Forgets what was said in another.
    pub(super) fn must_ask(&mut self, id: &str, life: Life) -> bool {
        let Some(entry) = self.entries.get_mut(id) else { return true };
        // Nobody knows more of a cgroup that is gone.
        if life.is_none() && entry.told.is_some() {
            return false;
        }
        if life.is_some() && entry.life.is_some() && entry.life != life {
            entry.told = None;
            return true;
        }
        let fresh = if entry.told.is_some() { FRESH } else { UNKNOWN_FRESH };
        entry.at.elapsed() >= fresh
    }

    /// Whether another entry had to go.
    pub(super) fn insert(&mut self, id: &str, life: Life, told: Option<Description>) -> bool {
        let told = told.map(Arc::new);
        match self.entries.get_mut(id) {
            // A runtime forgets a container that has ended sooner than we do.
            Some(entry) if told.is_none() && entry.told.is_some() => entry.at = Instant::now(),
            Some(entry) => *entry = Entry { life, at: Instant::now(), told },
            None => {
                self.entries.insert(id.to_owned(), Entry { life, at: Instant::now(), told });
                self.order.push_back(id.to_owned());
            }
        }
        if self.order.len() <= CAP {
            return false;
        }
        if let Some(oldest) = self.order.pop_front() {
            self.entries.remove(&oldest);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> Option<Description> {
        Some(Description { name: name.into(), ..Default::default() })
    }

    fn name(cache: &Cache, id: &str) -> Option<String> {
        Some(cache.get(id)?.name.clone())
    }

    #[tokio::test(start_paused = true)]
    async fn a_description_holds_for_one_life_of_its_cgroup() {
        let mut cache = Cache::default();
        assert!(cache.must_ask("a", Some(1)));
        cache.insert("a", Some(1), named("first"));
        assert!(!cache.must_ask("a", Some(1)));
        // Gone: what was known is all that there is.
        assert!(!cache.must_ask("a", None));
        assert_eq!(name(&cache, "a").as_deref(), Some("first"));
        // The id was given again: nothing of the first is told of the second, whether or not somebody answers.
        assert!(cache.must_ask("a", Some(2)));
        assert_eq!(name(&cache, "a"), None);
        cache.insert("a", Some(2), named("second"));
        assert_eq!(name(&cache, "a").as_deref(), Some("second"));
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_knows_is_asked_again_after_a_while() {
        let mut cache = Cache::default();
        cache.insert("a", Some(1), None);
        assert!(!cache.must_ask("a", Some(1)));
        tokio::time::advance(UNKNOWN_FRESH).await;
        assert!(cache.must_ask("a", Some(1)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_description_is_renewed_and_outlives_the_runtimes_memory() {
        let mut cache = Cache::default();
        cache.insert("a", Some(1), named("before"));
        tokio::time::advance(FRESH).await;
        assert!(cache.must_ask("a", Some(1)));
        cache.insert("a", Some(1), None);
        assert_eq!(name(&cache, "a").as_deref(), Some("before"));
        assert!(!cache.must_ask("a", Some(1)));
    }

    #[tokio::test(start_paused = true)]
    async fn the_cache_is_bounded_and_the_oldest_goes() {
        let mut cache = Cache::default();
        let gone = (0..CAP + 10).filter(|n| cache.insert(&n.to_string(), None, named("x"))).count();
        assert_eq!((gone, cache.entries.len(), cache.order.len()), (10, CAP, CAP));
        assert!(cache.get("0").is_none() && cache.get("10").is_some());
    }
}
