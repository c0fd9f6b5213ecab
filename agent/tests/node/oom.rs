use galen_agent::tracers::Shipped;
use galen_proto::v1::{EventKind, Severity};

use crate::support::{Cgroup, TestAgent, data, hierarchies, memory_limit_file, until};

#[tokio::test]
async fn a_kill_is_told_with_its_victim_and_memory_cgroup_also_when_the_cgroup_is_gone() {
    let hierarchies = hierarchies();
    let Some((version, root)) = hierarchies.memory_tree() else {
        eprintln!("SKIPPED: no memory controller is mounted on this machine");
        return;
    };
    let limit = memory_limit_file(version, root);
    let test = TestAgent::start::<Shipped>(&[
        ("tracers.cpuidle.enabled", "false"),
        ("tracers.iotracer.enabled", "false"),
        ("tracers.memburst.enabled", "false"),
        ("tracers.waitrate.enabled", "false"),
    ])
    .await;
    // The kernel lists the link of an attached program with the descriptor that holds it.
    until("the program is attached", || {
        let programs = std::fs::read_dir("/proc/self/fdinfo").unwrap().flatten();
        programs.filter_map(|entry| std::fs::read_to_string(entry.path()).ok()).any(|info| info.contains("mark_victim"))
    })
    .await;
    let cgroup = Cgroup::create(&[root], "oom");
    cgroup.set(limit, "33554432");
    let mut victim = cgroup.start("exec tail /dev/zero");
    let pid = victim.0.id();
    until("the victim is dead", || victim.0.try_wait().unwrap().is_some()).await;
    let path = cgroup.path.clone();
    drop(cgroup);

    let event = test.event("kill", |event| event.kind() == EventKind::Event).await;
    assert_eq!((event.tracer.as_str(), event.severity()), ("oom", Severity::Critical));
    let data = data(&event);
    assert_eq!((&data["victim"]["pid"], data["victim"]["name"].as_str()), (&pid.into(), Some("tail")), "{data}");
    assert_eq!(data["victim"]["cgroup"].as_str(), Some(path.as_str()));
    assert_eq!(data["trigger"]["name"], "tail");
    assert!(data["victim"]["memory"]["anon_bytes"].as_u64() > Some(16 << 20));
    assert!(data["host_memory"]["total_bytes"].as_u64() > Some(0));
    assert_eq!(event.container.unwrap().cgroup, path);
    assert!(event.summary.contains("OOM kill of tail"), "{}", event.summary);
}
