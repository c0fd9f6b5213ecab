//! Cgroups by their path, and runtimes that answer or do not.

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
    for group in ["/", "/docker", "/system.slice", "/user.slice/user-0.slice", "/kubepods/burstable", "/kubepods.slice"]
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
