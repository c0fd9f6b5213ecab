use galen_agent::{cgroup::Version, tracers::Shipped};
use galen_proto::v1::{Event, EventKind, SuppressionReason};

use crate::support::{Cgroup, TestAgent, cpu_roots, data, until, workload};

/// Low thresholds, because others want the same CPUs.
const SETTINGS: [(&str, &str); 6] = [
    ("tracers.cpuidle.enabled", "false"),
    ("tracers.cpusys.window", "2s"),
    ("tracers.cpusys.sys_threshold", "10"),
    ("tracers.cpusys.delta_sys_threshold", "5"),
    ("tracers.cpusys.interval_tracing", "1s"),
    ("tracers.cpusys.run_tracing_tool_timeout", "2s"),
];

#[tokio::test]
async fn a_burst_of_time_in_the_kernel_is_caught_with_who_used_it() {
    let test = TestAgent::start::<Shipped>(&SETTINGS).await;
    // What was before has to be known for a window and a second.
    let mut ticker = test.agent.ticker();
    for _ in 0..4 {
        ticker.tick().await;
    }
    let Some(roots) = cpu_roots(Version::V1) else { return };
    let cgroup = Cgroup::create(&roots.iter().map(AsRef::as_ref).collect::<Vec<_>>(), "kernel");
    // Again and again: what others did may have been told just before.
    let burst = format!("while :; do timeout 5 {} kernel; sleep 7; done", workload().display());
    let _bursting: Vec<_> = (0..2).map(|_| cgroup.start(&burst)).collect();

    // Others use the kernel too, so it is any capture that has this cgroup.
    let listed = |event: &Event, list: &str, key: &str, name: &str| {
        let entries = data(event)["system_time"][list].as_array().cloned().unwrap_or_default();
        entries.into_iter().find(|entry| entry[key] == name)
    };
    let has_it = |event: &Event| {
        event.kind() == EventKind::Capture && listed(event, "containers", "cgroup", &cgroup.path).is_some()
    };
    let capture = test.event("capture of cpusys with the cgroup", has_it).await;
    let told = data(&capture);
    let process = listed(&capture, "processes", "name", "workload");
    assert!(process.is_some_and(|process| process["cgroup"] == *cgroup.path), "{told:#}");
    assert!(told["kernel_samples"].as_u64() > Some(0) && told["before"]["samples"].as_u64() > Some(0), "{told:#}");
    let names: Vec<_> = capture.attachments.iter().map(|attachment| attachment.name.as_str()).collect();
    assert_eq!(names, ["after.pb.gz", "before.pb.gz"]);

    let is_its = |event: &Event| event.kind() == EventKind::Trigger && event.run_id == capture.run_id;
    let trigger = test.event("trigger of the capture", is_its).await;
    let told = data(&trigger);
    assert!(trigger.container.is_none() && trigger.explanation.contains("rule: over 10 %"), "{}", trigger.explanation);
    assert!(told["system_percent"].as_f64() > told["system_percent_threshold"].as_f64(), "{told:#}");
    assert!(told["system_percent_delta"].as_f64() > told["system_percent_delta_threshold"].as_f64(), "{told:#}");

    // It went on after it was told, and whoever goes on is counted.
    let suppressed = || test.agent.statuses().get("cpusys").unwrap().snapshot().suppressed;
    let cooldown = SuppressionReason::Cooldown as i32;
    until("the burst is counted", || suppressed().iter().any(|told| told.reason == cooldown && told.count > 0)).await;
}
