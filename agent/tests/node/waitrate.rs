use std::{
    os::unix::fs::FileExt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use galen_agent::{
    cgroup::Hierarchies,
    clock::{Clock, Moment, Source},
    tracers::Shipped,
};
use galen_proto::v1::{Event, EventKind};
use tokio::sync::Mutex;

use crate::support::{Cgroup, Process, TestAgent, data, hierarchies, others_of, until};

/// Each of these tests would have the first CPU for itself.
static TURN: Mutex<()> = Mutex::const_new(());

/// That tells the waiting of the cgroups of one test, whatever else the machine does.
async fn agent(name: &str, clock: Clock) -> TestAgent {
    let include = format!("['^/galen-test-{}-{name}-victim']", std::process::id());
    let settings = [
        ("tracers.waitrate.include", include.as_str()),
        ("tracers.waitrate.window", "2s"),
        ("tracers.waitrate.min_wait", "200ms"),
        ("tracers.waitrate.run_tracing_tool_timeout", "2s"),
    ];
    let others = others_of("waitrate");
    let others = others.iter().map(|key| (key.as_str(), "false"));
    let settings: Vec<_> = settings.into_iter().chain(others).collect();
    let test = TestAgent::start_with_clock::<Shipped>(&settings, clock).await;
    // What comes after the first look is known to be new.
    looks(&test).await;
    test
}

/// Waits for the tracer to look once more.
async fn looks(test: &TestAgent) {
    let status = test.agent.statuses().get("waitrate").unwrap();
    let before = status.snapshot().evaluations;
    until("the tracer has looked", || status.snapshot().evaluations > before).await;
}

/// A clock that can be put forward, by seconds.
#[derive(Clone, Default)]
struct Forward(Arc<AtomicU64>);

impl Source for Forward {
    fn now(&self) -> Moment {
        let now = Clock::system().now();
        Moment { boot: now.boot + Duration::from_secs(self.0.load(Ordering::Relaxed)), ..now }
    }
}

fn cpu_controller(hierarchies: &Hierarchies) -> Option<&std::path::Path> {
    let root = hierarchies.cpu.as_deref().or(hierarchies.unified.as_deref());
    if root.is_none() {
        galen_scratch::skip("no cpu controller is mounted on this machine");
    }
    root
}

/// A cgroup that has precedence over what else the machine does.
fn cgroup(name: &str) -> Option<Cgroup> {
    let hierarchies = hierarchies();
    let root = cpu_controller(&hierarchies)?;
    if hierarchies.cpu.is_none() {
        std::fs::write(root.join("cgroup.subtree_control"), "+cpu").unwrap();
    }
    let cgroup = Cgroup::create(&[root], name);
    cgroup.set("cpu.shares", "262144");
    cgroup.set("cpu.weight", "10000");
    Some(cgroup)
}

fn weigh(path: &str) {
    let root = hierarchies();
    let directory = galen_agent::cgroup::directory(cpu_controller(&root).unwrap(), path);
    for (file, weight) in [("cpu.shares", "262144"), ("cpu.weight", "10000")] {
        if directory.join(file).exists() {
            std::fs::write(directory.join(file), weight).unwrap();
        }
    }
}

fn spin_on_the_first_cpu(cgroup: &Cgroup) -> Process {
    cgroup.start("exec taskset -c 0 sh -c 'while :; do :; done'")
}

fn limit(cgroup: &Cgroup, percent: u32) {
    cgroup.set("cpu.cfs_quota_us", &(1000 * percent).to_string());
    cgroup.set("cpu.max", &format!("{} 100000", 1000 * percent));
}

async fn is_caught(agent: &TestAgent, cgroup: &str) -> (Event, Event) {
    let trigger = agent.kind_in(EventKind::Trigger, cgroup).await;
    let capture = agent.kind_in(EventKind::Capture, cgroup).await;
    assert_eq!((trigger.tracer.as_str(), &trigger.run_id), ("waitrate", &capture.run_id));
    let told = data(&trigger);
    let value = |key: &str| told[key].as_f64().unwrap();
    let spike = value("curr_waitrate") > value("rel_waitrate_thres");
    assert!(spike || value("curr_slope") > value("slope_thres"), "{told}");
    assert!(trigger.explanation.contains("rule: over"), "{}", trigger.explanation);
    let capture_data = data(&capture);
    assert!(!capture_data["after"].as_array().unwrap().is_empty(), "{capture_data}");
    assert!(!capture_data["before"].as_array().unwrap().is_empty(), "{capture_data}");
    (trigger, capture)
}

#[tokio::test]
async fn a_neighbour_that_takes_the_cpu_is_named_as_the_first_interferer() {
    let _turn = TURN.lock().await;
    let agent = agent("neighbour", Clock::system()).await;
    let Some((victim, other)) = cgroup("neighbour-victim").zip(cgroup("neighbour-other")) else { return };
    let _spinning = (spin_on_the_first_cpu(&victim), spin_on_the_first_cpu(&other));
    let (trigger, capture) = is_caught(&agent, &victim.path).await;
    for event in [&trigger, &capture] {
        let data = data(event);
        assert_eq!(data["interferer_list"][0]["cgroup"], other.path.as_str(), "{data}");
        assert!(data["interferer_list"][0]["share_percent"].as_f64() > Some(50.0), "{data}");
        assert!(data["external_percent"].as_f64() > data["throttled_percent"].as_f64(), "{data}");
    }
    assert_eq!(data(&trigger)["kind"], "external");
    assert!(trigger.summary.contains(&other.path), "{}", trigger.summary);
    let others = agent.events().into_iter().filter(|event| event.run_id != trigger.run_id);
    assert_eq!(others.count(), 0, "it is told once, and nobody else is");
}

#[tokio::test]
async fn one_that_its_quota_keeps_from_the_cpu_is_told_as_throttled() {
    let _turn = TURN.lock().await;
    let clock = Forward::default();
    let agent = agent("quota", Clock::new(clock.clone())).await;
    let Some(victim) = cgroup("quota-victim") else { return };
    limit(&victim, 20);
    looks(&agent).await;
    // It is known for a while, so that it is not throttled because it starts.
    clock.0.store(60, Ordering::Relaxed);
    let _spinning = spin_on_the_first_cpu(&victim);
    let (trigger, _) = is_caught(&agent, &victim.path).await;
    let data = data(&trigger);
    assert_eq!(data["kind"], "throttled");
    assert!(data["throttled_percent"].as_f64() > Some(40.0), "{data}");
}

#[tokio::test]
async fn what_is_nested_in_a_container_waits_for_the_container_and_is_no_interferer_of_it() {
    let _turn = TURN.lock().await;
    let id = "c0ffee".repeat(10) + "c0de";
    let agent = agent("nested", Clock::system()).await;
    let inner = |name: &str| cgroup(&format!("nested-victim/{id}/{name}"));
    let Some(((a, b), other)) = inner("a").zip(inner("b")).zip(cgroup("nested-other")) else { return };
    let container = a.path.strip_suffix("/a").unwrap();
    // With the weight of the other, so that there is enough to wait for.
    for ancestor in [container, container.rsplit_once('/').unwrap().0] {
        weigh(ancestor);
    }
    let _spinning = [&a, &b, &other].map(spin_on_the_first_cpu);
    let (trigger, _) = is_caught(&agent, container).await;
    assert_eq!(trigger.container.as_ref().unwrap().id, id);
    let data = data(&trigger);
    assert!(data["internal_percent"].as_f64() > Some(1.0), "{data}");
    let interferers = data["interferer_list"].as_array().unwrap();
    let own = |interferer: &serde_json::Value| interferer["cgroup"].as_str().unwrap().starts_with(container);
    assert!(!interferers.iter().any(own), "{data}");
}

#[tokio::test]
async fn where_the_host_holds_the_cpu_its_busiest_processes_are_named() {
    let _turn = TURN.lock().await;
    let agent = agent("host", Clock::system()).await;
    let Some(victim) = cgroup("host-victim") else { return };
    // As heavy as a process of the highest priority, so that each gets half, whatever else the machine does.
    victim.set("cpu.shares", "88761");
    victim.set("cpu.weight", "8668");
    let noisy = Noisy::start();
    let _spinning = spin_on_the_first_cpu(&victim);
    let (trigger, _) = is_caught(&agent, &victim.path).await;
    let data = data(&trigger);
    let first = &data["interferer_list"][0];
    assert_eq!((first["name"].as_str(), first["cgroup"].as_str()), (Some("host"), Some("/")), "{data}");
    let processes = first["processes"].as_array().unwrap();
    let pid = u64::from(noisy.process.0.id());
    assert!(processes.iter().any(|process| process["pid"] == pid && process["name"] == Noisy::NAME), "{data}");
    assert!(trigger.summary.contains(Noisy::NAME), "{}", trigger.summary);
}

/// A process of the root cgroup that spins on the first CPU.
struct Noisy {
    process: Process,
    _dir: tempfile::TempDir,
}

impl Noisy {
    const NAME: &str = "galen-noisy";

    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let shell = dir.path().join(Self::NAME);
        std::os::unix::fs::symlink("/bin/sh", &shell).unwrap();
        let hierarchies = hierarchies();
        let root = cpu_controller(&hierarchies).unwrap();
        // Automatic groups weigh as much as a process, and so does this one with a session of its own.
        let script = format!(
            "echo $$ > {}/cgroup.procs; echo -20 2>/dev/null > /proc/$$/autogroup; \
             exec nice -n -20 taskset -c 0 {} -c 'while :; do :; done'",
            root.display(),
            shell.display()
        );
        let spinning = std::process::Command::new("setsid").args(["sh", "-c", &script]).spawn().unwrap();
        Self { process: Process(spinning), _dir: dir }
    }
}

#[tokio::test]
async fn the_programs_are_attached_only_while_something_waits() {
    let Some(sign) = FakeSign::create() else { return };
    let agent = Command::start(&sign);
    until("the programs are loaded", || agent.has("prog_type")).await;
    assert!(!agent.has("sched_"));
    until("the programs are attached", || {
        sign.waits(Duration::from_millis(20));
        agent.has("sched_switch")
    })
    .await;
    until("nothing is attached any more", || !agent.has("sched_")).await;
    assert!(agent.has("prog_type"));
}

/// What is mounted over the kernel's CPU pressure, so that the test says when something waits.
struct FakeSign {
    file: tempfile::NamedTempFile,
    total: AtomicU64,
}

impl FakeSign {
    const PATH: &str = "/proc/pressure/cpu";

    fn create() -> Option<Self> {
        if !std::path::Path::new(Self::PATH).exists() {
            galen_scratch::skip("the kernel tells no pressure");
            return None;
        }
        let sign = Self { file: tempfile::NamedTempFile::new().unwrap(), total: AtomicU64::new(0) };
        sign.waits(Duration::ZERO);
        Some(sign)
    }

    /// Some task has waited for so much longer.
    fn waits(&self, time: Duration) {
        let more = u64::try_from(time.as_micros()).unwrap();
        let total = self.total.fetch_add(more, Ordering::Relaxed) + more;
        let line = format!("some avg10=0.00 avg60=0.00 avg300=0.00 total={total:020}\n");
        self.file.as_file().write_all_at(line.as_bytes(), 0).unwrap();
    }
}

/// The agent as a process of its own, which tells what it has attached.
struct Command {
    process: Process,
    _data: tempfile::TempDir,
}

impl Command {
    fn start(sign: &FakeSign) -> Self {
        let data = tempfile::tempdir().unwrap();
        let mut command = std::process::Command::new("unshare");
        let script = format!("mount --make-rprivate /proc && mount --bind \"$0\" {} && exec \"$@\"", FakeSign::PATH);
        command
            .args(["--mount", "--propagation=unchanged", "sh", "-c", &script])
            .arg(sign.file.path())
            .arg(env!("CARGO_BIN_EXE_galen-agent"));
        let settings = [
            format!("data_dir={}", data.path().display()),
            "tracers.waitrate.disarm_after=1s".into(),
            "aggregator.endpoint=http://127.0.0.1:1".into(),
        ];
        let others = others_of("waitrate").into_iter().map(|key| format!("{key}=false"));
        for setting in settings.into_iter().chain(others) {
            command.args(["--set", &setting]);
        }
        Self { process: Process(command.stderr(std::process::Stdio::null()).spawn().unwrap()), _data: data }
    }

    /// Whether the kernel says this of one of its descriptors; programs and their links are such.
    fn has(&self, text: &str) -> bool {
        let descriptors = std::fs::read_dir(format!("/proc/{}/fdinfo", self.process.0.id())).unwrap().flatten();
        descriptors.filter_map(|entry| std::fs::read_to_string(entry.path()).ok()).any(|info| info.contains(text))
    }
}
