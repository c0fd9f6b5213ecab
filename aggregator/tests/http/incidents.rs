//! Incidents: on the page, and as they change.

use std::time::Instant;

use galen_proto::v1::{Event, EventKind};
use prost::Message;
use serde_json::Value;
use tempfile::tempdir;
use tokio::net::TcpStream;

use crate::{
    client::get,
    events::{NOON, event, profile, send, stored, with_events},
    follow::{follow_at, message},
    support::{Aggregator, PATIENCE, hello, queue},
};

const EVIL: &str = "<script>alert('x')</script>\u{202e}\" onload=\"y";

fn capture(run: &str) -> Event {
    let mut capture = Event {
        run_id: run.into(),
        kind: EventKind::Capture.into(),
        attachments: vec![profile()],
        ..event("cpuidle", NOON)
    };
    capture.container.as_mut().unwrap().image = format!("shop/{EVIL}");
    capture.summary = format!("profile of {EVIL}");
    capture
}

/// Once so many events are counted.
async fn incidents(aggregator: &Aggregator, events: u64) -> Value {
    let began = Instant::now();
    loop {
        let found = get(aggregator.addresses.http, "/api/v1/incidents").await.json();
        let counted: u64 =
            found["incidents"].as_array().unwrap().iter().map(|one| one["events"].as_u64().unwrap()).sum();
        if counted == events {
            return found["incidents"].clone();
        }
        assert!(counted < events && began.elapsed() < PATIENCE, "{counted} of {events} events are counted");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn incidents_are_on_the_page_with_their_counts_their_flame_graph_and_their_events_as_text() {
    let dir = tempdir().unwrap();
    let (aggregator, mut agent) = with_events(&dir, &[capture("1"), capture("2")]).await;
    let http = aggregator.addresses.http;
    let (mut other, _) = aggregator.welcomed(hello("web-2", &[queue(1, 1)])).await;
    send(&mut other, 1, vec![capture("3").encode_to_vec().into()]).await;
    send(&mut agent, 3, vec![Event { run_id: "4".into(), ..event("oom", NOON) }.encode_to_vec().into()]).await;
    stored(&aggregator, 4).await;
    let found = incidents(&aggregator, 4).await;
    assert_eq!(found.as_array().unwrap().len(), 2, "{found}");
    let common = found.as_array().unwrap().iter().find(|one| one["runs"] == 3).unwrap();
    let path = format!("/incidents/{}", common["id"].as_str().unwrap());

    for (page, says) in [
        ("/", vec![path.as_str(), ">cpuidle</a>", ">oom</a>", "<h2>Events</h2>"]),
        ("/incidents", vec![&path, ">cpuidle</a>", ">oom</a>", "<b>2</b> incidents", "<td class=\"number\">3</td>"]),
        ("/incidents?tracer=oom&state=open", vec![">oom</a>", "<b>1</b> incident"]),
        ("/incidents?state=closed", vec!["No incident matches"]),
        ("/incidents?workload=%3Cscript%3E", vec!["No incident matches"]),
        (&path, vec!["<b>3</b> runs on <b>2</b> nodes", "main", "flame.svg", "/events/web-1/0000000000c0ffee/2"]),
        ("/events/web-1/0000000000c0ffee/1", vec!["that of the incident", &path, "<b>3</b> runs on <b>2</b> nodes"]),
        ("/?query=tracer:oom", vec!["<b>1</b> event"]),
    ] {
        let answer = get(http, page).await;
        let text = answer.text();
        assert_eq!(answer.status, 200, "{page}: {text}");
        assert!(answer.header("content-security-policy").starts_with("default-src 'none'"), "{page}");
        for part in says {
            assert!(text.contains(part), "{page} does not say `{part}`: {text}");
        }
        assert!(
            !text.contains("<script") && !text.contains("\" onload=") && !text.contains('\u{202e}'),
            "{page}: {text}"
        );
    }
    assert!(!get(http, "/?query=tracer:oom").await.text().contains(&path));
    for (page, status) in [
        ("/incidents/nothing", 404),
        ("/incidents?state=gone", 400),
        ("/incidents?severity=bad", 400),
        ("/incidents?x=1", 400),
    ] {
        let answer = get(http, page).await;
        assert!(answer.status == status && answer.text().contains("role=\"alert\""), "{page}: {}", answer.text());
    }
    aggregator.stop().await;
}

#[tokio::test]
async fn a_follower_hears_of_open_incidents_and_of_each_change_as_cloudevents() {
    let dir = tempdir().unwrap();
    let (aggregator, mut agent) = with_events(&dir, &[Event { run_id: "1".into(), ..event("oom", NOON) }]).await;
    let http = aggregator.addresses.http;
    incidents(&aggregator, 1).await;
    let stream = TcpStream::connect(http).await.unwrap();
    let mut lines = follow_at("/api/v1/incidents/stream?tracer=oom&severity=warning", stream, http).await;
    let first = message(&mut lines).await;
    assert_eq!((&first["specversion"], &first["type"]), (&"1.0".into(), &"galen.incident.v1".into()));
    assert_eq!((&first["data"]["runs"], &first["data"]["state"]), (&1.into(), &"open".into()));
    assert_eq!(first["source"], format!("/incidents/{}", first["data"]["id"].as_str().unwrap()));
    assert_eq!(first["subject"], first["data"]["workload"]);

    let others = [event("cpuidle", NOON), Event { run_id: "2".into(), ..event("oom", NOON) }];
    send(&mut agent, 2, others.iter().map(|event| event.encode_to_vec().into()).collect()).await;
    let second = message(&mut lines).await;
    assert_eq!((&second["source"], &second["data"]["runs"]), (&first["source"], &2.into()));
    assert_ne!(second["id"], first["id"]);
    assert_eq!(get(http, "/api/v1/incidents/stream?severity=bad").await.status, 400);
    // A follower does not hold up the end.
    aggregator.stop().await;
}
