//! The example of `docs/adding-a-tracer.md`, compiled and run.

use galen_agent::{TracerSet, tracers::Shipped};
use galen_proto::v1::EventKind;

use crate::support::{TestAgent, data};

#[allow(dead_code, unreachable_pub, reason = "its main is not run here")]
#[path = "../../examples/loadavg_tracer.rs"]
mod loadavg_tracer;

const EXAMPLE: &str = include_str!("../../examples/loadavg_tracer.rs");
const GUIDE: &str = include_str!("../../../docs/adding-a-tracer.md");

#[tokio::test]
async fn the_tracer_of_the_guide_runs_beside_the_shipped_ones() {
    let test = TestAgent::start::<loadavg_tracer::WithLoadAverage>(&[("tracers.loadavg.threshold", "0")]).await;
    let event = test.event("event of the example", |event| event.tracer == "loadavg").await;
    assert_eq!(event.kind(), EventKind::Event);
    assert!(data(&event)["load_per_cpu"].as_f64() > Some(0.0));
    let names: Vec<_> = test.agent.statuses().snapshot().into_iter().map(|status| status.name).collect();
    let shipped = Shipped::factories().into_iter().map(|factory| factory.name);
    assert_eq!(names, shipped.chain(["loadavg"]).collect::<Vec<_>>());
    test.agent.stop().await;
}

#[test]
fn every_code_block_of_the_guide_is_in_the_example() {
    let blocks: Vec<&str> = GUIDE.split("```rust\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert!(blocks.len() >= 5);
    for block in blocks {
        assert!(EXAMPLE.contains(block), "not in agent/examples/loadavg_tracer.rs:\n{block}");
    }
}
