//! A thousand cgroups that burst at once: every burst is told once, captures keep to the budget, what was not captured is
//! counted, and a runtime that hangs holds up nothing.

use std::{
    collections::BTreeSet,
    io::PipeWriter,
    os::unix::{net::UnixListener, process::CommandExt},
    path::Path,
    process::{Child, Command, Stdio},
    thread::available_parallelism,
    time::Duration,
};

use galen_agent::{cgroup::Version, tracers::Shipped};
use galen_proto::v1::{Event, EventKind, LossReason, SuppressionReason};
use rustix::process::{Pid, Signal, kill_process_group};

use crate::support::{Cgroup, agent_that_has_looked, cpu_roots, data, hierarchies, others_of, until, until_within};

const CGROUPS: usize = 1000;
const CAPTURES: usize = 2;
/// Longer than any tick of the agent may be late.
const WINDOW: Duration = Duration::from_secs(10);
/// Each gets a few milliseconds of the CPUs, which all of them share with whatever else the machine does.
const PATIENCE: Duration = Duration::from_secs(300);
/// A process in each of the cgroups `$@`, which waits for the gate, the end of standard input, and then spins for some
/// milliseconds: the scheduler lets some of them wait for as long as others run. To it they are one group, where it has
/// any, so that all of them weigh no more than another process.
const CROWD: &str = r#"
exec 3<&0
for group in $GROUPS; do echo $$ > "$group/cgroup.procs"; done
for cgroup in "$@"; do (
  echo 0 > "$ROOT$cgroup/cgroup.procs" || exit 1
  read -r _ <&3
  i=0; while [ $i -lt 5000 ]; do i=$((i + 1)); done
) & done
wait"#;

/// Ended when dropped, then its cgroups.
struct Crowd {
    processes: Child,
    gate: Option<PipeWriter>,
    cgroups: Vec<Cgroup>,
    _group: Option<Cgroup>,
}

impl Crowd {
    /// Each in a container's cgroup of its own, in which the kernel counts microseconds.
    async fn gather(root: &Path) -> Self {
        let group = hierarchies().cpu.map(|root| Cgroup::create(&[&root], "storm"));
        if group.is_none() {
            // They are a group of version 2 then, if the root may hand it down.
            let _ = std::fs::write(root.join("cgroup.subtree_control"), "+cpu");
        }
        let cgroups = (0..CGROUPS).map(|n| Cgroup::create(&[root], &format!("storm/{n:064x}")));
        let cgroups: Vec<_> = cgroups.collect();
        let (waits, gate) = std::io::pipe().unwrap();
        let processes = Command::new("sh")
            .args(["-c", CROWD, "sh"])
            .args(cgroups.iter().map(|cgroup| &cgroup.path))
            .env("ROOT", root)
            .env("GROUPS", group.as_ref().map_or(Path::new(""), Cgroup::directory))
            .stdin(waits)
            .stdout(Stdio::null())
            .process_group(0)
            .spawn()
            .unwrap();
        let crowd = Self { processes, gate: Some(gate), cgroups, _group: group };
        until_within(PATIENCE, "every cgroup has its process", || crowd.cgroups.iter().all(Cgroup::has_members)).await;
        crowd
    }

    fn open_gate(&mut self) {
        self.gate = None;
    }

    fn paths(&self) -> BTreeSet<String> {
        self.cgroups.iter().map(|cgroup| cgroup.path.clone()).collect()
    }
}

impl Drop for Crowd {
    /// All at once: one after the other, each would wait for its turn among those that still spin.
    fn drop(&mut self) {
        let _ = kill_process_group(Pid::from_child(&self.processes), Signal::KILL);
        let _ = self.processes.wait();
    }
}

#[tokio::test]
async fn a_thousand_cgroups_that_burst_at_once_are_told_each_once_and_captured_within_the_budget() {
    let Some(roots) = cpu_roots(Version::V2) else { return };
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("docker.sock");
    // Whoever connects waits for ever.
    let docker = UnixListener::bind(&socket).unwrap();
    let include = format!("['^/galen-test-{}-storm[-/]']", std::process::id());
    let captures = CAPTURES.to_string();
    // A quarter of a millisecond in a window, in percent of all CPUs.
    let level = (0.25e-3 / WINDOW.as_secs_f64() * 100.0 / available_parallelism().unwrap().get() as f64).to_string();
    let window = format!("{}s", WINDOW.as_secs());
    let settings = [
        ("containers.docker_socket", socket.to_str().unwrap()),
        ("budget.max_concurrent_captures", captures.as_str()),
        ("tracers.cpuidle.include", include.as_str()),
        ("tracers.cpuidle.window", window.as_str()),
        ("tracers.cpuidle.user_threshold", level.as_str()),
        ("tracers.cpuidle.delta_user_threshold", level.as_str()),
        ("tracers.cpuidle.sys_threshold", level.as_str()),
        ("tracers.cpuidle.delta_sys_threshold", level.as_str()),
        // Until the agent ends.
        ("tracers.cpuidle.run_tracing_tool_timeout", "10min"),
    ];
    let others = others_of("cpuidle");
    let settings: Vec<_> = others.iter().map(|key| (key.as_str(), "false")).chain(settings).collect();
    let test = agent_that_has_looked::<Shipped>("storm", &settings).await;
    let mut crowd = Crowd::gather(&roots[0]).await;
    let burst = crowd.paths();
    crowd.open_gate();

    let status = || test.agent.statuses().get("cpuidle").unwrap().snapshot();
    until_within(PATIENCE, "every burst is told", || status().triggers >= CGROUPS as u64).await;
    drop(crowd);
    until("what was told is durable", || test.events().len() >= CGROUPS).await;
    let triggers = test.events();
    assert!(triggers.iter().all(|event| event.kind() == EventKind::Trigger && event.tracer == "cpuidle"));
    let concerned = |event: &Event| event.container.clone().unwrap_or_default();
    assert!(triggers.iter().all(|event| concerned(event).runtime == "docker"));
    let told: BTreeSet<_> = triggers.iter().map(|event| concerned(event).cgroup).collect();
    assert!(triggers.len() == CGROUPS && told == burst, "{} triggers of {} cgroups", triggers.len(), told.len());
    let (captured, refused): (Vec<_>, Vec<_>) = triggers.into_iter().partition(|event| data(event)["capture"] == true);
    assert_eq!(captured.len(), CAPTURES);
    let of_the_budget = |event: &Event| {
        let why = data(event)["no_capture_because"].as_str().unwrap_or_default().to_owned();
        why.contains("at a time")
    };
    assert!(refused.iter().all(of_the_budget), "{:?}", refused.iter().find(|event| !of_the_budget(event)));

    // Its socket was tried a few times, whoever waited.
    docker.set_nonblocking(true).unwrap();
    let asked = std::iter::from_fn(|| docker.accept().ok()).count();
    assert!((1..100).contains(&asked), "{asked} questions were asked");

    let status = status();
    let suppressed =
        |reason: SuppressionReason| status.suppressed.iter().find(|of| of.reason() == reason).map_or(0, |of| of.count);
    let left = (CGROUPS - CAPTURES) as u64;
    assert_eq!((suppressed(SuppressionReason::Budget), status.failures), (left, 0), "{status:?}");
    let (buffer, recorder, records) =
        (test.agent.buffer().clone(), test.agent.recorder().clone(), test.dir.path().join("records/cpuidle"));
    let queue = buffer.queues().pop().unwrap();
    test.agent.stop().await;
    let lost = buffer.counters(queue.epoch);
    let lost = lost.iter().filter(|lost| lost.reason.0 == LossReason::CaptureLimit as i32);
    assert_eq!(lost.map(|lost| (lost.tracer.as_str(), lost.count)).collect::<Vec<_>>(), [("cpuidle", left)]);
    let text = std::fs::read_to_string(records.join("records.jsonl")).unwrap();
    assert_eq!((text.lines().count(), recorder.stats().lines_dropped), (CGROUPS + CAPTURES, 0));
}
