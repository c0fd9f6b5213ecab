//! gRPC beside HTTP.

use galen_proto::v1::{
    Event, EventKind, FollowEventsRequest, GetEventRequest, GetProfileRequest, GetStatusRequest, ListNodesRequest,
    ProfileFormat, SearchEventsRequest, query_service_client::QueryServiceClient,
};
use prost::Message;
use tempfile::tempdir;
use tokio::time::timeout;
use tonic::Code;

use crate::{
    client::get,
    events::{NOON, event, profile, send, with_events},
    support::PATIENCE,
};

#[tokio::test]
async fn both_doors_give_the_same_answers() {
    let dir = tempdir().unwrap();
    let capture = Event { kind: EventKind::Capture.into(), attachments: vec![profile()], ..event("cpuidle", NOON) };
    let (aggregator, mut agent) = with_events(&dir, &[capture.clone(), event("oom", NOON)]).await;
    let url = format!("http://{}", aggregator.addresses.grpc);
    let mut client = QueryServiceClient::connect(url).await.unwrap();
    let request = SearchEventsRequest {
        query: "container.name:web-*".into(),
        count_by: vec!["tracer".into()],
        limit: 1,
        ..SearchEventsRequest::default()
    };
    let found = client.search_events(request).await.unwrap().into_inner();
    assert_eq!((found.total, found.events.len(), found.counts[0].values.len()), (2, 1, 2));
    let page = get(aggregator.addresses.http, "/api/v1/events?query=container.name:web-*&limit=1").await.json();
    assert_eq!(page["next_page"], found.next_page);

    let id = "web-1/0000000000c0ffee/1".to_owned();
    let event = client.get_event(GetEventRequest { id: id.clone() }).await.unwrap().into_inner();
    assert_eq!(event, Event { id: Some(id.parse().unwrap()), ..capture });
    let format = ProfileFormat::Folded.into();
    let profile = client
        .get_profile(GetProfileRequest { id: id.clone(), format, ..Default::default() })
        .await
        .unwrap()
        .into_inner();
    assert_eq!(profile.content, "main;<script>alert(1)</script> 42\n");
    let wrong = SearchEventsRequest { query: "a:(".into(), ..SearchEventsRequest::default() };
    let status = client.search_events(wrong).await.unwrap_err();
    assert!(status.code() == Code::InvalidArgument && status.message().contains("at character"), "{status}");
    let missing = GetEventRequest { id: "web-1/0000000000c0ffee/99".into() };
    assert_eq!(client.get_event(missing).await.unwrap_err().code(), Code::NotFound);
    let nodes = client.list_nodes(ListNodesRequest {}).await.unwrap().into_inner().nodes;
    assert_eq!((nodes[0].name.as_str(), nodes[0].connected, nodes[0].events), ("web-1", true, 2));
    let status = client.get_status(GetStatusRequest {}).await.unwrap().into_inner();
    assert_eq!((status.store_events, status.store_next_offset, status.log_next_offset), (2, 2, 2));

    let follow = FollowEventsRequest { query: "tracer:oom".into() };
    let mut events = client.follow_events(follow).await.unwrap().into_inner();
    send(&mut agent, 3, vec![crate::events::event("oom", NOON).encode_to_vec().into()]).await;
    let next = timeout(PATIENCE, events.message()).await.expect("an event in time").unwrap().unwrap();
    assert_eq!((next.event.unwrap().id.unwrap().seq, next.missed), (3, 0));
    drop((client, events));
    aggregator.stop().await;
}
