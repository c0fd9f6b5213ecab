use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use galen_agent::cgroup::Version;
use galen_proto::v1::{Event, EventKind};
use serde_json::Value;

use crate::{
    disks::{
        Mount,
        blocked::{sleeping, threads_in_state, waiting},
        run,
    },
    support::{Cgroup, Process, TestAgent, cpu_roots, data, until},
};

/// The rule with its threshold of 5, averaged over so short a time that 8 tasks are over it after two seconds.
const AVERAGE: (&str, &str) = ("tracers.dload.average_over", "1s");

async fn agent() -> TestAgent {
    TestAgent::only("dload", &[AVERAGE]).await
}

fn create(version: Version, name: &str) -> Option<Cgroup> {
    let roots = cpu_roots(version)?;
    Some(Cgroup::create(&roots.iter().map(AsRef::as_ref).collect::<Vec<_>>(), name))
}

/// Waits until so many threads of each process are in this state.
async fn all_in_state(processes: &[Process], threads: usize, state: char) {
    let settled = || processes.iter().all(|process| threads_in_state(process.0.id(), state) == threads);
    until(&format!("all are in state {state}"), settled).await;
}

/// Processes with as many threads each, once all of them wait.
async fn block(cgroup: &Cgroup, processes: usize, threads: usize) -> Vec<Process> {
    let blocked: Vec<Process> = (0..processes).map(|_| cgroup.start(&waiting(threads))).collect();
    all_in_state(&blocked, threads, 'D').await;
    blocked
}

async fn is_told(agent: &TestAgent, cgroup: &str) -> (Event, Event) {
    let trigger = agent.kind_in(EventKind::Trigger, cgroup).await;
    let capture = agent.kind_in(EventKind::Capture, cgroup).await;
    assert_eq!((trigger.tracer.as_str(), &trigger.run_id), ("dload", &capture.run_id));
    let told = data(&trigger);
    assert!(told["dload_avg"].as_f64() > told["threshold"].as_f64(), "{told}");
    assert!(trigger.explanation.contains("(rule: over 5)"), "{}", trigger.explanation);
    (trigger, capture)
}

async fn processes_are_told(version: Version, name: &str) {
    let Some(cgroup) = create(version, name) else { return };
    let _blocked = block(&cgroup, 8, 1).await;
    let agent = agent().await;
    let (trigger, capture) = is_told(&agent, &cgroup.path).await;
    let (told, evidence) = (data(&trigger), data(&capture));
    // Each parent has a child that sleeps.
    assert_eq!((&told["nr_uninterruptible"], &told["nr_sleeping"]), (&8.into(), &8.into()), "{told}");
    assert_eq!((&told["nr_iowait"], &told["nr_running"]), (&0.into(), &0.into()), "{told}");
    assert!(evidence["known_issue"].as_str().unwrap().starts_with("parent of vfork waits"), "{evidence}");
    assert!(evidence["stack"].as_str().unwrap().contains("vfork"), "{evidence}");
    let group = &evidence["stacks"][0];
    assert_eq!((&group["count"], &group["tasks"][0]["count"]), (&8.into(), &8.into()), "{group}");
    assert_eq!(group["tasks"][0]["name"], "blocked");
    assert!(group["longest_waiting_seconds"].as_f64() >= group["shortest_waiting_seconds"].as_f64(), "{group}");
    assert!(group["shortest_waiting_seconds"].as_f64() > Some(0.0), "{group}");
    let tasks: Value = serde_json::from_slice(&capture.attachments[0].content).unwrap();
    assert_eq!(tasks.as_array().unwrap().len(), 8);
    assert_eq!(tasks[0]["cgroup"], cgroup.path);
}

#[tokio::test]
async fn processes_that_wait_in_a_cgroup_of_version_1_are_told_with_their_stack() {
    processes_are_told(Version::V1, "dload-v1").await;
}

#[tokio::test]
async fn processes_that_wait_in_a_cgroup_of_version_2_are_told_with_their_stack() {
    processes_are_told(Version::V2, "dload-v2").await;
}

#[tokio::test]
async fn threads_in_nested_cgroups_are_their_containers() {
    let id = "d10ad0".repeat(10) + "c0de";
    for version in [Version::V1, Version::V2] {
        let Some(inner) = create(version, &format!("dload-{version:?}/{id}/inner/most")) else { continue };
        let _blocked = block(&inner, 1, 8).await;
        let agent = agent().await;
        let container = inner.path.strip_suffix("/inner/most").unwrap();
        let (trigger, capture) = is_told(&agent, container).await;
        let told = trigger.container.unwrap();
        assert_eq!((told.id.as_str(), told.runtime.as_str()), (id.as_str(), "docker"));
        assert_eq!(data(&capture)["stacks"][0]["count"], 8);
        let above = |event: &Event| {
            let cgroup = event.container.as_ref().map(|container| container.cgroup.as_str());
            cgroup.is_some_and(|cgroup| container.starts_with(cgroup) && cgroup != container)
        };
        let events = agent.events();
        assert!(!events.iter().any(above), "an ancestor was told too: {events:?}");
    }
}

/// Thawed when dropped: nobody who waits for it can be killed.
struct Frozen<'a>(&'a Path);

impl<'a> Frozen<'a> {
    fn freeze(path: &'a Path) -> Self {
        run("fsfreeze", &["--freeze", path.to_str().unwrap()]);
        Self(path)
    }
}

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        let _ = Command::new("fsfreeze").arg("--unfreeze").arg(self.0).status();
    }
}

#[tokio::test]
async fn writers_to_a_frozen_filesystem_are_told_and_why_they_wait() {
    let Some(cgroup) = create(Version::V1, "dload-frozen").or_else(|| create(Version::V2, "dload-frozen")) else {
        return;
    };
    let mount = Mount::create(16 << 20);
    let mut writers: Vec<Process> = Vec::new();
    let _frozen = Frozen::freeze(mount.path.path());
    let file = |n: usize| mount.path.path().join(n.to_string());
    writers.extend((0..8).map(|n| cgroup.start(&format!("exec dd if=/dev/zero count=1 of={}", file(n).display()))));
    all_in_state(&writers, 1, 'D').await;
    let agent = agent().await;
    let (_, capture) = is_told(&agent, &cgroup.path).await;
    let evidence = data(&capture);
    assert_eq!(evidence["known_issue"], "filesystem is frozen", "{evidence}");
    assert!(evidence["stack"].as_str().unwrap().contains("mnt_want_write"), "{evidence}");
    assert!(capture.summary.contains("8 of 8"), "{}", capture.summary);
}

#[tokio::test]
async fn what_waits_in_no_cgroup_is_the_hosts_and_a_sleeping_crowd_is_nobodys() {
    let (Some(v1), Some(v2)) =
        (cpu_roots(Version::V1).or(Some(Vec::new())), cpu_roots(Version::V2).or(Some(Vec::new())))
    else {
        return;
    };
    let Some(crowded) = create(Version::V1, "dload-crowd").or_else(|| create(Version::V2, "dload-crowd")) else {
        return;
    };
    let crowd = [crowded.start(&sleeping(10_000))];
    all_in_state(&crowd, 10_000, 'S').await;
    // More than all other tests of this file have in cgroups of their own.
    let leave: String =
        v1.iter().chain(&v2).map(|root| format!("echo $$ > {}/cgroup.procs; ", root.display())).collect();
    let mut command = Command::new("sh");
    command.args(["-c", &(leave + &waiting(200))]).stdout(Stdio::null()).stderr(Stdio::null());
    let blocked = [Process(command.spawn().unwrap())];
    all_in_state(&blocked, 200, 'D').await;
    let agent = agent().await;
    let of_host = |kind| move |event: &Event| event.kind() == kind && event.container.is_none();
    let trigger = agent.event("trigger of the host", of_host(EventKind::Trigger)).await;
    let capture = agent.event("capture of the host", of_host(EventKind::Capture)).await;
    assert!(data(&trigger)["nr_uninterruptible"].as_u64() >= Some(200), "{}", trigger.summary);
    assert!(data(&trigger)["nr_sleeping"].as_u64() > Some(10_000), "{}", data(&trigger));
    assert_eq!(data(&capture)["stacks"][0]["tasks"][0]["name"], "blocked", "{}", capture.summary);
    let quiet = |event: &Event| event.container.as_ref().is_some_and(|told| told.cgroup == crowded.path);
    assert!(!agent.events().iter().any(quiet));
}

#[tokio::test]
async fn without_iterators_procfs_tells_the_same() {
    let Some(cgroup) = create(Version::V1, "dload-procfs").or_else(|| create(Version::V2, "dload-procfs")) else {
        return;
    };
    let _blocked = block(&cgroup, 2, 4).await;
    let agent = agent().await;
    let (_, capture) = is_told(&agent, &cgroup.path).await;

    // Hides what programs need of the kernel, in a mount namespace of its own.
    let script = "mount --make-rprivate /sys && mount -t tmpfs none /sys/kernel/btf && exec \"$0\" \"$@\"";
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation=unchanged", "sh", "-c", script, env!("CARGO_BIN_EXE_galen-agent")]);
    let settings = [
        "aggregator.endpoint=http://127.0.0.1:1".to_owned(),
        format!("data_dir={}", folder.path().display()),
        format!("{}={}", AVERAGE.0, AVERAGE.1),
        "tracers.dload.interval=1s".to_owned(),
    ];
    command.args(settings.iter().flat_map(|setting| ["--set", setting])).stderr(Stdio::null());
    let _agent = Process(command.spawn().unwrap());
    let records = folder.path().join("records/dload/records.jsonl");
    let mut told = Vec::new();
    until("trigger and capture are in the file", || {
        let text = fs::read_to_string(&records).unwrap_or_default();
        let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        told = lines.filter(|line| line["container"]["cgroup"] == cgroup.path).collect();
        told.len() >= 2
    })
    .await;
    assert_eq!(told[0]["data"]["nr_running"], Value::Null, "{}", told[0]);
    let (evidence, other) = (data(&capture), &told[1]["data"]);
    assert_eq!(other["nr_uninterruptible"], 8, "{other}");
    let group = |evidence: &Value| (evidence["stacks"][0]["count"].clone(), evidence["stacks"][0]["frames"].clone());
    assert_eq!(group(&evidence), group(other));
    assert_eq!(evidence["known_issue"], other["known_issue"]);
}
