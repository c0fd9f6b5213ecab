//! A real docker daemon, a real container, an image made here.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use galen_agent::{
    containers::{Containers, Metrics, Outcome, Raw, Settings},
    tracers::Shipped,
};
use galen_proto::v1::EventKind;

use crate::{
    daemon::{self, Daemon},
    support::{agent_that_has_looked, data, until},
};

/// Ends the daemon, and with it its containers, when dropped.
struct Docker(Daemon);

impl Docker {
    /// `None`, said, where docker is not installed. Has the image `galen-test`.
    async fn start() -> Option<Self> {
        if !daemon::installed(&["dockerd", "busybox"]) {
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).display().to_string();
        let (data, exec, pid) = (path("data"), path("exec"), path("pid"));
        let host = format!("unix://{}", path("docker.sock"));
        let own = ["--data-root", &data, "--exec-root", &exec, "--pidfile", &pid, "--host", &host];
        let small = ["--storage-driver=vfs", "--bridge=none", "--iptables=false"];
        let docker = Self(Daemon::start(dir, "dockerd", &[&own[..], &small].concat()));
        until("docker answers", || docker.run(&["version"]).is_some()).await;
        let root = daemon::busybox_root(docker.0.dir());
        docker.run(&["import", root.to_str().unwrap(), "galen-test"]).expect("the image cannot be made");
        Some(docker)
    }

    fn socket(&self) -> PathBuf {
        self.0.dir().join("docker.sock")
    }

    fn run(&self, arguments: &[&str]) -> Option<String> {
        let host = format!("unix://{}", self.socket().display());
        daemon::run(Command::new("docker").args(["--host", &host]).args(arguments))
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        for id in self.run(&["ps", "--all", "--quiet"]).unwrap_or_default().lines() {
            self.run(&["rm", "--force", id]);
        }
    }
}

fn containers(docker_socket: &Path) -> Containers {
    let settings = Settings::try_from(Raw { docker_socket: docker_socket.into(), ..Raw::default() }).unwrap();
    Containers::shipped(&settings, &crate::support::hierarchies(), Metrics::new().unwrap()).0
}

#[tokio::test]
async fn a_burst_in_a_docker_container_is_told_with_its_name_image_and_labels() {
    let Some(docker) = Docker::start().await else { return };
    let socket = docker.socket();
    let settings = [
        ("containers.docker_socket", socket.to_str().unwrap()),
        ("containers.exclude", "[{ runtime = 'docker', labels = { team = 'red' } }]"),
        ("tracers.cpuidle.window", "2s"),
        ("tracers.cpuidle.run_tracing_tool_timeout", "1s"),
        ("tracers.cpuidle.user_threshold", "50"),
        ("tracers.cpuidle.include", "['^/docker/', '-docker-sentinel$']"),
        ("tracers.memburst.enabled", "false"),
        ("tracers.iotracer.enabled", "false"),
        ("tracers.oom.enabled", "false"),
        ("tracers.waitrate.enabled", "false"),
    ];
    let test = agent_that_has_looked::<Shipped>("docker", &settings).await;
    let burn = |name, label| {
        let run = ["run", "--detach", "--name", name, "--network=none", "--cpus=0.1", "--label", label];
        let id = docker.run(&[&run[..], &["galen-test", "sh", "-c", "while :; do :; done"]].concat());
        id.expect("the container cannot be started")
    };
    let excluded = burn("excluded", "team=red");
    let id = burn("burner", "team=blue");

    let cgroup = format!("/docker/{id}");
    let trigger = test.kind_in(EventKind::Trigger, &cgroup).await;
    let container = trigger.container.clone().unwrap();
    assert_eq!((container.id.as_str(), container.name.as_str()), (id.as_str(), "burner"));
    assert_eq!((container.runtime.as_str(), container.image.as_str()), ("docker", "galen-test"));
    assert_eq!(container.labels.get("team").map(String::as_str), Some("blue"));
    assert_eq!(data(&trigger)["capacity_cpus"], 0.1);

    // A container that is gone is told with what was known of it.
    docker.run(&["rm", "--force", "burner"]).unwrap();
    let capture = test.kind_in(EventKind::Capture, &cgroup).await;
    assert_eq!(capture.container.unwrap().name, "burner");
    let told = test.events().into_iter().filter_map(|event| event.container);
    assert!(!told.into_iter().any(|container| container.id == excluded), "what is excluded was told");

    let never_asked = containers(&socket);
    let unknown = never_asked.resolve(&cgroup).await;
    assert_eq!((unknown.name.as_str(), unknown.image.as_str()), (id.as_str(), ""));
    test.agent.stop().await;
}

#[tokio::test]
async fn a_container_that_is_started_again_is_asked_for_again() {
    let Some(docker) = Docker::start().await else { return };
    let containers = containers(&docker.socket());
    let run = ["run", "--detach", "--name", "before", "--network=none", "galen-test", "sleep", "1000000"];
    let id = docker.run(&run).expect("the container cannot be started");
    let cgroup = format!("/docker/{id}");
    assert_eq!(containers.resolve(&cgroup).await.name, "before");
    docker.run(&["stop", "--time", "0", "before"]).unwrap();
    docker.run(&["rename", "before", "after"]).unwrap();
    // Gone, it is told as it was; under the same id it may be another.
    assert_eq!(containers.resolve(&cgroup).await.name, "before");
    docker.run(&["start", "after"]).unwrap();
    assert_eq!(containers.resolve(&cgroup).await.name, "after");
    assert_eq!(containers.metrics().questions("docker", Outcome::Known), 2);
}
