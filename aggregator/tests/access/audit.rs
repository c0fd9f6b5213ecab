//! The audit log of an aggregator that asks who is there: every call that changes something, with the name.

use bytes::Bytes;
use galen_aggregator::access::{CALLS, Need};
use galen_certificates::Subject;
use galen_proto::v1::{
    CommandOutcome, RecordNowRequest, ReloadSettingsRequest, SetTracerRequest, Setting, TracerStatus,
    TriggerTracerRequest,
};
use galen_runtime::access::Role;
use prost::Message;
use serde_json::Value;

use crate::{
    certificates::{Fleet, days},
    guarded::{Guarded, Way, bearer},
    support::{ask_bytes, hello, queue},
};

/// A request for each call that changes something.
fn requests() -> Vec<(&'static str, &'static str, Bytes)> {
    let (node, tracer) = (String::from("web-1"), String::from("oom"));
    let set = vec![Setting { key: "log.filter".into(), value: "debug".into() }];
    let bytes = |message: Vec<u8>| Bytes::from(message);
    vec![
        (
            "/galen.v1.ControlService/RecordNow",
            "record_now",
            bytes(RecordNowRequest { node: node.clone() }.encode_to_vec()),
        ),
        (
            "/galen.v1.ControlService/ReloadSettings",
            "reload_settings",
            bytes(ReloadSettingsRequest { node: node.clone(), set, unset: Vec::new() }.encode_to_vec()),
        ),
        (
            "/galen.v1.ControlService/SetTracer",
            "set_tracer",
            bytes(
                SetTracerRequest { node: node.clone(), tracer: tracer.clone(), enabled: Some(false) }.encode_to_vec(),
            ),
        ),
        (
            "/galen.v1.ControlService/TriggerTracer",
            "trigger_tracer",
            bytes(TriggerTracerRequest { node, tracer, cgroup: String::new() }.encode_to_vec()),
        ),
    ]
}

fn lines(guarded: &Guarded) -> Vec<Value> {
    let text = std::fs::read_to_string(guarded.dir().join("audit.jsonl")).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn every_call_that_changes_something_is_written_down_with_the_name_of_who_asked() {
    let changes: Vec<&str> = CALLS
        .iter()
        .filter(|call| matches!(call.need, Need::Role(Role::Operate | Role::Admin)))
        .map(|call| call.path)
        .collect();
    assert_eq!(requests().iter().map(|(path, ..)| *path).collect::<Vec<_>>(), changes, "a call has no request here");

    let fleet = Fleet::start().await;
    let guarded = Guarded::beside(&fleet).await;
    let node = fleet.files(Subject::Node("web-1"), days(1));
    let channel = guarded.channel(&Way::Tls(&fleet, Some(node))).await;
    let mut agent = crate::support::Agent::over(channel, crate::support::SESSION).await.unwrap();
    let oom = TracerStatus { name: "oom".into(), ..TracerStatus::default() };
    let greeting = galen_proto::v1::Hello { tracers: vec![oom], ..hello("web-1", &[queue(1, 1)]) };
    agent.send(galen_proto::v1::agent_message::Message::Hello(greeting)).await;
    agent.welcome().await;

    let admin = Way::Tls(&fleet, Some(fleet.files(Subject::User("admin"), days(1))));
    let anonymous = Way::Tls(&fleet, None);
    let token = bearer(guarded.token(Role::Admin));
    for (way, authorization, by) in [(&admin, None, "certificate"), (&anonymous, Some(token.as_str()), "token")] {
        let channel = guarded.channel(way).await;
        for (path, call, message) in requests() {
            let before = lines(&guarded).len();
            let answering = async {
                let command = agent.command().await;
                agent.answers(command.id, CommandOutcome::Done, "").await;
            };
            let (asked, ()) = tokio::join!(ask_bytes(channel.clone(), path, authorization, message), answering);
            asked.unwrap();
            let lines = lines(&guarded).split_off(before);
            assert_eq!(lines.len(), 2, "{path}: {lines:?}");
            for line in &lines {
                let told = ["who", "by", "role", "call", "node"].map(|key| line[key].as_str().unwrap());
                assert_eq!(told, ["admin", by, "admin", call, "web-1"], "{path}");
                assert!(line["address"].as_str().unwrap().starts_with("127.0.0.1:"), "{line}");
            }
            assert_eq!((&lines[0]["outcome"], &lines[1]["outcome"]), (&Value::Null, &Value::from("done")));
        }
    }
    // What is refused leaves the log of what was done alone, so that nobody fills it who may not.
    let before = lines(&guarded).len();
    let reader = Way::Tls(&fleet, Some(fleet.files(Subject::User("read"), days(1))));
    for (path, _, message) in requests() {
        ask_bytes(guarded.channel(&reader).await, path, None, message).await.unwrap_err();
    }
    assert_eq!(lines(&guarded).len(), before);
}
