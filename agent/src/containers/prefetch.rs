//! Has containers described before anybody needs to know: when they begin, and again for as long as nobody says what
//! they are.
//!
//! Rules to include and exclude go by what is known. A container that begins while its runtime does not answer, as when
//! a node starts, would never be included by its namespace, so it is asked about again, later each time, until it is
//! known or gone. The queue and those who wait are bounded; what finds no room is counted, and waits until it triggers.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashSet},
    time::Duration,
};

use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};

use super::Containers;

/// Containers that wait to be asked about, and as many again that wait to be asked about again.
pub(super) const ROOM: usize = 4096;
/// How long a daemon may take where nobody waits: it may be slow to tell of a container that it is just starting.
const PATIENCE: Duration = Duration::from_secs(10);
/// When it is asked again: doubled each time.
const PAUSE: Duration = Duration::from_secs(2);
const PAUSE_AT_MOST: Duration = Duration::from_secs(600);

/// Cgroups whose owners nobody has described.
#[derive(Default)]
struct Waiting {
    /// When, how often before, and which.
    due: BinaryHeap<Reverse<(Instant, u32, String)>>,
    paths: HashSet<String>,
}

/// Until all who could send are gone.
pub(super) async fn run(containers: Containers, mut new: mpsc::Receiver<String>) {
    let mut waiting = Waiting::default();
    loop {
        let (path, asked) = tokio::select! {
            path = new.recv() => match path {
                // Several who watch tell of the same cgroup.
                Some(path) if waiting.paths.contains(&path) => continue,
                Some(path) => (path, 0),
                None => return,
            },
            again = waiting.next() => again,
        };
        if !containers.ask(&path, PATIENCE).await && !waiting.insert(path, asked) {
            containers.shared.metrics.not_prefetched.inc();
        }
    }
}

impl Waiting {
    /// Whether there was room.
    fn insert(&mut self, path: String, asked: u32) -> bool {
        if self.paths.len() >= ROOM {
            return false;
        }
        let pause = (PAUSE * 2_u32.saturating_pow(asked)).min(PAUSE_AT_MOST);
        self.paths.insert(path.clone());
        self.due.push(Reverse((Instant::now() + pause, asked.saturating_add(1), path)));
        true
    }

    async fn next(&mut self) -> (String, u32) {
        let Some(Reverse((due, ..))) = self.due.peek() else { return std::future::pending().await };
        sleep_until(*due).await;
        let Some(Reverse((_, asked, path))) = self.due.pop() else { return std::future::pending().await };
        self.paths.remove(&path);
        (path, asked)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::future::BoxFuture;

    use super::*;
    use crate::{
        cgroup::Hierarchies,
        containers::{Answer, Claim, Description, Filter, Metrics, Runtime},
    };

    /// Answers the third time that it is asked.
    #[derive(Default)]
    struct Late(AtomicUsize);

    impl Runtime for Late {
        fn name(&self) -> &'static str {
            "late"
        }

        fn claim<'a>(&self, path: &'a str) -> Option<Claim<'a>> {
            Some(Claim { id: path, ..Claim::of(path) })
        }

        fn describe<'a>(&'a self, _: Claim<'a>, _: Duration) -> BoxFuture<'a, Answer> {
            let answer = match self.0.fetch_add(1, Ordering::Relaxed) {
                0 => Answer::Unanswered,
                1 => Answer::Unknown,
                _ => Answer::Known(Description { namespace: "shop".into(), ..Default::default() }),
            };
            Box::pin(std::future::ready(answer))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_container_that_began_while_nobody_answered_is_included_by_its_namespace_later() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("a")).unwrap();
        let hierarchies = Hierarchies { cpuacct: Some(root.path().into()), ..Hierarchies::default() };
        let shop = Filter::new(&[toml::from_str("namespace = 'shop'").unwrap()], &[]).unwrap();
        let metrics = Metrics::new().unwrap();
        let (containers, prefetching) = Containers::new(vec![Box::new(Late::default())], shop, &hierarchies, metrics);
        containers.prefetch("/a");
        let selected = async {
            while !containers.selects("/a", &Filter::default()) {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        };
        tokio::select! {
            () = prefetching => unreachable!("it goes on for as long as somebody may send"),
            selected = tokio::time::timeout(PAUSE * 4, selected) => assert!(selected.is_ok(), "it was not asked again"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_is_asked_again_later_each_time() {
        let mut waiting = Waiting::default();
        waiting.insert("a".into(), 0);
        waiting.insert("b".into(), 0);
        for pause in [2, 4, 8, 16, 32, 64, 128, 256, 512, 600, 600] {
            let begin = Instant::now();
            for name in ["a", "b"] {
                let (path, asked) = waiting.next().await;
                assert_eq!(path, name);
                assert_eq!(begin.elapsed(), Duration::from_secs(pause));
                waiting.insert(path, asked);
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn those_who_wait_are_bounded() {
        let mut waiting = Waiting::default();
        let inserted = (0..ROOM + 10).filter(|n| waiting.insert(n.to_string(), 0)).count();
        assert_eq!((inserted, waiting.due.len()), (ROOM, ROOM));
        let (path, _) = waiting.next().await;
        assert!(!waiting.paths.contains(&path) && waiting.insert(path, 1));
    }
}
