//! From agents' streams to incidents: through every door, and over a restart.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{path::Path, time::Duration};

use galen_aggregator::Settings;
use galen_proto::v1::{
    Batch, Container, Event, EventKind, FollowIncidentsRequest, GetIncidentRequest, Incident, IncidentState,
    ListIncidentsRequest, ListIncidentsResponse, Severity, Times, incident_service_client::IncidentServiceClient,
};
use prost::Message;
use support::{Aggregator, EPOCH, PATIENCE, hello, http_get, queue, settings};
use tempfile::tempdir;
use tokio::time::{Instant, timeout};
use tonic::{Code, transport::Channel};

async fn start(dir: &Path) -> Aggregator {
    Aggregator::with(Settings { index: true, ..settings(dir, |_| {}) }).await
}

async fn client(aggregator: &Aggregator) -> IncidentServiceClient<Channel> {
    IncidentServiceClient::new(aggregator.endpoint().connect().await.unwrap())
}

/// A task hangs in the kernel, in a container of the shop.
fn event(kind: EventKind, run: &str, stack: &str) -> Event {
    Event {
        tracer: "dload".into(),
        run_id: run.into(),
        kind: kind.into(),
        severity: Severity::Warning.into(),
        summary: "12 tasks of web hang".into(),
        times: Some(Times { observed_unix_nanos: 7, ..Times::default() }),
        container: Some(Container { name: "web-1".into(), image: "shop/web:1".into(), ..Container::default() }),
        data: serde_json::json!({ "capture": true, "stack": stack }).to_string().into(),
        ..Event::default()
    }
}

async fn send(aggregator: &Aggregator, node: &str, first_seq: u64, events: &[Event]) {
    let next_seq = first_seq + events.len() as u64;
    let (mut agent, _) = aggregator.welcomed(hello(node, &[queue(first_seq, next_seq)])).await;
    let events: Vec<_> = events.iter().map(|event| event.encode_to_vec().into()).collect();
    agent.batch(Batch { epoch: EPOCH, first_seq, events, next_seq, ..Batch::default() }).await;
    agent.acknowledged(next_seq - 1).await;
}

/// Once all events are counted.
async fn list(client: &mut IncidentServiceClient<Channel>, events: u64) -> ListIncidentsResponse {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer = client.list_incidents(ListIncidentsRequest::default()).await.unwrap().into_inner();
        if answer.incidents.iter().map(|one| one.events).sum::<u64>() == events {
            return answer;
        }
        assert!(Instant::now() < deadline, "{answer:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn what_many_nodes_report_is_one_incident_through_every_door_and_after_a_restart() {
    let dir = tempdir().unwrap();
    let aggregator = start(dir.path()).await;
    for node in 0..20 {
        let run = format!("run-{node}");
        let events =
            [event(EventKind::Trigger, &run, ""), event(EventKind::Capture, &run, "wait_on_page\next4_sync\n")];
        send(&aggregator, &format!("node-{node}"), 1, &events).await;
    }
    send(&aggregator, "node-3", 3, &[event(EventKind::Capture, "rare", "rpc_wait\nnfs_read\n")]).await;

    let mut asked = client(&aggregator).await;
    let answer = list(&mut asked, 41).await;
    let mut found: Vec<_> = answer.incidents.iter().map(|one| (one.runs, one.events, one.nodes)).collect();
    found.sort_unstable();
    assert_eq!((found, answer.total, answer.lag), (vec![(1, 1, 1), (20, 40, 20)], 2, 0));
    let common = answer.incidents.iter().find(|one| one.runs == 20).unwrap();
    assert_eq!(common.frames, ["wait_on_page", "ext4_sync"]);
    assert_eq!((common.state(), common.presumed_runs, &*common.workload), (IncidentState::Open, 0, "shop/web"));

    let mut get = async |id: &str| asked.get_incident(GetIncidentRequest { id: id.into() }).await;
    assert_eq!(get(&common.id).await.unwrap().into_inner().id, common.id);
    assert_eq!(get(&common.fingerprint).await.unwrap().into_inner().id, common.id);
    assert_eq!(get("nothing").await.unwrap_err().code(), Code::NotFound);

    let http = aggregator.addresses.http;
    let page = http_get(http, "/api/v1/incidents?state=open&tracer=dload&severity=warning&limit=1").await;
    assert!(page.contains("\"total\":2") && page.contains("\"state\":\"open\""), "{page}");
    let page = http_get(http, "/api/v1/incidents?node=node-7&severity=info").await;
    assert!(page.contains("\"total\":1"), "{page}");
    let page = http_get(http, "/api/v1/incidents?severity=critical").await;
    assert!(page.contains("\"total\":0"), "{page}");
    let page = http_get(http, &format!("/api/v1/incidents/{}", common.id)).await;
    assert!(page.contains("\"runs\":20"), "{page}");
    for (path, status) in [("?state=gone", 400), ("?limit=0", 400), ("/nothing", 404)] {
        let answer = http_get(http, &format!("/api/v1/incidents{path}")).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{path}: {answer}");
    }
    aggregator.shows("galen_aggregator_incident_open_incidents{severity=\"warning\"}", 2.0).await;
    aggregator.shows("galen_aggregator_incident_joined_events_total", 41.0).await;
    aggregator.stop().await;

    let aggregator = start(dir.path()).await;
    let again = list(&mut client(&aggregator).await, 41).await;
    let sorted = |mut answer: ListIncidentsResponse| {
        answer.incidents.sort_by(|a, b| a.id.cmp(&b.id));
        answer.incidents
    };
    assert_eq!(sorted(again), sorted(answer));
    aggregator.stop().await;
}

#[tokio::test]
async fn who_follows_hears_of_an_incident_and_of_each_change() {
    let dir = tempdir().unwrap();
    let aggregator = start(dir.path()).await;
    let mut asked = client(&aggregator).await;
    send(&aggregator, "node-1", 1, &[event(EventKind::Trigger, "1", "")]).await;
    let request = FollowIncidentsRequest { tracer: "dload".into(), ..FollowIncidentsRequest::default() };
    let mut stream = asked.follow_incidents(request).await.unwrap().into_inner();
    let mut next = async || -> Incident {
        timeout(PATIENCE, stream.message()).await.expect("news in time").unwrap().expect("no end")
    };
    let first = next().await;
    assert_eq!((first.runs, first.frames.len()), (1, 0));
    send(&aggregator, "node-1", 2, &[event(EventKind::Capture, "1", "rpc_wait\nnfs_read\n")]).await;
    let second = next().await;
    assert_eq!((&second.id, second.runs, second.events), (&first.id, 1, 2));
    assert_eq!(second.frames, ["rpc_wait", "nfs_read"]);
    aggregator.stop().await;
}

#[tokio::test]
async fn where_incidents_are_turned_off_questions_about_them_are_refused() {
    let dir = tempdir().unwrap();
    let aggregator = Aggregator::with(settings(dir.path(), |config| config.incidents.enabled = false)).await;
    let refused = client(&aggregator).await.list_incidents(ListIncidentsRequest::default()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
    assert!(refused.message().contains("incidents.enabled"), "{refused}");
    aggregator.stop().await;
}
