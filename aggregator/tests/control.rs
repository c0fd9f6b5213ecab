//! What is asked of nodes, and agents that answer as they like.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{path::Path, time::Duration};

use futures_util::{StreamExt, stream::FuturesUnordered};
use galen_proto::v1::{
    CommandOutcome, ControlResponse, Hello, Label, Measure, MeasureKind, RecordNowRequest, ReloadSettings,
    ReloadSettingsRequest, SetTracer, SetTracerRequest, Setting, TracerStatus, command,
    control_service_client::ControlServiceClient,
};
use support::{Agent, Aggregator, PATIENCE, hello, queue};
use tempfile::tempdir;
use tokio::time::timeout;
use tonic::{Code, Status, transport::Channel};

/// More than an agent is given, or has waiting, at a time.
const MANY: usize = 40;

type Control = ControlServiceClient<Channel>;

async fn control(aggregator: &Aggregator) -> Control {
    ControlServiceClient::connect(format!("http://{}", aggregator.addresses.grpc)).await.unwrap()
}

async fn node(aggregator: &Aggregator) -> Agent {
    aggregator.welcomed(greeting(&[])).await.0
}

fn greeting(overridden: &[&str]) -> Hello {
    let tracer = |name: &&str| TracerStatus {
        name: (*name).into(),
        overridden: overridden.contains(name),
        ..TracerStatus::default()
    };
    Hello { tracers: ["oom", "cpuidle"].iter().map(tracer).collect(), ..hello("web-1", &[queue(1, 1)]) }
}

async fn set(control: &mut Control, tracer: &str, enabled: Option<bool>) -> Result<ControlResponse, Status> {
    let request = SetTracerRequest { node: "web-1".into(), tracer: tracer.into(), enabled };
    Ok(timeout(PATIENCE, control.set_tracer(request)).await.unwrap()?.into_inner())
}

fn set_tracer(tracer: &str, enabled: Option<bool>) -> Option<command::Command> {
    Some(command::Command::SetTracer(SetTracer { tracer: tracer.into(), enabled }))
}

fn audit(dir: &Path) -> String {
    std::fs::read_to_string(dir.join("audit.jsonl")).unwrap()
}

#[tokio::test]
async fn the_answer_of_the_agent_is_the_answer_of_the_call() {
    let dir = tempdir().unwrap();
    let aggregator = Aggregator::start(dir.path()).await;
    let (mut control, mut agent) = (control(&aggregator).await, node(&aggregator).await);
    for (outcome, name) in
        [(CommandOutcome::Done, "done"), (CommandOutcome::Failed, "failed"), (CommandOutcome::Unknown, "unknown")]
    {
        let answering = async {
            let command = agent.command().await;
            assert_eq!(command.command, set_tracer("oom", Some(false)));
            assert!(command.timeout_millis > 0);
            // An answer to what was never asked goes nowhere.
            agent.answers(command.id + 1000, CommandOutcome::Done, "never asked").await;
            agent.answers(command.id, outcome, name).await;
        };
        let (response, ()) = tokio::join!(set(&mut control, "oom", Some(false)), answering);
        let expected = ControlResponse { kept: false, outcome: outcome.into(), detail: name.into() };
        assert_eq!(response.unwrap(), expected);
        assert!(audit(dir.path()).contains(&format!("\"outcome\":\"{name}\"")));
        assert!(audit(dir.path()).contains("\"who\":\"local\",\"by\":\"loopback\""));
        assert!(audit(dir.path()).contains("\"address\":\"127.0.0.1:"));
    }
    let figures = aggregator.metrics().await;
    assert_eq!(figures["galen_aggregator_control_sent_commands_total"], 3.0);
    assert_eq!(figures["galen_aggregator_control_answered_commands_total{outcome=\"failed\"}"], 1.0);
}

#[tokio::test]
async fn a_node_that_connects_is_told_what_holds_and_what_holds_no_more() {
    let dir = tempdir().unwrap();
    let aggregator = Aggregator::start(dir.path()).await;
    let mut control = control(&aggregator).await;
    let unknown = set(&mut control, "oom", Some(false)).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
    drop(node(&aggregator).await);
    // It may take a moment until the aggregator knows that it has left: then its answer is waited for in vain.
    assert!(set(&mut control, "oom", Some(false)).await.unwrap().kept);
    let setting = Setting { key: "log.filter".into(), value: "debug".into() };
    let reload = |set, unset| ReloadSettingsRequest { node: "web-1".into(), set, unset };
    let kept = control.reload_settings(reload(vec![setting.clone()], Vec::new())).await.unwrap().into_inner();
    assert!(kept.kept);
    let away = control.record_now(RecordNowRequest { node: "web-1".into() }).await.unwrap_err();
    assert_eq!(away.code(), Code::FailedPrecondition);

    aggregator.stop().await;
    let aggregator = Aggregator::start(dir.path()).await;
    let (mut agent, _) = aggregator.welcomed(greeting(&["cpuidle"])).await;
    let laid = command::Command::ReloadSettings(ReloadSettings { settings: vec![setting.clone()] });
    for expected in [Some(laid), set_tracer("oom", Some(false)), set_tracer("cpuidle", None)] {
        let command = agent.command().await;
        assert_eq!(command.command, expected);
        agent.answers(command.id, CommandOutcome::Failed, "no").await;
    }
    // What the agent has laid already is not laid anew.
    let (mut agent, _) = aggregator.welcomed(Hello { settings: vec![setting], ..greeting(&["oom"]) }).await;
    assert_eq!(agent.command().await.command, set_tracer("oom", Some(false)));
}

#[tokio::test]
async fn a_node_that_does_not_answer_is_asked_a_bounded_number_of_things() {
    let dir = tempdir().unwrap();
    let aggregator = Aggregator::start(dir.path()).await;
    let control = control(&aggregator).await;
    let agent = node(&aggregator).await;
    let mut asking: FuturesUnordered<_> = (0..MANY)
        .map(|_| {
            let mut control = control.clone();
            async move { set(&mut control, "oom", Some(true)).await }
        })
        .collect();
    let busy = timeout(PATIENCE, asking.next()).await.unwrap().unwrap().unwrap_err();
    assert_eq!(busy.code(), Code::ResourceExhausted, "{busy}");
    // Those who wait are told when it leaves: what they asked is kept.
    drop(agent);
    let rest: Vec<_> = timeout(PATIENCE, asking.collect()).await.unwrap();
    let kept = rest.iter().filter(|answer| answer.as_ref().is_ok_and(|answer| answer.kept)).count();
    let busy = rest.iter().filter(|answer| answer.as_ref().is_err_and(|e| e.code() == Code::ResourceExhausted)).count();
    assert!(kept >= 8 && kept + busy == rest.len(), "{kept} kept, {busy} refused: {rest:?}");
}

#[tokio::test]
async fn nothing_is_done_that_cannot_be_written_down() {
    let dir = tempdir().unwrap();
    let aggregator = Aggregator::start(dir.path()).await;
    let (mut control, mut agent) = (control(&aggregator).await, node(&aggregator).await);
    std::fs::create_dir(dir.path().join("audit.jsonl")).unwrap();
    let refused = set(&mut control, "oom", Some(false)).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable, "{refused}");
    std::fs::remove_dir(dir.path().join("audit.jsonl")).unwrap();
    let answering = async {
        // The first that comes is this one.
        let command = agent.command().await;
        assert_eq!((command.id, command.command), (1, set_tracer("oom", Some(true))));
        agent.answers(command.id, CommandOutcome::Done, "").await;
    };
    assert!(tokio::join!(set(&mut control, "oom", Some(true)), answering).0.is_ok());
}

#[tokio::test]
async fn requests_that_are_wrong_are_refused_and_written_nowhere() {
    let dir = tempdir().unwrap();
    let aggregator = Aggregator::start(dir.path()).await;
    let mut control = control(&aggregator).await;
    let _agent = node(&aggregator).await;
    let ask = |node: &str, tracer: &str| SetTracerRequest { node: node.into(), tracer: tracer.into(), enabled: None };
    for (request, code) in [
        (ask("", "oom"), Code::InvalidArgument),
        (ask("web\n1", "oom"), Code::InvalidArgument),
        (ask(&"x".repeat(300), "oom"), Code::InvalidArgument),
        (ask("web-2", "oom"), Code::NotFound),
        (ask("web-1", ""), Code::InvalidArgument),
        (ask("web-1", "nothing"), Code::NotFound),
    ] {
        assert_eq!(control.set_tracer(request).await.unwrap_err().code(), code);
    }
    let many = (0..65).map(|key| Setting { key: format!("a.b{key}"), value: String::new() }).collect();
    let reload = ReloadSettingsRequest { node: "web-1".into(), set: many, unset: Vec::new() };
    assert_eq!(control.reload_settings(reload).await.unwrap_err().code(), Code::InvalidArgument);
    assert!(!dir.path().join("audit.jsonl").exists());
}

#[tokio::test]
async fn figures_of_agents_are_shown_together_and_by_node_to_who_asks_and_nonsense_is_counted() {
    let dir = tempdir().unwrap();
    let aggregator = Aggregator::with(support::settings(dir.path(), |config| config.sessions.max_figures = 3)).await;
    let measure = |name: &str, value| Measure {
        name: name.into(),
        kind: MeasureKind::Gauge.into(),
        labels: vec![Label { name: "disk".into(), value: "a\"\\b".into() }],
        value,
    };
    let mut agents = Vec::new();
    for node in ["web-1", "web-2"] {
        let (agent, _) = aggregator.welcomed(hello(node, &[queue(1, 1)])).await;
        let measures = vec![
            measure("galen_agent_a_bytes", 1.5),
            measure("galen_aggregator_log_size_bytes", 1.0),
            measure("galen_agent_b_bytes", 2.0),
        ];
        let beat = galen_proto::v1::Heartbeat { measures, measures_left_out: 4, ..Default::default() };
        agent.heartbeat(beat).await;
        agents.push(agent);
    }
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let figures = loop {
        let figures = aggregator.metrics().await;
        if figures["galen_aggregator_fleet_left_out_figures"] == 8.0 {
            break figures;
        }
        assert!(tokio::time::Instant::now() < deadline, "{figures:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!(figures["galen_fleet_a_bytes{disk=\"a\\\"\\\\b\"}"], 3.0, "{figures:?}");
    assert!(figures.keys().all(|name| !name.contains("web-1")), "{figures:?}");
    let nodes = support::http_get(aggregator.addresses.http, "/metrics/nodes").await;
    assert!(nodes.contains("galen_agent_a_bytes{node=\"web-1\",disk=\"a\\\"\\\\b\"} 1.5\n"), "{nodes}");
    let shards = ["0/2", "1/2"].map(|shard| format!("/metrics/nodes?shard={shard}"));
    let mut lines = 0;
    for shard in shards {
        lines += support::http_get(aggregator.addresses.http, &shard).await.matches("galen_agent_a_bytes{").count();
    }
    assert_eq!(lines, 2);
    let wrong = support::http_get(aggregator.addresses.http, "/metrics/nodes?shard=2/2").await;
    assert!(wrong.starts_with("HTTP/1.1 400") && wrong.contains("`2/2` is no shard"), "{wrong}");
    assert_eq!(figures["galen_aggregator_fleet_kept_figures"], 3.0);
    assert_eq!(figures["galen_aggregator_fleet_refused_figures_total{reason=\"malformed\"}"], 2.0);
    assert_eq!(figures["galen_aggregator_fleet_refused_figures_total{reason=\"full\"}"], 1.0);
    assert!(!figures.contains_key("galen_aggregator_log_size_bytes{node=\"web-1\",disk=\"a\\\"\\\\b\"}"));
}
