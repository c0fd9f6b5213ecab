//! What those see who operate it, also after a restart.

use prost::Message;
use tempfile::tempdir;

use crate::{
    client::get,
    events::{NOON, SECOND, event, send, start, stored, with_events},
    support::{hello, queue},
};

#[tokio::test]
async fn the_store_outlives_a_restart_and_has_every_event_once() {
    let dir = tempdir().unwrap();
    let (aggregator, agent) =
        with_events(&dir, &[event("a", 0), event("b", NOON), event("c", 4_102_444_800 * SECOND)]).await;
    drop(agent);
    aggregator.stop().await;
    // As after a crash: the store is read in full, and everything that the log has is offered again.
    std::fs::remove_file(dir.path().join("store/clean")).unwrap();
    let aggregator = start(&dir).await;
    let (mut agent, welcome) = aggregator.welcomed(hello("web-1", &[queue(1, 4)])).await;
    assert_eq!(welcome.progress[0].upto, 3);
    send(&mut agent, 4, vec![event("d", NOON).encode_to_vec().into()]).await;
    stored(&aggregator, 4).await;
    let found = get(aggregator.addresses.http, "/api/v1/events?order=asc").await.json();
    let tracers: Vec<_> =
        found["events"].as_array().unwrap().iter().map(|event| event["tracer"].as_str().unwrap()).collect();
    assert_eq!(tracers, ["a", "b", "d", "c"]);
    let found = get(aggregator.addresses.http, "/api/v1/events?since=1970-01-01&until=1970-01-02").await.json();
    assert_eq!(found["total"], 1);
    aggregator.stop().await;
}

#[tokio::test]
async fn those_who_operate_it_see_how_it_is() {
    let dir = tempdir().unwrap();
    let (aggregator, _agent) = with_events(&dir, &[event("cpuidle", NOON)]).await;
    let http = aggregator.addresses.http;
    assert_eq!(get(http, "/healthz").await.text(), "ok\n");
    assert_eq!(get(http, "/readyz").await.text(), "ready\n");
    let metrics = get(http, "/metrics").await;
    for line in [
        "galen_aggregator_store_indexed_events_total 1\n",
        "galen_aggregator_indexer_lag_events 0\n",
        "galen_aggregator_store_events 1\n",
        "galen_aggregator_ingest_logged_events_total 1\n",
        "galen_aggregator_http_requests_total ",
    ] {
        assert!(metrics.text().contains(line), "{line}: {}", metrics.text());
    }
    let nodes = get(http, "/api/v1/nodes").await.json();
    assert_eq!((&nodes[0]["name"], &nodes[0]["connected"]), (&"web-1".into(), &true.into()));
    let document = get(http, "/api/openapi.json").await.json();
    assert!(document["paths"]["/api/v1/events"]["get"]["parameters"].as_array().unwrap().len() >= 7);
    assert!(get(http, "/style.css").await.text().contains("prefers-color-scheme: dark"));
    let empty = get(http, "/?query=tracer:none").await;
    assert!(empty.text().contains("Nothing matches"));
    aggregator.stop().await;

    let dir = tempdir().unwrap();
    let aggregator = start(&dir).await;
    let empty = get(aggregator.addresses.http, "/").await;
    assert!(empty.text().contains("No events yet") && empty.text().contains("galen demo"));
    aggregator.stop().await;
}
