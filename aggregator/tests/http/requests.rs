//! What is asked and answered: as text, page by page, or with what is wrong.

use bytes::Bytes;
use galen_proto::v1::Event;
use prost::Message;
use serde_json::Value;
use tempfile::tempdir;

use crate::{
    client::{ask_raw, get},
    events::{NOON, SECOND, event, send, stored, with_events},
};

#[tokio::test]
async fn what_an_agent_sent_is_found_and_shown_as_text() {
    let evil = "<script>alert('x')</script>\u{202e}\u{7}\" onload=\"y";
    let mut event = event("cpuidle", NOON);
    event.summary = evil.into();
    event.container.as_mut().unwrap().name = evil.into();
    event.container.as_mut().unwrap().labels = [(evil.to_owned(), evil.to_owned())].into();
    event.data = serde_json::to_vec(&serde_json::json!({ evil: evil, "list": [{ evil: evil }] })).unwrap().into();
    let dir = tempdir().unwrap();
    let (aggregator, mut agent) = with_events(&dir, &[event]).await;
    let http = aggregator.addresses.http;

    let found = get(http, "/api/v1/events?query=tracer:cpuidle&count_by=tracer,container.name").await;
    assert_eq!(found.header("content-type"), "application/json");
    let found = found.json();
    assert_eq!(found["events"][0]["summary"], evil);
    assert_eq!(found["events"][0]["time"], "2025-11-24T12:00:00.000Z");
    assert_eq!(found["events"][0]["id"], "web-1/0000000000c0ffee/1");
    assert_eq!(found["counts"]["tracer"][0], serde_json::json!({ "value": "cpuidle", "count": 1 }));
    let one = get(http, "/api/v1/events/web-1/0000000000c0ffee/1").await.json();
    assert_eq!(one["data"][evil], evil);

    for path in ["/", "/events/web-1/0000000000c0ffee/1", "/?query=%3Cscript%3E%22&page=%3Cscript%3E"] {
        let page = get(http, path).await;
        assert!(page.header("content-type").starts_with("text/html"), "{path}: {}", page.head);
        assert!(page.header("content-security-policy").starts_with("default-src 'none'"), "{path}");
        let text = page.text();
        assert!(!text.contains("<script") && !text.contains("\" onload="), "{path}: {text}");
        assert!(!text.contains('\u{202e}') && !text.contains('\u{7}'), "{path}");
    }
    // What is no text at all is kept, and said to be so.
    send(&mut agent, 2, vec![Bytes::from_static(b"\xff\xff<b>"), event_with_bad_data()]).await;
    stored(&aggregator, 3).await;
    let page = get(http, "/events/web-1/0000000000c0ffee/2").await;
    assert!(page.status == 200 && page.text().contains("could not be read"), "{}", page.text());
    let page = get(http, "/events/web-1/0000000000c0ffee/3").await;
    assert!(page.status == 200 && page.text().contains("This is not JSON"), "{}", page.text());
    let status = get(http, "/api/v1/status").await.json();
    assert_eq!((&status["stored"], &status["quarantined"]), (&Value::from(3), &Value::from(1)));
    assert!(status["problems"][0].as_str().unwrap().contains("could not be decoded"), "{status}");
    let ledger = get(http, "/api/v1/ledger?node=web-1").await.json();
    for terms in [&ledger["nodes"][0], &ledger["total"]] {
        assert_eq!((&terms["observed"], &terms["delivered"]), (&Value::from(3), &Value::from(2)), "{ledger}");
        assert_eq!((&terms["quarantined"]["undecodable"], &terms["unaccounted"]), (&Value::from(1), &Value::from(0)));
    }
    let page = get(http, "/ledger").await;
    for says in
        ["<th scope=\"row\">observed</th><td class=\"number\">3</td>", "1 (undecodable 1)", ">web-1</a>", "connected"]
    {
        assert!(page.status == 200 && page.text().contains(says), "{says}: {}", page.text());
    }
    assert!(!page.text().contains("<script"));
    for path in ["/api/v1/ledger?node=nobody", "/ledger?node=nobody"] {
        assert_eq!(get(http, path).await.status, 404, "{path}");
    }
    aggregator.stop().await;
}

fn event_with_bad_data() -> Bytes {
    let bad = Event { data: b"{\"a\":\xff<script>".to_vec().into(), ..event("oom", NOON) };
    bad.encode_to_vec().into()
}

#[tokio::test]
async fn a_wrong_request_says_what_is_wrong_and_where() {
    let dir = tempdir().unwrap();
    let (aggregator, _agent) = with_events(&dir, &[event("cpuidle", NOON)]).await;
    let http = aggregator.addresses.http;
    for (path, status, says) in [
        ("/api/v1/events?query=tracr:x", 400, "at character 1: there is no field `tracr`: is `tracer` meant?"),
        ("/api/v1/events?query=tracer:x%20AND%20(a", 400, "at character 14"),
        ("/api/v1/events?limit=1001", 400, "`limit`"),
        ("/api/v1/events?limit=x", 400, "`limit`"),
        ("/api/v1/events?since=yesterday", 400, "`since`"),
        ("/api/v1/events?order=up", 400, "`order`"),
        ("/api/v1/events?page=x", 400, "`x` is not a page"),
        ("/api/v1/events?count_by=nothing", 400, "`nothing`"),
        ("/api/v1/events?qery=x", 400, "`query`"),
        ("/api/v1/events?since=now-1h&until=now-2h", 400, "`since` must be earlier"),
        ("/api/v1/events/web-1/zz/1", 400, "node/epoch/seq"),
        ("/api/v1/events/web-1/0000000000c0ffee/77", 404, "no event"),
        ("/api/v1/events/web-1/0000000000c0ffee/1/flame.svg", 404, "no profile"),
        ("/api/v1/events/stream?query=(", 400, "at character"),
        ("/nothing", 404, "openapi.json"),
    ] {
        let answer = get(http, path).await;
        assert_eq!(answer.status, status, "{path}");
        let message = answer.json()["error"]["message"].as_str().unwrap().to_owned();
        assert!(message.contains(says), "{path}: {message}");
    }
    let page = get(http, "/?query=tracr:x").await;
    assert!(page.status == 400 && page.text().contains("is `tracer` meant?"), "{}", page.text());
    assert!(page.text().contains("value=\"tracr:x\""));
    let answer = ask_raw(
        http,
        b"POST /api/v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    );
    assert_eq!(answer.await.status, 405);
    let answer = ask_raw(http, b"GET / HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n").await;
    assert_eq!(answer.status, 421);
    let long = format!("GET / HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "x".repeat(64 << 10));
    assert_eq!(ask_raw(http, long.as_bytes()).await.status, 431);
    let many = format!("GET / HTTP/1.1\r\nHost: localhost\r\n{}\r\n", "X: y\r\n".repeat(1000));
    assert_eq!(ask_raw(http, many.as_bytes()).await.status, 431);
    aggregator.stop().await;
}

#[tokio::test]
async fn pages_follow_each_other_without_gap_or_repetition_while_events_arrive() {
    let dir = tempdir().unwrap();
    let events: Vec<_> = (0..10).map(|n| event("cpuidle", NOON + n / 3 * SECOND)).collect();
    let (aggregator, mut agent) = with_events(&dir, &events).await;
    let (mut page, mut seen) = (String::new(), Vec::new());
    for round in 0..4 {
        let path = format!("/api/v1/events?limit=3&query=tracer:cpuidle&page={page}");
        let found = get(aggregator.addresses.http, &path).await.json();
        seen.extend(found["events"].as_array().unwrap().iter().map(|event| event["id"].as_str().unwrap().to_owned()));
        send(&mut agent, 11 + round, vec![event("cpuidle", NOON + 100 * SECOND).encode_to_vec().into()]).await;
        stored(&aggregator, 11 + round).await;
        page = found["next_page"].as_str().unwrap_or_default().to_owned();
    }
    assert_eq!(page, "");
    let expected: Vec<_> = (1..=10).rev().map(|seq| format!("web-1/0000000000c0ffee/{seq}")).collect();
    assert_eq!(seen, expected);
    aggregator.stop().await;
}
