use galen_proto::v1::{EventKind, Severity};

use crate::support::{Cgroup, TestAgent, data, hierarchies, memory_limit_file, ticks, until};

#[tokio::test]
async fn a_kill_is_told_with_its_victim_and_memory_cgroup_also_when_the_cgroup_is_gone() {
    let hierarchies = hierarchies();
    let Some((version, root)) = hierarchies.memory_tree() else {
        galen_scratch::skip("no memory controller is mounted on this machine");
        return;
    };
    let limit = memory_limit_file(version, root);
    let test = attached().await;
    let cgroup = Cgroup::create(&[root], "oom");
    cgroup.set(limit, "33554432");
    let mut victim = cgroup.start("exec tail /dev/zero");
    let pid = victim.0.id();
    until("the victim is dead", || victim.0.try_wait().unwrap().is_some()).await;
    let path = cgroup.path.clone();
    drop(cgroup);

    // The kernel tells every agent of every kill, those of other tests too.
    let event = test.kind_in(EventKind::Event, &path).await;
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

#[tokio::test]
async fn a_kill_is_told_with_what_is_left_in_the_cgroup_and_what_it_used_before() {
    let hierarchies = hierarchies();
    let Some((version, root)) = hierarchies.memory_tree() else {
        galen_scratch::skip("no memory controller is mounted on this machine");
        return;
    };
    let test = attached().await;
    let cgroup = Cgroup::create(&[root], "oom-left");
    cgroup.set(memory_limit_file(version, root), "33554432");
    let _bystander = cgroup.start("exec sleep 600");
    ticks(&test, 4).await;
    let _victim = cgroup.start("exec tail /dev/zero");

    let event = test.kind_in(EventKind::Event, &cgroup.path).await;
    let data = data(&event);
    assert!(data["processes"].as_array().unwrap().iter().any(|process| process["name"] == "sleep"), "{data}");
    let recent = data["recent_bytes"].as_array().unwrap();
    assert!(recent.len() >= 2 && recent.iter().all(|bytes| bytes.as_u64() <= Some(33_554_432)), "{data}");
}

/// An agent whose program is attached: the kernel lists the link with the descriptor that holds it.
async fn attached() -> TestAgent {
    let test = TestAgent::only("oom", &[]).await;
    until("the program is attached", || {
        let programs = std::fs::read_dir("/proc/self/fdinfo").unwrap().flatten();
        programs.filter_map(|entry| std::fs::read_to_string(entry.path()).ok()).any(|info| info.contains("mark_victim"))
    })
    .await;
    test
}
