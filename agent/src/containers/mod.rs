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
mod docker;
mod engine;
mod filter;
mod kubernetes;
mod metrics;
mod podman;
mod settings;
mod systemd;
mod workloads;

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, LazyLock},
    time::Duration,
};

use futures_util::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use galen_proto::v1;
use parking_lot::Mutex;
use tokio::sync::mpsc;

pub use claim::{Claim, Qos};
pub use daemon::Daemon;
pub use docker::Docker;
pub use filter::{Facts, Filter, InvalidRule, Rule};
pub use kubernetes::Kubernetes;
pub use metrics::{Metrics, Outcome};
pub use podman::Podman;
pub use settings::{Invalid, Raw, Settings};
pub use systemd::Systemd;
pub use workloads::{Change, Workloads};

use self::{
    cache::{Cache, Life},
    claim::{container_id, is_id, outermost, runtime_of},
};
use crate::cgroup::{self, Hierarchies};

/// Longest wait for an answer: a trigger is held back by no more.
const DEADLINE: Duration = Duration::from_secs(1);
/// The same where nobody waits: a daemon may be slow to tell of a container that it is just starting.
const IN_ADVANCE: Duration = Duration::from_secs(10);
/// Containers that wait to be described before anybody asks; what is over waits until somebody does.
const PREFETCH: usize = 4096;
/// Longest answer of a daemon.
const MAX_ANSWER: usize = 1 << 20;
/// Labels that are kept of a container, in bytes: the first by name.
const MAX_LABELS: usize = 8 << 10;
/// Longest text that is kept of anything else.
const MAX_TEXT: usize = 1 << 10;
/// Name of the runtime of cgroups that nobody claims.
const PLAIN: &str = "cgroup";
/// Cgroups that only group others: nobody's workload, so never blamed.
const GROUPS: [&str; 3] = ["/docker", "/libpod_parent", "/"];
/// What Kubernetes keeps of a pod in the labels of its containers.
const POD_NAME: &str = "io.kubernetes.pod.name";
const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";

/// Of what nobody has described.
static NOTHING: LazyLock<Description> = LazyLock::new(Description::default);

/// A container runtime, or whatever else owns cgroups.
pub trait Runtime: Send + Sync {
    /// As events name it, unless the path or the daemon says better.
    fn name(&self) -> &'static str;

    /// The owner of the cgroup `path`, if it is one of this runtime's, or lies in one.
    fn claim<'a>(&self, path: &'a str) -> Option<Claim<'a>>;

    /// What the runtime knows of what it claimed, if it says so soon.
    fn describe<'a>(&'a self, claim: Claim<'a>, patience: Duration) -> BoxFuture<'a, Answer>;
}

/// What a runtime says of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Description {
    pub name: String,
    pub image: String,
    pub pod: String,
    pub namespace: String,
    pub labels: HashMap<String, String>,
    /// What the runtime calls itself; empty if it did not say.
    pub runtime: String,
}

/// What came of asking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    Known(Description),
    /// The daemon knows no such container.
    Unknown,
    /// There is no daemon, or nothing to ask.
    Absent,
    /// The daemon failed, or is left alone for a while because it did.
    Unanswered,
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
        let (wanted, mut queue) = mpsc::channel::<String>(PREFETCH);
        let roots = hierarchies.cpu_usage().map(|(_, root)| root.to_owned()).collect();
        let shared = Shared { runtimes, filter, roots, cache: Mutex::default(), wanted, metrics };
        let containers = Self { shared: Arc::new(shared) };
        let prefetching = containers.clone();
        let task = async move {
            while let Some(path) = queue.recv().await {
                prefetching.ask(&path, IN_ADVANCE).await;
            }
        };
        (containers, task)
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

    /// Whether events about the owner of `path` are wanted, by the filter of all tracers and by a tracer's `own`. By
    /// what is known now: a rule on what is not known does not match. The host always is.
    pub fn selects(&self, path: &str, own: &Filter) -> bool {
        let general = &self.shared.filter;
        if matches!(path, "" | "/") || (general.is_empty() && own.is_empty()) {
            return true;
        }
        let (runtime, claim) = match self.claims(path).next() {
            Some((runtime, claim)) => (runtime.name(), claim),
            None => (PLAIN, Claim { name: path, ..Claim::of(path) }),
        };
        let described = self.shared.cache.lock().get(claim.key());
        let facts = facts(runtime, &claim, described.as_deref().unwrap_or(&NOTHING));
        general.selects(&facts) && own.selects(&facts)
    }

    /// Has the owner of a new cgroup described while it lives, so that it is known if it is gone when it matters.
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

    async fn ask(&self, path: &str, patience: Duration) {
        let Some((_, claim)) = self.claims(path).next().filter(|(_, claim)| !claim.key().is_empty()) else { return };
        let life = self.life(claim.cgroup);
        if self.shared.cache.lock().must_ask(claim.key(), life) {
            let answer = first_known(self.questions(claim.cgroup, path, patience)).await;
            self.keep(claim.key(), life, answer);
        }
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

impl Description {
    /// What of it is kept, and how many labels are not.
    fn bounded(mut self) -> (Self, u64) {
        for text in [&mut self.name, &mut self.image, &mut self.pod, &mut self.namespace, &mut self.runtime] {
            cut(text);
        }
        // As Kubernetes has it where another runtime does the work for it.
        for (field, label) in [(&mut self.pod, POD_NAME), (&mut self.namespace, POD_NAMESPACE)] {
            if field.is_empty() {
                field.clone_from(self.labels.get(label).unwrap_or(&String::new()));
                cut(field);
            }
        }
        let mut labels: Vec<_> = std::mem::take(&mut self.labels).into_iter().collect();
        labels.sort_unstable();
        let (all, mut room) = (labels.len(), MAX_LABELS);
        self.labels = labels
            .into_iter()
            .map_while(|(key, value)| {
                room = room.checked_sub(key.len() + value.len())?;
                Some((key, value))
            })
            .collect();
        let left_out = all - self.labels.len();
        (self, left_out as u64)
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

/// As the runtime answers, with its name where that says more than the path.
fn ask<'a>(runtime: &'a dyn Runtime, claim: Claim<'a>, patience: Duration) -> BoxFuture<'a, Answer> {
    Box::pin(async move {
        let mut answer = runtime.describe(claim, patience).await;
        if let Answer::Known(description) = &mut answer
            && description.runtime.is_empty()
            && claim.runtime.is_empty()
        {
            description.runtime = runtime.name().into();
        }
        answer
    })
}

/// The first that is known; otherwise "unknown" only if all who were there said so.
async fn first_known(mut asked: FuturesUnordered<BoxFuture<'_, Answer>>) -> Answer {
    let mut best = Answer::Absent;
    while let Some(answer) = asked.next().await {
        match (&answer, &best) {
            (Answer::Known(_), _) => return answer,
            (Answer::Unanswered, _) | (Answer::Unknown, Answer::Absent) => best = answer,
            _ => {}
        }
    }
    best
}

fn cut(text: &mut String) {
    if text.len() > MAX_TEXT {
        text.truncate(text.floor_char_boundary(MAX_TEXT));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "4f1c0a3b5d6e7f8091a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f708";
    const POD: &str = "8a1b9c7e-1234-4d5e-8f90-aabbccddeeff";

    /// Without a daemon behind any socket.
    fn alone(raw: Raw) -> Containers {
        let nowhere = PathBuf::from("/nonexistent/socket");
        let sockets = Raw { docker_socket: nowhere.clone(), podman_socket: nowhere, cri_sockets: Vec::new(), ..raw };
        let settings = Settings::try_from(sockets).unwrap();
        Containers::shipped(&settings, &Hierarchies::default(), Metrics::new().unwrap()).0
    }

    fn containers() -> Containers {
        alone(Raw::default())
    }

    #[test]
    fn what_is_nested_belongs_to_its_container() {
        let docker = [format!("/docker/{ID}"), format!("/system.slice/docker-{ID}.scope"), format!("/ci/job-1/{ID}")];
        let cases = docker.into_iter().map(|root| (root, "docker")).chain([
            (format!("/libpod_parent/libpod-{ID}"), "podman"),
            (format!("/libpod_parent/{ID}/libpod-{ID}"), "podman"),
            (format!("/system.slice/crio-{ID}.scope"), "cri-o"),
            (format!("/k8s.io/{ID}"), "kubernetes"),
        ]);
        for (root, runtime) in cases {
            let inside = [format!("{root}/init.scope"), format!("{root}/docker/{ID}"), format!("{root}/libpod-{ID}")];
            for path in inside.iter().chain([&root]) {
                assert_eq!(containers().classify(path), Class::Owned { cgroup: &root }, "{path}");
                let known = containers().known(path);
                assert_eq!((known.id.as_str(), known.runtime.as_str(), &known.cgroup), (ID, runtime, &root));
            }
        }
    }

    #[test]
    fn the_pods_of_a_node_that_is_a_container_are_told_apart() {
        let (node, containers) = (format!("/docker/{ID}"), containers());
        let pods = format!("{node}/kubelet/kubepods");
        let pod = format!("{pods}/burstable/pod{POD}");
        let inner = format!("{pod}/{ID}");
        // Every cgroup on the way is looked into, and no other.
        for way in [&node, &format!("{node}/kubelet"), &pods, &format!("{pods}/burstable"), &pod] {
            assert!(containers.has_candidates_below(way), "{way}");
        }
        for other in [format!("{node}/init.scope"), format!("{node}/system.slice"), inner.clone()] {
            assert!(!containers.has_candidates_below(&other), "{other}");
        }
        assert_eq!(containers.classify(&node), Class::Owned { cgroup: &node });
        assert_eq!(containers.classify(&pods), Class::Owned { cgroup: &node });
        assert_eq!(containers.classify(&pod), Class::Group);
        assert_eq!(containers.classify(&inner), Class::Owned { cgroup: &inner });
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
        let path = format!("/kubepods/besteffort/pod{POD}/{ID}");
        let container = containers().resolve(&path).await;
        assert_eq!((container.name.as_str(), container.qos.as_str()), (ID, "BestEffort"));
        assert_eq!(container.labels[cri::POD_UID], POD);
    }

    #[tokio::test]
    async fn a_filter_goes_by_what_is_known() {
        let rule = |toml: &str| -> Vec<Rule> { vec![toml::from_str(toml).unwrap()] };
        let containers = alone(Raw { exclude: rule("qos = 'BestEffort'"), ..Raw::default() });
        assert!(!containers.selects(&format!("/kubepods/besteffort/pod{POD}/{ID}"), &Filter::default()));
        let burstable = format!("/kubepods/burstable/pod{POD}/{ID}");
        assert!(containers.selects(&burstable, &Filter::default()));
        let own = Filter::new(&rule("runtime = 'docker'"), &[]).unwrap();
        assert!(!containers.selects(&burstable, &own));
        // The host is nobody's container.
        assert!(containers.selects("/", &own) && containers.selects("", &own));
    }

    struct Answering(Answer);

    impl Runtime for Answering {
        fn name(&self) -> &'static str {
            "answering"
        }

        fn claim<'a>(&self, path: &'a str) -> Option<Claim<'a>> {
            Some(Claim { id: path, ..Claim::of(path) })
        }

        fn describe<'a>(&'a self, _: Claim<'a>, _: Duration) -> BoxFuture<'a, Answer> {
            Box::pin(std::future::ready(self.0.clone()))
        }
    }

    #[tokio::test]
    async fn the_one_that_knows_a_container_speaks_for_it() {
        let known = Description { name: "it".into(), ..Default::default() };
        let answers = [Answer::Unanswered, Answer::Unknown, Answer::Known(known), Answer::Absent];
        let runtimes = answers.map(|answer| Box::new(Answering(answer)) as Box<dyn Runtime>).into();
        let hierarchies = Hierarchies::default();
        let (containers, _) = Containers::new(runtimes, Filter::default(), &hierarchies, Metrics::new().unwrap());
        assert_eq!(containers.resolve("/a").await.name, "it");
    }

    #[test]
    fn a_description_that_is_too_long_is_cut_and_what_is_left_out_counted() {
        let labels = (0..1000).map(|n| (format!("key{n:04}"), "x".repeat(100))).collect();
        let description = Description { name: "ä".repeat(MAX_TEXT), labels, ..Default::default() };
        let (kept, left_out) = description.bounded();
        assert_eq!(kept.name.len(), MAX_TEXT);
        let bytes: usize = kept.labels.iter().map(|(key, value)| key.len() + value.len()).sum();
        assert!(bytes <= MAX_LABELS && bytes > MAX_LABELS - 200, "{bytes}");
        assert!(kept.labels.contains_key("key0000"));
        assert_eq!(left_out, 1000 - kept.labels.len() as u64);
    }

    #[test]
    fn a_pod_is_told_by_the_labels_where_nothing_else_tells_it() {
        let labels = [(POD_NAME, "cart-0"), (POD_NAMESPACE, "shop")];
        let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        let (kept, _) = Description { labels, ..Default::default() }.bounded();
        assert_eq!((kept.pod.as_str(), kept.namespace.as_str()), ("cart-0", "shop"));
    }
}
