//! A real kubelet, which is given pods as files, before a real containerd. `make test-kubernetes` builds the kubelet.

mod pods;

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use galen_agent::containers::{Class, Containers, Filter, Rule};
use galen_proto::v1::{Container, Event, EventKind};
use rustix::process::Signal;
use serde_json::{Value, json};

use self::pods::{CART, CRUNCH, EXPORTER, PROBE, Pod, VAULT};
use crate::{
    containerd::{Containerd, IMAGE},
    support::{Cgroup, TestAgent, agent_that_has_looked, hierarchies, signal, until},
};

/// The path of the program.
const PROGRAM: &str = "GALEN_KUBELET";
/// What the kubelet writes to, wherever it is told to live: it gets its own, in the mounts of containerd.
const PRIVATE: &str = r#"
for key in vm/overcommit_memory vm/panic_on_oom kernel/panic kernel/panic_on_oops kernel/keys/root_maxkeys kernel/keys/root_maxbytes; do
  copy="$0/sysctl-${key##*/}"
  cat /proc/sys/$key > "$copy" && mount --bind "$copy" /proc/sys/$key
done
mkdir -p /var/lib/kubelet /var/log/containers
mount -t tmpfs none /var/lib/kubelet && mount -t tmpfs none /var/log/containers && exec "$@""#;

/// Ends the kubelet, and after it its pods, when dropped.
struct Kubelet {
    process: Child,
    containerd: Containerd,
    _root: Cgroup,
}

impl Kubelet {
    /// `None`, said, where there is none.
    async fn start() -> Option<Self> {
        let Some(program) = std::env::var_os(PROGRAM) else {
            galen_scratch::skip("there is no kubelet: make test-kubernetes");
            return None;
        };
        let containerd = Containerd::start("kubelet").await?;
        let hierarchies = hierarchies();
        let all: Vec<_> = controllers().chain(hierarchies.unified).collect();
        let root = Cgroup::create(&all.iter().map(PathBuf::as_path).collect::<Vec<_>>(), "kubelet");
        assert_eq!(format!("{}/kubepods", root.path), containerd.kubepods);
        let dir = containerd.daemon.dir();
        fs::create_dir(dir.join("pods")).unwrap();
        let never = ["memory.available", "nodefs.available", "imagefs.available"].map(|signal| (signal, "1Mi"));
        let config = json!({
            "apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
            "staticPodPath": dir.join("pods"), "fileCheckFrequency": "1s", "enableServer": false, "healthzPort": 0,
            "authentication": { "anonymous": { "enabled": true }, "webhook": { "enabled": false } },
            "authorization": { "mode": "AlwaysAllow" },
            "containerRuntimeEndpoint": format!("unix://{}", containerd.socket().display()),
            "cgroupDriver": "cgroupfs", "cgroupRoot": root.path, "failSwapOn": false, "failCgroupV1": false,
            // Without the capability that some machines withhold: no lower OOM score, no more files.
            "oomScoreAdj": 0, "maxOpenFiles": 20_000,
            "makeIPTablesUtilChains": false, "resolvConf": "",
            "podLogsDir": dir.join("logs"), "volumePluginDir": dir.join("plugins"),
            "evictionHard": HashMap::from(never),
            "imageGCHighThresholdPercent": 100,
        });
        let file = dir.join("kubelet.json");
        fs::write(&file, config.to_string()).unwrap();
        let option = |name: &str, value: &Path| format!("--{name}={}", value.display());
        let process = Command::new("nsenter")
            .args(["--mount", "--root", "--wd=/", "--target", &containerd.daemon.pid().to_string()])
            .args(["sh", "-c", PRIVATE])
            .arg(dir)
            .arg(program)
            .args([option("config", &file), option("root-dir", &dir.join("kubelet"))])
            .args([option("cert-dir", &dir.join("pki")), "--hostname-override=node".into()])
            .stdout(Stdio::null())
            .stderr(fs::File::create(dir.join("kubelet.log")).unwrap())
            .spawn()
            .unwrap();
        Some(Self { process, containerd, _root: root })
    }

    fn manifest(&self, name: &str) -> PathBuf {
        self.containerd.daemon.dir().join(format!("pods/{name}.json"))
    }

    fn run(&self, pod: &Pod) {
        // Whole at once, from elsewhere: the kubelet looks at any time, and at every file.
        let unfinished = self.containerd.daemon.dir().join("manifest");
        fs::write(&unfinished, pod.manifest().to_string()).unwrap();
        fs::rename(unfinished, self.manifest(pod.name)).unwrap();
    }

    fn log(&self) -> String {
        let log = fs::read_to_string(self.containerd.daemon.dir().join("kubelet.log")).unwrap();
        log.lines().rev().take(20).collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Kubelet {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the kubelet said, the newest first:\n{}", self.log());
        }
        signal(self.process.id(), Signal::TERM);
        let _ = self.process.wait();
        // It made them, if they are empty outside of its own mounts.
        for folder in ["/var/lib/kubelet", "/var/log/containers"] {
            let _ = fs::remove_dir(folder);
        }
    }
}

/// The roots of the controllers of version 1.
fn controllers() -> impl Iterator<Item = PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let roots: Vec<_> = mounts
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(' ').skip(1);
            let (root, kind) = (fields.next()?, fields.next()?);
            (kind == "cgroup").then(|| PathBuf::from(root))
        })
        .collect();
    roots.into_iter()
}

/// The owners below `path`, as the runtime tells them, in the order of their names.
async fn owners(containers: &Containers, root: &Path, path: &str) -> Vec<Container> {
    let (mut found, mut rest) = (Vec::new(), vec![path.to_owned()]);
    while let Some(path) = rest.pop() {
        match containers.classify(&path) {
            Class::Group => {
                let entries = fs::read_dir(root.join(&path[1..])).into_iter().flatten().flatten();
                let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
                rest.extend(folders.map(|folder| format!("{path}/{}", folder.file_name().to_string_lossy())));
            }
            class => {
                assert_eq!(class, Class::Owned { cgroup: &path });
                found.push(containers.resolve(&path).await);
            }
        }
    }
    found.sort_by(|a, b| (&a.pod, &a.name).cmp(&(&b.pod, &b.name)));
    found
}

async fn trigger(test: &TestAgent, pod: &Pod, container: &str) -> (Event, Container) {
    let is_it = |event: &Event| {
        event.kind() == EventKind::Trigger
            && event.container.as_ref().is_some_and(|told| told.pod == pod.full_name() && told.name == container)
    };
    let event = test.event(&format!("trigger of {container} in {}", pod.name), is_it).await;
    let told = event.container.clone().unwrap();
    (event, told)
}

fn assert_told(told: &Container, pod: &Pod, qos: &str) {
    assert_eq!((told.namespace.as_str(), told.qos.as_str()), (pod.namespace, qos));
    assert_eq!((told.image.as_str(), told.runtime.as_str()), (IMAGE, "containerd"));
    assert_eq!(told.labels[pod.label.0], pod.label.1);
    assert_eq!(told.labels["io.kubernetes.container.name"], told.name);
    let uid = &told.labels["io.kubernetes.pod.uid"];
    assert!(told.cgroup.ends_with(&format!("/pod{uid}/{}", told.id)), "{}", told.cgroup);
}

#[tokio::test]
async fn bursts_in_the_pods_of_a_kubelet_are_told_by_name_and_what_is_excluded_is_not() {
    let Some(kubelet) = Kubelet::start().await else { return };
    let socket = format!("['{}']", kubelet.containerd.socket().display());
    let exclude = "[{ namespace = 'monitoring' }, { labels = { pod-template-generation = '.*' } }]";
    let include = format!("['^{}/', '-kubelet-sentinel$']", kubelet.containerd.kubepods);
    let settings = [
        ("containers.cri_sockets", socket.as_str()),
        ("containers.exclude", exclude),
        ("tracers.cpuidle.window", "2s"),
        // Until the agent ends.
        ("tracers.cpuidle.run_tracing_tool_timeout", "10min"),
        // A pod without a request gets what others leave.
        ("tracers.cpuidle.user_threshold", "2"),
        ("tracers.cpuidle.delta_user_threshold", "1"),
        ("tracers.cpuidle.include", include.as_str()),
        ("tracers.cpusys.enabled", "false"),
        ("tracers.memburst.enabled", "false"),
        ("tracers.iotracer.enabled", "false"),
        ("tracers.oom.enabled", "false"),
        ("tracers.waitrate.enabled", "false"),
    ];
    let test = agent_that_has_looked::<galen_agent::tracers::Shipped>("kubelet", &settings).await;
    for pod in [&EXPORTER, &PROBE, &CRUNCH, &CART, &VAULT] {
        kubelet.run(pod);
    }

    let (_, till) = trigger(&test, &CART, "till").await;
    assert_told(&till, &CART, "Burstable");
    let (_, safe) = trigger(&test, &VAULT, "safe").await;
    assert_told(&safe, &VAULT, "Guaranteed");
    let (of_cruncher, cruncher) = trigger(&test, &CRUNCH, "cruncher").await;
    assert_told(&cruncher, &CRUNCH, "BestEffort");

    // Every container of every pod, asked for anew: one that went at once is no more, a sidecar is one of them.
    let containers = kubelet.containerd.containers();
    let hierarchies = hierarchies();
    let root = hierarchies.cpu_usage().next().unwrap().1;
    let expected = [
        ("cart-node", "POD"),
        ("cart-node", "mesh"),
        ("cart-node", "proxy"),
        ("cart-node", "till"),
        ("crunch-node", "POD"),
        ("crunch-node", "cruncher"),
        ("exporter-node", "POD"),
        ("exporter-node", "exporter"),
        ("probe-node", "POD"),
        ("probe-node", "probe"),
        ("vault-node", "POD"),
        ("vault-node", "safe"),
    ];
    let expected = expected.map(|(pod, name)| (pod.to_owned(), name.to_owned()));
    let by = Instant::now() + Duration::from_secs(60);
    let mut all = loop {
        let all = owners(&containers, root, &kubelet.containerd.kubepods).await;
        let names: Vec<_> = all.iter().map(|told| (told.pod.clone(), told.name.clone())).collect();
        if names == expected {
            break all;
        }
        assert!(Instant::now() < by, "{names:#?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    };

    let selected = |rule: &str| {
        let filter = Filter::new(&[toml::from_str::<Rule>(rule).unwrap()], &[]).unwrap();
        let selected = all.iter().filter(|told| containers.selects(&told.cgroup, &filter) && told.name != "POD");
        selected.map(|told| told.name.as_str()).collect::<Vec<_>>()
    };
    assert_eq!(selected("namespace = 'shop'"), ["mesh", "proxy", "till", "safe"]);
    assert_eq!(selected("qos = 'Guaranteed'"), ["safe"]);
    assert_eq!(selected("qos = 'BestEffort'"), ["cruncher"]);
    assert_eq!(selected("labels = { app = 'cart|probe' }"), ["mesh", "proxy", "till", "probe"]);
    assert_eq!(selected("name = 'proxy|mesh'"), ["mesh", "proxy"]);
    assert_eq!(selected("pod = 'vault-.*'"), ["safe"]);

    // The same containers under the names that systemd's driver gives.
    for told in all.drain(..).filter(|told| told.name != "POD") {
        let uid = told.labels["io.kubernetes.pod.uid"].replace('-', "_");
        let class = match told.qos.as_str() {
            "Guaranteed" => "kubepods",
            "Burstable" => "kubepods.slice/kubepods-burstable.slice/kubepods-burstable",
            _ => "kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort",
        };
        let cgroup = format!("/{class}-pod{uid}.slice/cri-containerd-{}.scope", told.id);
        let by_systemd = kubelet.containerd.containers().resolve(&format!("{cgroup}/nested")).await;
        let labels = told.labels.clone();
        assert_eq!((by_systemd.labels, &by_systemd.cgroup), (HashMap::from_iter(labels), &cgroup));
        assert_eq!(
            (by_systemd.name, by_systemd.pod, by_systemd.namespace, by_systemd.qos, by_systemd.image),
            (told.name, told.pod, told.namespace, told.qos, told.image)
        );
    }

    // Gone before its capture is written, and forgotten by the runtime.
    fs::remove_file(kubelet.manifest(CRUNCH.name)).unwrap();
    until("the pod is gone", || !root.join(&cruncher.cgroup[1..]).exists()).await;
    until("the runtime has forgotten it", || {
        kubelet.containerd.ctr(&["containers", "list", "--quiet"]).is_some_and(|list| !list.contains(&cruncher.id))
    })
    .await;
    let dir = test.dir;
    test.agent.stop().await;
    let text = fs::read_to_string(dir.path().join("records/cpuidle/records.jsonl")).unwrap();
    let records: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of_run = |record: &&Value| record["run_id"] == of_cruncher.run_id && record["kind"] == "capture";
    let capture = &records.iter().find(of_run).expect("the capture of a pod that is gone was lost")["container"];
    let keys = ["id", "name", "pod", "namespace", "qos", "image"].map(|key| capture[key].as_str().unwrap_or_default());
    assert_eq!(
        keys,
        [&cruncher.id, &cruncher.name, &cruncher.pod, &cruncher.namespace, &cruncher.qos, &cruncher.image]
    );
    assert_eq!(capture["labels"], json!(cruncher.labels));

    let of_others =
        |record: &&Value| !["till", "safe", "cruncher"].contains(&record["container"]["name"].as_str().unwrap());
    let others: Vec<_> =
        records.iter().filter(of_others).map(|record| (&record["summary"], &record["container"])).collect();
    assert!(others.is_empty(), "{others:#?}");
}
