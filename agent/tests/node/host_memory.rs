use galen_agent::tracers::Shipped;
use galen_proto::v1::EventKind;

use crate::support::{TestAgent, data};

/// What this process takes at a time, and at most.
const PIECE: usize = 64 << 20;
const PIECES: usize = 24;

#[tokio::test]
async fn a_burst_of_memory_is_told_with_the_process_that_took_it() {
    let test = TestAgent::start::<Shipped>(&[
        ("tracers.memburst.delta_memory_burst", "1"),
        ("tracers.memburst.delta_anon_threshold", "0"),
        ("tracers.memburst.dump_process_max_num", "1000"),
        ("tracers.cpuidle.enabled", "false"),
        ("tracers.oom.enabled", "false"),
        ("tracers.iotracer.enabled", "false"),
    ])
    .await;
    let mut held = Vec::new();
    let seen = test.event("trigger", |event| event.kind() == EventKind::Trigger);
    tokio::pin!(seen);
    let trigger = loop {
        tokio::select! {
            trigger = &mut seen => break trigger,
            () = tokio::time::sleep(std::time::Duration::from_millis(300)), if held.len() < PIECES => held.push(vec![1u8; PIECE]),
        }
    };
    assert_eq!(data(&trigger)["compared_with"], "least");
    assert!(data(&trigger)["anon_bytes"].as_u64() > data(&trigger)["anon_before_bytes"].as_u64());
    let capture = test.event("capture", |event| event.kind() == EventKind::Capture).await;
    assert_eq!(capture.run_id, trigger.run_id);
    let processes = data(&capture)["processes"].as_array().unwrap().clone();
    let own = processes.iter().find(|process| process["pid"] == std::process::id()).expect("this process is not told");
    assert!(own["rss_bytes"].as_u64() >= Some((held.len() * PIECE) as u64));
    assert!(own["growth_bytes"].is_i64());
}
