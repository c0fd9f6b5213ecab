//! A real podman, with and without its service.

use std::process::Command;

use galen_agent::containers::{Containers, Metrics, Outcome, Raw, Settings};

use crate::{
    daemon::{self, Daemon},
    support::{hierarchies, until},
};

/// Ends the service, and with it its containers, mounts and cgroups, when dropped.
struct Podman {
    service: Daemon,
    cgroup_parent: String,
}

impl Podman {
    /// `None`, said, where podman is not installed. Has the image `galen-test`.
    async fn start() -> Option<Self> {
        if !daemon::installed(&["podman", "runc", "busybox"]) {
            return None;
        }
        let runc = daemon::run(Command::new("which").arg("runc")).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).display().to_string();
        let (root, run, tmp, socket) = (path("root"), path("run"), path("tmp"), format!("unix://{}", path("socket")));
        let own = ["--root", &root, "--runroot", &run, "--tmpdir", &tmp, "--runtime", &runc];
        let simple = ["--cgroup-manager=cgroupfs", "--storage-driver=vfs", "--events-backend=file"];
        let service = ["system", "service", "--time=0", &socket];
        let service = Daemon::start(dir, "podman", &[&own[..], &simple, &service].concat());
        let podman = Self { service, cgroup_parent: format!("/galen-test-{}-podman", std::process::id()) };
        until("podman answers", || podman.run(&["version"]).is_some()).await;
        let root = daemon::busybox_root(podman.service.dir());
        podman.run(&["import", root.to_str().unwrap(), "galen-test"]).expect("the image cannot be made");
        Some(podman)
    }

    fn run(&self, arguments: &[&str]) -> Option<String> {
        let url = format!("unix://{}", self.service.dir().join("socket").display());
        daemon::run(Command::new("podman").args(["--remote", "--url", &url]).args(arguments))
    }

    fn containers(&self, socket: &str) -> Containers {
        let podman_socket = self.service.dir().join(socket);
        let settings = Settings::try_from(Raw { podman_socket, ..Raw::default() }).unwrap();
        Containers::shipped(&settings, &hierarchies(), Metrics::new().unwrap()).0
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        self.run(&["rm", "--all", "--force", "--time", "0"]);
        daemon::remove_cgroups(&self.cgroup_parent[1..]);
    }
}

#[tokio::test]
async fn a_container_of_podman_is_known_by_name_image_and_labels_where_its_service_runs() {
    let Some(podman) = Podman::start().await else { return };
    let run = ["run", "--detach", "--name", "burner", "--network=none", "--label", "team=blue"];
    // Podman would raise limits, for which not every machine gives the capability.
    let limits = ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1000:1000"];
    let place = ["--cgroup-parent", &podman.cgroup_parent, "galen-test", "sleep", "1000000"];
    let id = podman.run(&[&run[..], &limits, &place].concat()).expect("the container cannot be started");
    let cgroup = format!("{}/libpod-{id}", podman.cgroup_parent);
    let root = hierarchies().cpu_usage().next().unwrap().1.to_owned();
    assert!(root.join(&cgroup[1..]).is_dir(), "podman put the container elsewhere than at {cgroup}");

    let containers = podman.containers("socket");
    let known = containers.resolve(&cgroup).await;
    assert_eq!((known.id.as_str(), known.name.as_str(), known.runtime.as_str()), (id.as_str(), "burner", "podman"));
    assert_eq!(known.image, "localhost/galen-test:latest");
    assert_eq!(known.labels["team"], "blue");
    podman.run(&["rm", "--force", "--time", "0", "burner"]).unwrap();
    assert_eq!(containers.resolve(&cgroup).await, known);
    assert_eq!(containers.metrics().questions("podman", Outcome::Known), 1);

    let without_service = podman.containers("nowhere").resolve(&cgroup).await;
    assert_eq!((without_service.name.as_str(), without_service.runtime.as_str()), (id.as_str(), "podman"));
}
