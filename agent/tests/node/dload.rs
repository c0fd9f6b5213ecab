use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::LazyLock,
};

use galen_agent::cgroup::Version;
use galen_proto::v1::{Event, EventKind};

use crate::support::{Cgroup, Process, TestAgent, cpu_roots, data, until};

/// The program of `blocked.c`.
static BLOCKED: LazyLock<PathBuf> = LazyLock::new(|| {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/node/blocked.c");
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    // Another run of the tests may be at it.
    let unfinished = folder.join(format!("blocked-{}", std::process::id()));
    let built = Command::new("cc").args(["-O1", "-pthread", "-o"]).arg(&unfinished).arg(source).status();
    assert!(built.is_ok_and(|status| status.success()), "cannot compile tests/node/blocked.c with cc");
    fs::rename(unfinished, folder.join("blocked")).unwrap();
    folder.join("blocked")
});

/// The rule with its threshold of 5, averaged over so short a time that 8 tasks are over it after two seconds.
async fn agent() -> TestAgent {
    TestAgent::only("dload", &[("tracers.dload.average_over", "1s")]).await
}

fn create(version: Version, name: &str) -> Option<Cgroup> {
    let roots = cpu_roots(version)?;
    Some(Cgroup::create(&roots.iter().map(AsRef::as_ref).collect::<Vec<_>>(), name))
}

/// Processes with as many threads each, once all of them wait.
async fn block(cgroup: &Cgroup, processes: usize, threads: usize) -> Vec<Process> {
    let blocked: Vec<Process> =
        (0..processes).map(|_| cgroup.start(&format!("exec {} {threads}", BLOCKED.display()))).collect();
    let waits = |stat: &Path| fs::read_to_string(stat).is_ok_and(|text| text.contains("(blocked) D "));
    let waiting = |process: &Process| {
        let tasks = fs::read_dir(format!("/proc/{}/task", process.0.id())).into_iter().flatten().flatten();
        tasks.filter(|task| waits(&task.path().join("stat"))).count()
    };
    until("all wait", || blocked.iter().all(|process| waiting(process) == threads)).await;
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
    assert_eq!(evidence["known_issue"], "child of vfork does not exec", "{evidence}");
    assert!(evidence["stack"].as_str().unwrap().contains("vfork"), "{evidence}");
    let group = &evidence["stacks"][0];
    assert_eq!(
        (&group["count"], &group["tasks"][0]["name"], &group["tasks"][0]["count"]),
        (&8.into(), &"blocked".into(), &8.into())
    );
    assert!(group["longest_waiting_seconds"].as_f64() >= group["shortest_waiting_seconds"].as_f64(), "{group}");
    assert!(group["shortest_waiting_seconds"].as_f64() > Some(0.0), "{group}");
    let tasks: serde_json::Value = serde_json::from_slice(&capture.attachments[0].content).unwrap();
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
        let other = agent.events().into_iter().find(|event| {
            let cgroup = event.container.as_ref().map(|container| container.cgroup.as_str());
            cgroup.is_some_and(|cgroup| container.starts_with(cgroup) && cgroup != container)
        });
        assert!(other.is_none(), "an ancestor was told too: {other:?}");
    }
}
