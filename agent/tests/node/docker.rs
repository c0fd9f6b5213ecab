//! A real docker daemon, a real container, an image made here.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use galen_agent::{containers::Containers, tracers::Shipped};
use galen_proto::v1::EventKind;
use rustix::process::Signal;
use tempfile::TempDir;

use crate::support::{agent_that_has_looked, data, until};

/// Runs `$@` with the directory `$0` for its root: the same tree, but a mount of its own.
const OWN_ROOT: &str = r#"mount --make-rprivate / 2>/dev/null
mount --rbind / "$0" && mount --make-rprivate "$0" && exec chroot "$0" "$@""#;

/// Ends the daemon, and with it its containers, mounts and cgroups, when dropped.
struct Daemon {
    process: Child,
    dir: TempDir,
}

impl Daemon {
    /// `None`, said, where docker is not installed.
    fn start() -> Option<Self> {
        let installed =
            |program: &str| Command::new("which").arg(program).output().is_ok_and(|found| found.status.success());
        if !installed("dockerd") || !installed("busybox") {
            eprintln!("SKIPPED: this test needs the packages docker.io and busybox-static");
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).display().to_string();
        // Docker takes `/` for a mount point, which it is not where the tests run in a changed root.
        let root = dir.path().join("daemon-root");
        std::fs::create_dir(&root).unwrap();
        let process = Command::new("unshare")
            .args(["--mount", "--propagation=unchanged", "sh", "-c", OWN_ROOT])
            .arg(root)
            .arg("dockerd")
            .args(["--data-root", &path("data"), "--exec-root", &path("exec"), "--pidfile", &path("pid")])
            .args(["--host", &format!("unix://{}", path("docker.sock"))])
            .args(["--storage-driver=vfs", "--bridge=none", "--iptables=false"])
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(dir.path().join("log")).unwrap())
            .spawn()
            .unwrap();
        Some(Self { process, dir })
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("docker.sock")
    }

    fn docker(&self, arguments: &[&str]) -> Option<String> {
        let host = format!("unix://{}", self.socket().display());
        let output = Command::new("docker").args(["--host", &host]).args(arguments).output().unwrap();
        output.status.success().then(|| String::from_utf8(output.stdout).unwrap().trim().to_owned())
    }

    fn import_busybox(&self) {
        let root = self.dir.path().join("root");
        std::fs::create_dir_all(root.join("bin")).unwrap();
        std::fs::copy("/bin/busybox", root.join("bin/busybox")).unwrap();
        std::os::unix::fs::symlink("busybox", root.join("bin/sh")).unwrap();
        let archive = self.dir.path().join("root.tar");
        let packed = Command::new("tar").arg("-C").arg(&root).arg("-cf").arg(&archive).arg(".").status().unwrap();
        assert!(packed.success());
        self.docker(&["import", archive.to_str().unwrap(), "galen-test"]).expect("the image cannot be made");
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(all) = self.docker(&["ps", "--all", "--quiet"]) {
            for id in all.lines() {
                self.docker(&["rm", "--force", id]);
            }
        }
        crate::support::signal(self.process.id(), Signal::TERM);
        let _ = self.process.wait();
    }
}

#[tokio::test]
async fn a_burst_in_a_docker_container_is_told_with_its_name_image_and_labels() {
    let Some(daemon) = Daemon::start() else { return };
    until("docker answers", || daemon.docker(&["version"]).is_some()).await;
    daemon.import_busybox();
    let socket = daemon.socket();
    let settings = [
        ("containers.docker_socket", socket.to_str().unwrap()),
        ("tracers.cpuidle.window", "2s"),
        ("tracers.cpuidle.run_tracing_tool_timeout", "1s"),
        ("tracers.cpuidle.user_threshold", "50"),
        ("tracers.cpuidle.include", "['^/docker/', '-docker-sentinel$']"),
        ("tracers.memburst.enabled", "false"),
        ("tracers.iotracer.enabled", "false"),
        ("tracers.oom.enabled", "false"),
    ];
    let test = agent_that_has_looked::<Shipped>("docker", &settings).await;
    let run = ["run", "--detach", "--name", "burner", "--network=none", "--cpus=0.3", "--label", "team=blue"];
    let id = daemon.docker(&[&run[..], &["galen-test", "sh", "-c", "while :; do :; done"]].concat());
    let id = id.expect("the container cannot be started");

    let cgroup = format!("/docker/{id}");
    let trigger = test.kind_in(EventKind::Trigger, &cgroup).await;
    let container = trigger.container.clone().unwrap();
    assert_eq!((container.id.as_str(), container.name.as_str()), (id.as_str(), "burner"));
    assert_eq!((container.runtime.as_str(), container.image.as_str()), ("docker", "galen-test"));
    assert_eq!(container.labels.get("team").map(String::as_str), Some("blue"));
    assert_eq!(data(&trigger)["capacity_cpus"], 0.3);

    // A container that is gone is told with what was known of it.
    daemon.docker(&["rm", "--force", "burner"]).unwrap();
    let capture = test.kind_in(EventKind::Capture, &cgroup).await;
    assert_eq!(capture.container.unwrap().name, "burner");

    let (never_asked, _) = Containers::shipped(&socket);
    let unknown = never_asked.resolve(&cgroup).await;
    assert_eq!((unknown.name.as_str(), unknown.image.as_str()), (id.as_str(), ""));
    test.agent.stop().await;
}

#[tokio::test]
async fn a_daemon_that_hangs_delays_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("docker.sock");
    // Accepts connections, as far as the kernel goes, and never answers.
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let (containers, _) = Containers::shipped(Path::new(&socket));
    let id = "c0ffee".repeat(10) + "c0de";
    let paths: Vec<String> = (0..100).map(|n| format!("/docker/{}{n:02}", &id[..62])).collect();
    // Each waits for its deadline at most once: after the first, the daemon is left alone for a while.
    let all = async {
        for path in &paths {
            let container = containers.resolve(path).await;
            assert_eq!(container.name, path.strip_prefix("/docker/").unwrap());
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), all).await.expect("a daemon that hangs was waited for");
}
