use galen_proto::v1::{Event, EventKind};

use crate::support::{Cgroup, TestAgent, data, hierarchies, memory_limit_file, ticks};

/// What this process takes at a time, and at most.
const PIECE: usize = 64 << 20;
const PIECES: usize = 24;

#[tokio::test]
async fn a_burst_of_memory_is_told_with_the_process_that_took_it() {
    let test = TestAgent::only(
        "memburst",
        &[
            ("tracers.memburst.delta_memory_burst", "1"),
            ("tracers.memburst.delta_anon_threshold", "0"),
            ("tracers.memburst.dump_process_max_num", "1000"),
        ],
    )
    .await;
    let mut held = Vec::new();
    // With thresholds as low as these, every cgroup is told too.
    let seen = test.event("trigger", |event| event.kind() == EventKind::Trigger && event.container.is_none());
    tokio::pin!(seen);
    let trigger = loop {
        tokio::select! {
            trigger = &mut seen => break trigger,
            () = tokio::time::sleep(std::time::Duration::from_millis(300)), if held.len() < PIECES => held.push(vec![1u8; PIECE]),
        }
    };
    assert_eq!(data(&trigger)["compared_with"], "least");
    assert!(data(&trigger)["anon_bytes"].as_u64() > data(&trigger)["anon_before_bytes"].as_u64());
    let of_run = |event: &Event| event.kind() == EventKind::Capture && event.run_id == trigger.run_id;
    let capture = test.event("capture", of_run).await;
    let processes = data(&capture)["processes"].as_array().unwrap().clone();
    let own = processes.iter().find(|process| process["pid"] == std::process::id()).expect("this process is not told");
    // What was taken after the walk is not in it.
    assert!(own["rss_bytes"].as_u64() >= Some(PIECE as u64));
    drop(held);
    assert_eq!(data(&trigger)["grew"], "anon");
    assert!(trigger.explanation.contains("rule:"), "{}", trigger.explanation);
}

#[tokio::test]
async fn a_workload_that_comes_near_its_limit_is_told_with_the_process_that_grew() {
    let hierarchies = hierarchies();
    let Some((version, root)) = hierarchies.memory_tree() else {
        galen_scratch::skip("no memory controller is mounted on this machine");
        return;
    };
    let limit = memory_limit_file(version, root);
    let test = TestAgent::only("memburst", &[]).await;
    // What processes held before is known from the first tick on.
    ticks(&test, 2).await;
    let cgroup = Cgroup::create(&[root], "memburst");
    cgroup.set(limit, "134217728");
    // It holds what it is to pass on, and nobody reads on.
    let _holder = cgroup.start("head -c 104857600 /dev/zero | tail -c 104857600 | sleep 600");
    let trigger = test.kind_in(EventKind::Trigger, &cgroup.path).await;
    let values = data(&trigger);
    assert_eq!((values["capacity_bytes"].as_u64(), values["grew"].as_str()), (Some(134_217_728), Some("anon")));
    assert!(values["anon_percent"].as_f64() >= Some(70.0), "{values}");
    let capture = test.kind_in(EventKind::Capture, &cgroup.path).await;
    let first = data(&capture)["processes"][0].clone();
    assert_eq!((first["name"].as_str(), first["cgroup"].as_str()), (Some("tail"), Some(cgroup.path.as_str())));
    assert!(first["growth_bytes"].as_u64() > Some(80 << 20), "{first}");
}
