//! Whom a cgroup belongs to: a container of a runtime, a systemd unit, or nobody but itself.
//!
//! A runtime is one file: it [claims](Runtime::claim) cgroups by their path, which costs nothing, and
//! [describes](Runtime::describe) what it claimed, which may ask a daemon. What is below a claimed cgroup belongs to
//! the same owner, but for the pods of a node that is itself a container. Descriptions are cached by id and asked for
//! when a container begins, or else with a deadline: a daemon that is missing, hangs or lies delays no trigger by more.
//! A container that is gone is told with what was known of it.

mod cache;
mod claim;
pub mod cri;
mod daemon;
mod description;
mod docker;
mod engine;
mod filter;
mod kubernetes;
mod metrics;
mod podman;
mod prefetch;
mod runtime;
mod settings;
mod systemd;
mod workloads;

use std::{
    path::PathBuf,
    sync::{Arc, LazyLock},
    time::Duration,
};

use futures_util::{future::BoxFuture, stream::FuturesUnordered};
use galen_proto::v1;
use parking_lot::Mutex;
use tokio::sync::mpsc;

pub use claim::{Claim, Qos};
pub use daemon::Daemon;
pub use description::Description;
pub use docker::Docker;
pub use filter::{Facts, Filter, InvalidRule, Rule};
pub use kubernetes::Kubernetes;
pub use metrics::{Metrics, Outcome};
pub use podman::Podman;
pub use runtime::{Answer, Runtime};
pub use settings::{Invalid, Raw, Settings};
pub use systemd::Systemd;
pub use workloads::{Change, Workloads};

use self::{
    cache::{Cache, Life},
    claim::{container_id, is_id, outermost, runtime_of},
    runtime::{ask, first_known},
};
use crate::cgroup::{self, Hierarchies};

/// Longest wait for an answer: a trigger is held back by no more.
const DEADLINE: Duration = Duration::from_secs(1);
/// Longest answer of a daemon.
const MAX_ANSWER: usize = 1 << 20;
/// Name of the runtime of cgroups that nobody claims.
const PLAIN: &str = "cgroup";
/// Cgroups that only group others: nobody's workload, so never blamed.
const GROUPS: [&str; 3] = ["/docker", "/libpod_parent", "/"];
/// Of what nobody has described.
static NOTHING: LazyLock<Description> = LazyLock::new(Description::default);

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
    filter: Filter,
    /// Where the directory of a cgroup tells its life: the first that has it.
    roots: Vec<PathBuf>,
    cache: Mutex<Cache>,
    wanted: mpsc::Sender<String>,
    metrics: Metrics,
}

impl Containers {
    /// The first runtime that claims a cgroup has it; others that claim the same may describe it. The task
    /// [prefetches](Self::prefetch) until it is dropped.
    pub fn new(
        runtimes: Vec<Box<dyn Runtime>>,
        filter: Filter,
        hierarchies: &Hierarchies,
        metrics: Metrics,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (wanted, queue) = mpsc::channel(prefetch::ROOM);
        let roots = hierarchies.cpu_usage().map(|(_, root)| root.to_owned()).collect();
        let shared = Shared { runtimes, filter, roots, cache: Mutex::default(), wanted, metrics };
        let containers = Self { shared: Arc::new(shared) };
        let prefetching = prefetch::run(containers.clone(), queue);
        (containers, prefetching)
    }

    /// Containers before units: a container's cgroup may lie in the scope of a unit, and may hold units of its own.
    /// Pods before containers: a node of theirs may be one.
    pub fn shipped(
        settings: &Settings,
        hierarchies: &Hierarchies,
        metrics: Metrics,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let runtimes: Vec<Box<dyn Runtime>> = vec![
            Box::new(Kubernetes::new(&settings.cri_sockets, &metrics)),
            Box::new(Docker::new(&settings.docker_socket, &metrics)),
            Box::new(Podman::new(&settings.podman_socket, &metrics)),
            Box::new(Systemd),
        ];
        Self::new(runtimes, settings.filter.clone(), hierarchies, metrics)
    }

    pub fn metrics(&self) -> &Metrics {
        &self.shared.metrics
    }

    pub fn classify<'a>(&self, path: &'a str) -> Class<'a> {
        match self.claims(path).next() {
            Some((_, claim)) if claim.group => Class::Group,
            Some((_, claim)) => Class::Owned { cgroup: claim.cgroup },
            None if GROUPS.contains(&path) || path.ends_with(".slice") || kubernetes::leads_to_pods(path) => {
                Class::Group
            }
            None => Class::Plain,
        }
    }

    /// Whether `path` is a candidate itself.
    pub fn is_workload(&self, path: &str) -> bool {
        match self.classify(path) {
            Class::Group => false,
            Class::Owned { cgroup } => cgroup == path,
            Class::Plain => true,
        }
    }

    /// Whether a cgroup below `path` may be a candidate.
    pub fn has_candidates_below(&self, path: &str) -> bool {
        match self.claims(path).next() {
            None => true,
            Some((_, claim)) if claim.group => true,
            // The node of a cluster may be a container: only the way to its pods is looked at.
            Some((_, claim)) if !claim.id.is_empty() && claim.pod_uid.is_empty() => {
                path == claim.cgroup || kubernetes::leads_to_pods(path)
            }
            Some(_) => systemd::is_user_manager(path),
        }
    }

    /// Whether the owner of `path` is to be watched, by the filter of all tracers and by a tracer's `own`. By what is
    /// known now: a rule on what is not known does not match. The host always is; the sandbox of a pod never, which is
    /// nobody's workload.
    pub fn selects(&self, path: &str, own: &Filter) -> bool {
        self.judge(path, |facts| {
            let is_sandbox = facts.qos.is_some() && facts.name == cri::SANDBOX;
            !is_sandbox && self.shared.filter.selects(facts) && own.selects(facts)
        })
    }

    /// Whether events about the owner of `path` may be told, by the filter of all tracers.
    pub(crate) fn allows(&self, path: &str) -> bool {
        self.shared.filter.is_empty() || self.judge(path, |facts| self.shared.filter.selects(facts))
    }

    fn judge(&self, path: &str, judgement: impl FnOnce(&Facts) -> bool) -> bool {
        if matches!(path, "" | "/") {
            return true;
        }
        let (runtime, claim) = match self.claims(path).next() {
            Some((runtime, claim)) => (runtime.name(), claim),
            None => (PLAIN, Claim { name: path, ..Claim::of(path) }),
        };
        let described = self.shared.cache.lock().get(claim.key());
        judgement(&facts(runtime, &claim, described.as_deref().unwrap_or(&NOTHING)))
    }

    /// Has the owner of a new cgroup described while it lives, so that it is known if it is gone when it matters; again
    /// for as long as nobody says what it is.
    pub fn prefetch(&self, path: &str) {
        let asks = |claim: &Claim| !claim.key().is_empty() && !claim.group;
        if self.claims(path).next().is_some_and(|(_, claim)| asks(&claim))
            && self.shared.wanted.try_send(path.to_owned()).is_err()
        {
            self.shared.metrics.not_prefetched.inc();
        }
    }

    /// Whom `path` belongs to, from the path and from what is known already.
    pub fn known(&self, path: &str) -> v1::Container {
        let Some((runtime, claim)) = self.claims(path).next() else {
            return v1::Container {
                name: path.into(),
                runtime: PLAIN.into(),
                cgroup: path.into(),
                ..Default::default()
            };
        };
        let described = self.shared.cache.lock().get(claim.key());
        let facts = facts(runtime.name(), &claim, described.as_deref().unwrap_or(&NOTHING));
        let mut labels = facts.labels.clone();
        if !claim.pod_uid.is_empty() {
            labels.insert(cri::POD_UID.into(), claim.uid().into_owned());
        }
        v1::Container {
            id: claim.id.into(),
            // A pod that nobody describes has its uid.
            name: if facts.name.is_empty() { claim.uid().into_owned() } else { facts.name.into() },
            runtime: facts.runtime.into(),
            cgroup: claim.cgroup.into(),
            pod: facts.pod.into(),
            namespace: facts.namespace.into(),
            labels,
            qos: facts.qos.map(|qos| qos.as_str().to_owned()).unwrap_or_default(),
            image: facts.image.into(),
        }
    }

    /// As [`known`](Self::known), after asking the runtimes, if that is needed and one answers in time.
    pub async fn resolve(&self, path: &str) -> v1::Container {
        self.ask(path, DEADLINE).await;
        self.known(path)
    }

    /// Whether there is nothing more to ask: it is known, or gone, or nobody's.
    async fn ask(&self, path: &str, patience: Duration) -> bool {
        let Some((_, claim)) = self.claims(path).next().filter(|(_, claim)| !claim.key().is_empty()) else {
            return true;
        };
        let life = self.life(claim.cgroup);
        if self.shared.cache.lock().must_ask(claim.key(), life) {
            let answer = first_known(self.questions(claim.cgroup, path, patience)).await;
            self.keep(claim.key(), life, answer);
        }
        life.is_none() || self.shared.cache.lock().get(claim.key()).is_some()
    }

    /// To every runtime that claims the same cgroup.
    fn questions<'a>(
        &'a self,
        cgroup: &str,
        path: &'a str,
        patience: Duration,
    ) -> FuturesUnordered<BoxFuture<'a, Answer>> {
        let of_same = self.claims(path).filter(|(_, claim)| claim.cgroup == cgroup);
        of_same.map(|(runtime, claim)| ask(runtime, claim, patience)).collect()
    }

    fn keep(&self, key: &str, life: Life, answer: Answer) {
        let (told, left_out) = match answer {
            Answer::Known(description) => {
                let (description, left_out) = description.bounded();
                (Some(description), left_out)
            }
            Answer::Unknown => (None, 0),
            Answer::Absent | Answer::Unanswered => return,
        };
        self.shared.metrics.labels_left_out.inc_by(left_out);
        if self.shared.cache.lock().insert(key, life, told) {
            self.shared.metrics.forgotten.inc();
        }
    }

    fn claims<'a>(&self, path: &'a str) -> impl Iterator<Item = (&dyn Runtime, Claim<'a>)> {
        self.shared.runtimes.iter().filter_map(move |runtime| Some((runtime.as_ref(), runtime.claim(path)?)))
    }

    fn life(&self, path: &str) -> Life {
        self.shared.roots.iter().find_map(|root| cgroup::id(&cgroup::directory(root, path)).ok())
    }
}

/// What the path says, and over it what a runtime says.
fn facts<'a>(runtime: &'a str, claim: &Claim<'a>, described: &'a Description) -> Facts<'a> {
    let first = |texts: [&'a str; 3]| texts.into_iter().find(|text| !text.is_empty()).unwrap_or_default();
    Facts {
        cgroup: claim.cgroup,
        namespace: &described.namespace,
        pod: &described.pod,
        name: first([&described.name, claim.name, claim.id]),
        image: &described.image,
        runtime: first([&described.runtime, claim.runtime, runtime]),
        qos: claim.qos,
        labels: &described.labels,
    }
}

#[cfg(test)]
mod tests;
