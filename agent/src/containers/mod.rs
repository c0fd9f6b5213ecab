//! Whom a cgroup belongs to: a container of a runtime, a systemd unit, or nobody but itself.
//!
//! A runtime is one file: it [claims](Runtime::claim) cgroups by their path, which costs nothing, and
//! [describes](Runtime::describe) what it claimed, which may ask a daemon. What is below a claimed cgroup belongs to
//! the same owner. Descriptions are cached by id, asked for with a deadline, and never on a detection path: a daemon
//! that is missing or hangs delays no trigger. A container that is gone is told with what was known of it.

mod docker;
mod systemd;
mod workloads;

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use futures_util::future::BoxFuture;
use galen_proto::v1;
use parking_lot::Mutex;
use tokio::sync::mpsc;

pub use docker::Docker;
pub use systemd::Systemd;
pub use workloads::{Change, Workloads};

use crate::cgroup::ancestry;

/// Longest wait for a runtime's description: a trigger is held back by no more.
const DEADLINE: Duration = Duration::from_secs(1);
/// Containers that wait to be described before anybody asks; what is over waits until somebody does.
const PREFETCH: usize = 256;
/// Descriptions kept; the oldest goes first.
const CACHE: usize = 4096;
/// Name of the runtime of cgroups that nobody claims.
const PLAIN: &str = "cgroup";
/// Cgroups that only group others: nobody's workload, so never blamed.
const GROUPS: [&str; 2] = ["/docker", "/"];

/// A container runtime, or whatever else owns cgroups.
pub trait Runtime: Send + Sync {
    /// As events name it.
    fn name(&self) -> &'static str;

    /// The owner of the cgroup `path`, if it is one of this runtime's, or lies in one.
    fn claim<'a>(&self, path: &'a str) -> Option<Claim<'a>>;

    /// What the runtime knows of what it claimed. `None` if there is nothing to know, or it cannot be had now.
    fn describe<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Option<Description>>;
}

/// A runtime's word on a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim<'a> {
    /// Cgroup of the owner: the path, or an ancestor of it.
    pub cgroup: &'a str,
    /// The runtime's id, or empty.
    pub id: &'a str,
    /// A name that needs no asking, or empty.
    pub name: &'a str,
}

/// What a runtime says of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Description {
    pub name: String,
    pub image: String,
    pub labels: HashMap<String, String>,
}

/// What a cgroup is to a detector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class<'a> {
    /// It groups others: not a candidate, its children may be.
    Group,
    /// Of an owner, whose cgroup this is; if that is the path itself, it is the candidate for all below it.
    Owned { cgroup: &'a str },
    /// A candidate of its own, and so are its children.
    Plain,
}

/// All runtimes, and what they said. Clones share the cache.
#[derive(Clone)]
pub struct Containers {
    shared: Arc<Shared>,
}

struct Shared {
    runtimes: Vec<Box<dyn Runtime>>,
    cache: Mutex<Cache>,
    wanted: mpsc::Sender<String>,
}

#[derive(Default)]
struct Cache {
    described: HashMap<String, Description>,
    order: VecDeque<String>,
}

impl Containers {
    /// The first runtime that claims a cgroup has it. The task [prefetches](Self::prefetch) until it is dropped.
    pub fn new(runtimes: Vec<Box<dyn Runtime>>) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (wanted, mut queue) = mpsc::channel::<String>(PREFETCH);
        let containers = Self { shared: Arc::new(Shared { runtimes, cache: Mutex::default(), wanted }) };
        let prefetching = containers.clone();
        let task = async move {
            while let Some(path) = queue.recv().await {
                prefetching.resolve(&path).await;
            }
        };
        (containers, task)
    }

    /// Containers before units: a container's cgroup may lie in the scope of a unit, and may hold units of its own.
    pub fn shipped(docker_socket: &std::path::Path) -> (Self, impl Future<Output = ()> + Send + 'static) {
        Self::new(vec![Box::new(Docker::new(docker_socket)), Box::new(Systemd)])
    }

    pub fn classify<'a>(&self, path: &'a str) -> Class<'a> {
        if let Some((_, claim)) = self.claim(path) {
            return Class::Owned { cgroup: claim.cgroup };
        }
        let group = GROUPS.contains(&path)
            || path.ends_with(".slice")
            || path.split('/').nth(1).is_some_and(|top| top.starts_with("kubepods"));
        if group { Class::Group } else { Class::Plain }
    }

    /// Whether a cgroup below `path` may be a candidate.
    pub fn has_candidates_below(&self, path: &str) -> bool {
        !matches!(self.classify(path), Class::Owned { .. }) || systemd::is_user_manager(path)
    }

    /// Has the owner of a new cgroup described while it lives, so that it is known if it is gone when it matters.
    pub fn prefetch(&self, path: &str) {
        if self.claim(path).is_some_and(|(_, claim)| !claim.id.is_empty()) {
            let _ = self.shared.wanted.try_send(path.to_owned());
        }
    }

    /// Whom `path` belongs to, from the path and from what is known already.
    pub fn known(&self, path: &str) -> v1::Container {
        let Some((runtime, claim)) = self.claim(path) else {
            return v1::Container {
                name: path.into(),
                runtime: PLAIN.into(),
                cgroup: path.into(),
                ..Default::default()
            };
        };
        let described = self.shared.cache.lock().described.get(claim.id).cloned().unwrap_or_default();
        let name = [described.name.as_str(), claim.name, claim.id].into_iter().find(|name| !name.is_empty());
        v1::Container {
            id: claim.id.into(),
            name: name.unwrap_or(claim.cgroup).into(),
            runtime: runtime.name().into(),
            cgroup: claim.cgroup.into(),
            labels: described.labels,
            image: described.image,
            ..Default::default()
        }
    }

    /// As [`known`](Self::known), after asking the runtime, if it has not answered before and answers in time.
    pub async fn resolve(&self, path: &str) -> v1::Container {
        if let Some((runtime, claim)) = self.claim(path) {
            let cached = self.shared.cache.lock().described.contains_key(claim.id);
            if !cached
                && !claim.id.is_empty()
                && let Ok(Some(description)) = tokio::time::timeout(DEADLINE, runtime.describe(claim.id)).await
            {
                self.shared.cache.lock().insert(claim.id, description);
            }
        }
        self.known(path)
    }

    fn claim<'a>(&self, path: &'a str) -> Option<(&dyn Runtime, Claim<'a>)> {
        self.shared.runtimes.iter().find_map(|runtime| Some((runtime.as_ref(), runtime.claim(path)?)))
    }
}

impl Cache {
    fn insert(&mut self, id: &str, description: Description) {
        if self.described.insert(id.to_owned(), description).is_none() {
            self.order.push_back(id.to_owned());
        }
        if self.order.len() > CACHE
            && let Some(oldest) = self.order.pop_front()
        {
            self.described.remove(&oldest);
        }
    }
}

/// The outermost cgroup of `path`, below the root, whose last component `is_owner` says yes to.
fn outermost<'a>(path: &'a str, is_owner: impl Fn(&'a str) -> bool) -> Option<&'a str> {
    let owners = ancestry(path).filter(|path| path.rsplit('/').next().is_some_and(&is_owner));
    owners.last()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "4f1c0a3b5d6e7f8091a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f708";

    fn containers() -> Containers {
        Containers::shipped("/nonexistent/docker.sock".as_ref()).0
    }

    #[test]
    fn nested_cgroups_belong_to_their_container() {
        for root in [format!("/docker/{ID}"), format!("/system.slice/docker-{ID}.scope"), format!("/ci/job-1/{ID}")] {
            for path in [root.clone(), format!("{root}/init.scope"), format!("{root}/docker/{ID}")] {
                assert_eq!(containers().classify(&path), Class::Owned { cgroup: &root }, "{path}");
                let known = containers().known(&path);
                assert_eq!((known.id.as_str(), known.runtime.as_str(), &known.cgroup), (ID, "docker", &root));
            }
        }
    }

    #[test]
    fn groups_are_no_candidates_and_plain_cgroups_are() {
        let containers = containers();
        for group in
            ["/", "/docker", "/system.slice", "/user.slice/user-0.slice", "/kubepods/burstable", "/kubepods.slice"]
        {
            assert_eq!(containers.classify(group), Class::Group, "{group}");
        }
        for plain in ["/batch", "/batch/job", "/docker/not-an-id"] {
            assert_eq!(containers.classify(plain), Class::Plain, "{plain}");
        }
    }

    #[test]
    fn a_plain_cgroup_is_known_by_its_path() {
        let container = containers().known("/batch/job");
        assert_eq!((container.name.as_str(), container.runtime.as_str()), ("/batch/job", "cgroup"));
    }

    #[tokio::test]
    async fn a_container_whose_runtime_does_not_answer_is_known_by_its_path() {
        let path = format!("/docker/{ID}/nested");
        let container = containers().resolve(&path).await;
        assert_eq!((container.id.as_str(), container.runtime.as_str()), (ID, "docker"));
        assert_eq!(container.cgroup, format!("/docker/{ID}"));
        assert_eq!(container.name, ID);
    }

    struct Hanging;

    impl Runtime for Hanging {
        fn name(&self) -> &'static str {
            "hanging"
        }

        fn claim<'a>(&self, path: &'a str) -> Option<Claim<'a>> {
            Some(Claim { cgroup: path, id: path, name: "" })
        }

        fn describe<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Option<Description>> {
            Box::pin(std::future::pending())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_runtime_that_hangs_is_waited_for_no_longer_than_the_deadline() {
        let (containers, _task) = Containers::new(vec![Box::new(Hanging)]);
        assert_eq!(containers.resolve("/a").await.runtime, "hanging");
    }

    #[test]
    fn the_cache_is_bounded() {
        let mut cache = Cache::default();
        for n in 0..CACHE + 10 {
            cache.insert(&n.to_string(), Description::default());
        }
        assert_eq!((cache.described.len(), cache.order.len()), (CACHE, CACHE));
        assert!(!cache.described.contains_key("0"));
    }
}
