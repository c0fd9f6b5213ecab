//! A real containerd with its CRI service, a pod and containers made as the kubelet makes them.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    process::Command,
};

use galen_agent::containers::{
    Class, Containers, Filter, Metrics, Outcome, Raw, Rule, Settings,
    cri::api::{self, NamespaceMode, runtime_service_client::RuntimeServiceClient},
};
use tonic::transport::{Channel, Endpoint};

use crate::{
    daemon::{self, Daemon},
    support::{hierarchies, until},
};

pub(crate) const IMAGE: &str = "galen.test/busybox:1";
const POD_UID: &str = "8a1b9c7e-1234-4d5e-8f90-aabbccddeeff";

/// Ends the daemon, and with it its containers, mounts and cgroups, when dropped.
pub(crate) struct Containerd {
    pub(crate) daemon: Daemon,
    /// Where the pods of this test are.
    pub(crate) kubepods: String,
}

impl Containerd {
    /// `None`, said, where it is not installed. Has the image [`IMAGE`], for sandboxes too.
    pub(crate) async fn start(name: &str) -> Option<Self> {
        if !daemon::installed(&["containerd", "ctr", "runc", "busybox"]) {
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).display().to_string();
        // No process may lower its OOM score without a capability that not every machine gives.
        let config = format!(
            r#"version = 2
            root = "{root}"
            state = "{state}"
            [grpc]
            address = "{socket}"
            [plugins."io.containerd.internal.v1.opt"]
            path = "{opt}"
            [plugins."io.containerd.grpc.v1.cri"]
            restrict_oom_score_adj = true
            sandbox_image = "{IMAGE}"
            [plugins."io.containerd.grpc.v1.cri".containerd]
            snapshotter = "native"
            [plugins."io.containerd.grpc.v1.cri".cni]
            conf_dir = "{cni}"
            "#,
            root = path("root"),
            state = path("state"),
            socket = path("socket"),
            opt = path("opt"),
            cni = path("cni"),
        );
        let file = dir.path().join("config.toml");
        std::fs::write(&file, config).unwrap();
        let daemon = Daemon::start(dir, "containerd", &["--config", file.to_str().unwrap()]);
        let started = Self { daemon, kubepods: format!("/galen-test-{}-{name}/kubepods", std::process::id()) };
        until("containerd answers", || started.ctr(&["version"]).is_some()).await;
        let image = daemon::busybox_image(started.daemon.dir(), IMAGE);
        started.ctr(&["images", "import", image.to_str().unwrap()]).expect("the image cannot be imported");
        Some(started)
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.daemon.dir().join("socket")
    }

    pub(crate) fn ctr(&self, arguments: &[&str]) -> Option<String> {
        let socket = self.socket();
        daemon::run(Command::new("ctr").arg("--address").arg(socket).args(["--namespace", "k8s.io"]).args(arguments))
    }

    async fn client(&self) -> RuntimeServiceClient<Channel> {
        let endpoint = Endpoint::from_shared(format!("unix://{}", self.socket().display())).unwrap();
        RuntimeServiceClient::new(endpoint.connect().await.unwrap())
    }

    pub(crate) fn containers(&self) -> Containers {
        containers(&self.socket())
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        for task in self.ctr(&["tasks", "list", "--quiet"]).unwrap_or_default().lines() {
            self.ctr(&["tasks", "delete", "--force", task]);
        }
        for container in self.ctr(&["containers", "list", "--quiet"]).unwrap_or_default().lines() {
            self.ctr(&["containers", "delete", container]);
        }
        let top = self.kubepods.split('/').nth(1).unwrap();
        daemon::remove_cgroups(top);
    }
}

fn containers(socket: &Path) -> Containers {
    let settings = Settings::try_from(Raw { cri_sockets: vec![socket.into()], ..Raw::default() }).unwrap();
    Containers::shipped(&settings, &hierarchies(), Metrics::new().unwrap()).0
}

fn labels(labels: &[(&str, &str)]) -> HashMap<String, String> {
    labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// As the kubelet writes them.
fn kubelet_labels(more: (&str, &str)) -> HashMap<String, String> {
    let of_kubelet = [
        ("io.kubernetes.pod.name", "cart-0"),
        ("io.kubernetes.pod.namespace", "shop"),
        ("io.kubernetes.pod.uid", POD_UID),
    ];
    labels(&[&of_kubelet[..], &[more]].concat())
}

/// A pod on the host's network, which needs no plugins.
fn pod(cgroup_parent: &str) -> api::PodSandboxConfig {
    let of_host = NamespaceMode::Node.into();
    let namespaces = api::NamespaceOption { network: of_host, ..Default::default() };
    api::PodSandboxConfig {
        metadata: Some(api::PodSandboxMetadata {
            name: "cart-0".into(),
            uid: POD_UID.into(),
            namespace: "shop".into(),
            attempt: 0,
        }),
        labels: kubelet_labels(("app", "cart")),
        linux: Some(api::LinuxPodSandboxConfig {
            cgroup_parent: cgroup_parent.into(),
            security_context: Some(api::LinuxSandboxSecurityContext { namespace_options: Some(namespaces) }),
        }),
        ..Default::default()
    }
}

fn container(name: &str) -> api::ContainerConfig {
    let namespaces = api::NamespaceOption { network: NamespaceMode::Node.into(), ..Default::default() };
    api::ContainerConfig {
        metadata: Some(api::ContainerMetadata { name: name.into(), attempt: 0 }),
        image: Some(api::ImageSpec { image: IMAGE.into(), ..Default::default() }),
        labels: kubelet_labels(("io.kubernetes.container.name", name)),
        linux: Some(api::LinuxContainerConfig {
            security_context: Some(api::LinuxContainerSecurityContext { namespace_options: Some(namespaces) }),
        }),
        ..Default::default()
    }
}

#[tokio::test]
async fn a_container_of_a_pod_is_known_by_name_image_pod_namespace_labels_and_qos() {
    let Some(containerd) = Containerd::start("cri").await else { return };
    let mut client = containerd.client().await;
    let parent = format!("{}/burstable/pod{POD_UID}", containerd.kubepods);
    let config = pod(&parent);
    let request = api::RunPodSandboxRequest { config: Some(config.clone()) };
    let sandbox = client.run_pod_sandbox(request).await.unwrap().into_inner().pod_sandbox_id;
    let request = api::CreateContainerRequest {
        pod_sandbox_id: sandbox.clone(),
        config: Some(container("till")),
        sandbox_config: Some(config),
    };
    let id = client.create_container(request).await.unwrap().into_inner().container_id;
    client.start_container(api::StartContainerRequest { container_id: id.clone() }).await.unwrap();

    let containers = containerd.containers();
    let cgroup = format!("{parent}/{id}");
    let root = hierarchies().cpu_usage().next().unwrap().1.to_owned();
    assert!(root.join(&cgroup[1..]).is_dir(), "containerd put the container elsewhere than at {cgroup}");
    assert_eq!(containers.classify(&cgroup), Class::Owned { cgroup: &cgroup });
    assert_eq!(containers.classify(&parent), Class::Group);

    // Before anybody was asked: what the path says.
    let by_path = containers.known(&cgroup);
    assert_eq!((by_path.name.as_str(), by_path.pod.as_str(), by_path.qos.as_str()), (id.as_str(), "", "Burstable"));
    let shop = Filter::new(&[toml::from_str::<Rule>("namespace = 'shop'").unwrap()], &[]).unwrap();
    assert!(!containers.selects(&cgroup, &shop));

    let known = containers.resolve(&format!("{cgroup}/nested")).await;
    assert_eq!((known.id.as_str(), known.name.as_str(), known.image.as_str()), (id.as_str(), "till", IMAGE));
    assert_eq!((known.pod.as_str(), known.namespace.as_str()), ("cart-0", "shop"));
    assert_eq!((known.qos.as_str(), known.runtime.as_str(), &known.cgroup), ("Burstable", "containerd", &cgroup));
    // The pod's labels and the container's.
    assert_eq!((known.labels["app"].as_str(), known.labels["io.kubernetes.pod.uid"].as_str()), ("cart", POD_UID));
    assert_eq!(known.labels["io.kubernetes.container.name"], "till");
    assert!(containers.selects(&cgroup, &shop));

    // The sandbox, and the pod itself, whose limit may be the one that kills.
    let of_sandbox = containers.resolve(&format!("{parent}/{sandbox}")).await;
    assert_eq!((of_sandbox.name.as_str(), of_sandbox.pod.as_str()), ("POD", "cart-0"));
    let of_pod = containers.resolve(&parent).await;
    assert_eq!((of_pod.name.as_str(), of_pod.namespace.as_str(), of_pod.id.as_str()), ("cart-0", "shop", ""));
    assert_eq!((of_pod.labels["app"].as_str(), of_pod.qos.as_str()), ("cart", "Burstable"));

    // Nobody is asked twice, nor about one that is gone.
    let asked = containers.metrics().questions("cri", Outcome::Known);
    assert_eq!(asked, 3);
    client.remove_container(api::RemoveContainerRequest { container_id: id.clone() }).await.unwrap();
    assert_eq!(containers.resolve(&cgroup).await, known);
    assert_eq!(containers.metrics().questions("cri", Outcome::Known), asked);
    let late = containerd.containers();
    assert_eq!(late.resolve(&cgroup).await.name, id);
    assert_eq!(late.metrics().questions("cri", Outcome::Unknown), 1);

    client.stop_pod_sandbox(api::StopPodSandboxRequest { pod_sandbox_id: sandbox.clone() }).await.unwrap();
    client.remove_pod_sandbox(api::RemovePodSandboxRequest { pod_sandbox_id: sandbox }).await.unwrap();
}
