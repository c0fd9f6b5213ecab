use galen_agent::{cgroup::Version, tracers::Shipped};
use galen_proto::v1::{Event, EventKind};

use crate::support::{Cgroup, TestAgent, agent_that_has_looked, cpu_roots, data, workload};

/// Low thresholds, because other tests want the same CPUs; only the cgroups of one test.
async fn agent(include: &str, more: &[(&str, &str)]) -> TestAgent {
    let include_setting = format!("['^/galen-test-{}-{include}']", std::process::id());
    let settings = [
        ("tracers.cpuidle.window", "2s"),
        ("tracers.cpuidle.run_tracing_tool_timeout", "1s"),
        ("tracers.cpuidle.user_threshold", "4"),
        ("tracers.cpuidle.delta_user_threshold", "3"),
        ("tracers.cpuidle.include", include_setting.as_str()),
        ("tracers.cpusys.enabled", "false"),
        ("tracers.memburst.enabled", "false"),
        ("tracers.iotracer.enabled", "false"),
        ("tracers.oom.enabled", "false"),
        ("tracers.waitrate.enabled", "false"),
    ];
    agent_that_has_looked::<Shipped>(include, &[&settings[..], more].concat()).await
}

fn create(version: Version, name: &str) -> Option<Cgroup> {
    let roots = cpu_roots(version)?;
    Some(Cgroup::create(&roots.iter().map(AsRef::as_ref).collect::<Vec<_>>(), name))
}

/// A burst gives a trigger, and a capture of the same run with a profile.
async fn is_caught(agent: &TestAgent, cgroup: &str) -> (Event, Event) {
    let trigger = agent.kind_in(EventKind::Trigger, cgroup).await;
    let capture = agent.kind_in(EventKind::Capture, cgroup).await;
    assert_eq!(trigger.run_id, capture.run_id);
    assert_eq!(trigger.tracer, "cpuidle");
    assert_eq!(data(&trigger)["rules"][0], "user", "{}", trigger.summary);
    assert!(data(&trigger)["user_percent"].as_f64() > data(&trigger)["user_percent_threshold"].as_f64());
    assert!(data(&capture)["samples"].as_u64() > Some(0), "{}", capture.summary);
    let names: Vec<_> = capture.attachments.iter().map(|attachment| attachment.name.as_str()).collect();
    assert_eq!(names, ["after.pb.gz", "before.pb.gz"]);
    assert!(data(&trigger)["recent"].as_array().is_some_and(|ticks| !ticks.is_empty()), "{:?}", data(&trigger));
    (trigger, capture)
}

#[tokio::test]
async fn a_burst_in_a_new_cgroup_of_version_1_is_caught_and_lies_in_the_local_file_too() {
    let test = agent("v1", &[]).await;
    let Some(cgroup) = create(Version::V1, "v1") else { return };
    cgroup.set("cpu.cfs_quota_us", "50000");
    let _spinning = cgroup.spin();
    let (trigger, capture) = is_caught(&test, &cgroup.path).await;
    assert_eq!(data(&trigger)["capacity_cpus"], 0.5);
    assert_eq!(data(&trigger)["cgroup_version"], 1);

    let (triggers, captures) = {
        let status = test.agent.statuses().get("cpuidle").unwrap().snapshot();
        (status.triggers, status.captures)
    };
    assert_eq!((triggers, captures), (1, 1));
    let dir = test.dir.path().join("records/cpuidle");
    let queue = test.agent.buffer().queues().pop().unwrap();
    test.agent.stop().await;
    let text = std::fs::read_to_string(dir.join("records.jsonl")).unwrap();
    let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0]["id"], format!("test/{:016x}/1", queue.epoch));
    assert_eq!(
        (lines[0]["run_id"].as_str(), lines[1]["kind"].as_str()),
        (Some(trigger.run_id.as_str()), Some("capture"))
    );
    let profile = std::fs::read(dir.join(lines[1]["attachments"][0]["file"].as_str().unwrap())).unwrap();
    assert_eq!(profile, capture.attachments[0].content);
}

#[tokio::test]
async fn a_burst_in_a_cgroup_of_version_2_is_caught() {
    let agent = agent("v2", &[]).await;
    let Some(cgroup) = create(Version::V2, "v2") else { return };
    let _spinning = cgroup.spin();
    let (trigger, _) = is_caught(&agent, &cgroup.path).await;
    assert_eq!(data(&trigger)["cgroup_version"], 2);
}

#[tokio::test]
async fn a_burst_in_a_cgroup_that_was_there_before_the_agent_is_caught() {
    let Some(cgroup) = create(Version::V1, "before") else { return };
    let agent = agent("before", &[]).await;
    // What it did before it burst has to be known for about a second.
    let mut ticker = agent.agent.ticker();
    for _ in 0..2 {
        ticker.tick().await;
    }
    let _spinning = cgroup.spin();
    is_caught(&agent, &cgroup.path).await;
}

#[tokio::test]
async fn what_runs_in_a_nested_cgroup_is_the_containers() {
    let id = "c0ffee".repeat(10) + "c0de";
    let agent = agent("nested", &[]).await;
    let Some(inner) = create(Version::V1, &format!("nested/{id}/inner/most")) else { return };
    let _spinning = inner.spin();
    let container = inner.path.strip_suffix("/inner/most").unwrap();
    let (trigger, _) = is_caught(&agent, container).await;
    let told = trigger.container.unwrap();
    assert_eq!((told.id.as_str(), told.runtime.as_str()), (id.as_str(), "docker"));
    assert!(agent.events().iter().all(|event| event.run_id == trigger.run_id));
}

#[tokio::test]
async fn of_plain_cgroups_above_each_other_the_one_that_runs_is_blamed() {
    let agent = agent("plain", &[]).await;
    let Some(inner) = create(Version::V1, "plain/outer/inner") else { return };
    let _spinning = inner.spin();
    let (trigger, _) = is_caught(&agent, &inner.path).await;
    assert!(agent.events().iter().all(|event| event.run_id == trigger.run_id));
}

#[tokio::test]
async fn every_cgroup_that_bursts_is_told_and_what_finds_no_room_is_counted() {
    let more = [
        ("tracers.cpuidle.run_tracing_tool_timeout", "30s"),
        ("tracers.cpuidle.user_threshold", "80"),
        ("budget.max_concurrent_captures", "2"),
    ];
    let test = agent("many", &more).await;
    let names = ["many/a", "many/b", "many/c"];
    let Some(cgroups) = names.iter().map(|name| create(Version::V1, name)).collect::<Option<Vec<_>>>() else { return };
    let spin = |cgroup: &Cgroup| {
        cgroup.set("cpu.cfs_quota_us", "10000");
        cgroup.spin()
    };
    let _spinning: Vec<_> = cgroups.iter().map(spin).collect();
    let mut captured = 0;
    for cgroup in &cgroups {
        let trigger = test.kind_in(EventKind::Trigger, &cgroup.path).await;
        captured += u32::from(data(&trigger)["capture"] == true);
    }
    assert_eq!(captured, 2);
    let queue = test.agent.buffer().queues().pop().unwrap();
    // Stopping ends the captures early; they are told all the same, with what they have.
    let (buffer, dir) = (test.agent.buffer().clone(), test.dir);
    test.agent.stop().await;
    let counters = buffer.counters(queue.epoch);
    let limit = counters.iter().find(|counter| counter.reason.0 == galen_proto::v1::LossReason::CaptureLimit as i32);
    assert_eq!(limit.map(|counter| (counter.tracer.as_str(), counter.count)), Some(("cpuidle", 1)));
    let text = std::fs::read_to_string(dir.path().join("records/cpuidle/records.jsonl")).unwrap();
    let cut = text.lines().filter(|line| line.contains("\"cut_short\":true")).count();
    assert_eq!(cut, 2);
}

#[tokio::test]
async fn what_burst_before_the_trigger_is_first_in_before_also_when_its_process_is_gone() {
    let test = agent("past", &[]).await;
    let Some(cgroup) = create(Version::V1, "past") else { return };
    let spinning = cgroup.start(&format!("exec {} spin", workload().display()));
    test.kind_in(EventKind::Trigger, &cgroup.path).await;
    drop(spinning);
    let capture = test.kind_in(EventKind::Capture, &cgroup.path).await;
    let before = &data(&capture)["before"];
    assert_eq!(before["hottest_functions"][0]["name"], "galen_hot_loop", "{before:#}");
    assert!(before["duration_seconds"].as_f64() > Some(0.0), "{before:#}");
    assert!(capture.summary.contains("galen_hot_loop"), "{}", capture.summary);
}
