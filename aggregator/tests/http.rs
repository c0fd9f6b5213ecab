//! Both doors over real connections: what an agent sent is found, shown, followed and drawn, and stays text.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{io::Write, net::SocketAddr, process::Command, time::Instant};

use bytes::Bytes;
use galen_aggregator::Settings;
use galen_proto::{
    PPROF_MEDIA_TYPE,
    pprof::{Function, Line, Location, Profile, Sample, ValueType},
    v1::{
        Attachment, Batch, Container, Event, EventKind, FollowEventsRequest, GetEventRequest, GetProfileRequest,
        GetStatusRequest, ListNodesRequest, ProfileFormat, SearchEventsRequest, Severity, Times,
        query_service_client::QueryServiceClient,
    },
};
use prost::Message;
use serde_json::Value;
use support::{Agent, Aggregator, EPOCH, PATIENCE, hello, queue, settings};
use tempfile::{TempDir, tempdir};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines},
    net::{TcpSocket, TcpStream},
    time::timeout,
};
use tonic::Code;

const SECOND: i64 = 1_000_000_000;
const NOON: i64 = 1_763_985_600 * SECOND;

struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    fn header(&self, name: &str) -> &str {
        let line =
            self.head.lines().find_map(|line| line.split_once(": ").filter(|(key, _)| key.eq_ignore_ascii_case(name)));
        line.map_or("", |(_, value)| value)
    }
}

/// Sends a request as it is, and reads the answer to its end.
async fn ask_raw(address: SocketAddr, request: &[u8]) -> Answer {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // The server may answer, and close, before it has read everything.
    let _ = stream.write_all(request).await;
    let mut bytes = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.expect("an answer in time").unwrap();
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").expect("a head");
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let mut body = bytes[end + 4..].to_vec();
    if head.to_lowercase().contains("transfer-encoding: chunked") {
        body = unchunk(&body);
    }
    Answer { status, head, body }
}

fn unchunk(mut bytes: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let end = bytes.windows(2).position(|two| two == b"\r\n").unwrap();
        let size = usize::from_str_radix(std::str::from_utf8(&bytes[..end]).unwrap(), 16).unwrap();
        if size == 0 {
            return body;
        }
        body.extend_from_slice(&bytes[end + 2..end + 2 + size]);
        bytes = &bytes[end + 4 + size..];
    }
}

async fn get(address: SocketAddr, path: &str) -> Answer {
    ask_raw(address, format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes()).await
}

fn event(tracer: &str, time: i64) -> Event {
    Event {
        tracer: tracer.into(),
        run_id: "run-1".into(),
        kind: EventKind::Trigger.into(),
        severity: Severity::Warning.into(),
        summary: format!("{tracer} in web-1"),
        times: Some(Times { observed_unix_nanos: time, recorded_unix_nanos: time + SECOND, observed_boot_nanos: 1 }),
        container: Some(Container { name: "web-1".into(), runtime: "docker".into(), ..Container::default() }),
        data: br#"{"user_percent":97.5,"user_percent_threshold":75}"#.to_vec().into(),
        ..Event::default()
    }
}

fn profile() -> Attachment {
    let texts = ["", "samples", "count", "main", "<script>alert(1)</script>"];
    let function = |id, name| Function { id, name, system_name: name, ..Function::default() };
    let location = |id| Location { id, line: vec![Line { function_id: id, ..Line::default() }], ..Location::default() };
    let profile = Profile {
        sample_type: vec![ValueType { r#type: 1, unit: 2 }],
        sample: vec![Sample { location_id: vec![2, 1], value: vec![42], label: Vec::new() }],
        location: vec![location(1), location(2)],
        function: vec![function(1, 3), function(2, 4)],
        string_table: texts.map(String::from).to_vec(),
        ..Profile::default()
    };
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(&profile.encode_to_vec()).unwrap();
    Attachment {
        name: "cpu.pb.gz".into(),
        media_type: PPROF_MEDIA_TYPE.into(),
        encoding: "gzip".into(),
        content: packed.finish().unwrap().into(),
    }
}

async fn start(dir: &TempDir) -> Aggregator {
    Aggregator::with(Settings { index: true, ..settings(dir.path(), |_| {}) }).await
}

async fn send(agent: &mut Agent, first_seq: u64, events: Vec<Bytes>) {
    let next_seq = first_seq + events.len() as u64;
    agent.batch(Batch { epoch: EPOCH, first_seq, events, next_seq, ..Batch::default() }).await;
    agent.acknowledged(next_seq - 1).await;
}

/// An aggregator whose store has these events, of the node `web-1`.
async fn with_events(dir: &TempDir, events: &[Event]) -> (Aggregator, Agent) {
    let aggregator = start(dir).await;
    let (mut agent, _) = aggregator.welcomed(hello("web-1", &[queue(1, 1)])).await;
    send(&mut agent, 1, events.iter().map(|event| event.encode_to_vec().into()).collect()).await;
    stored(&aggregator, events.len() as u64).await;
    (aggregator, agent)
}

/// Waits until so many events are found.
async fn stored(aggregator: &Aggregator, events: u64) {
    let began = Instant::now();
    loop {
        let total = get(aggregator.addresses.http, "/api/v1/events?limit=1").await.json()["total"].as_u64().unwrap();
        if total == events {
            return;
        }
        assert!(total < events && began.elapsed() < PATIENCE, "{total} of {events} events are found");
        tokio::task::yield_now().await;
    }
}

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

/// The lines of a stream of events, which begin once it says that it follows.
async fn follow(stream: TcpStream, http: SocketAddr) -> Lines<BufReader<TcpStream>> {
    let mut stream = BufReader::new(stream);
    let request = format!("GET /api/v1/events/stream?query=tracer:oom HTTP/1.1\r\nHost: {http}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut lines = stream.lines();
    next(&mut lines, ": following").await;
    lines
}

/// What comes behind `prefix` in the next line that begins with it.
async fn next(lines: &mut Lines<BufReader<TcpStream>>, prefix: &str) -> String {
    loop {
        let line = timeout(PATIENCE, lines.next_line()).await.expect("a line in time").unwrap().expect("a line");
        if let Some(rest) = line.strip_prefix(prefix) {
            return rest.to_owned();
        }
    }
}

#[tokio::test]
async fn a_follower_that_does_not_read_holds_up_nobody_and_misses_nothing() {
    /// With their size more than the connection's buffers hold.
    const EVENTS: u64 = 300;
    let dir = tempdir().unwrap();
    let (aggregator, mut agent) = with_events(&dir, &[event("cpuidle", NOON)]).await;
    let http = aggregator.addresses.http;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut slow = follow(socket.connect(http).await.unwrap(), http).await;
    let mut fast = follow(TcpStream::connect(http).await.unwrap(), http).await;
    let data = format!("{{\"filler\":\"{}\"}}", "x".repeat(32 << 10));
    let large = Bytes::from(Event { data: data.into(), ..event("oom", NOON) }.encode_to_vec());
    for first in (2..2 + EVENTS).step_by(4) {
        send(&mut agent, first, vec![large.clone(); 4]).await;
    }
    for lines in [&mut fast, &mut slow] {
        for seq in 2..2 + EVENTS {
            let event: Value = serde_json::from_str(&next(lines, "data: ").await).unwrap();
            assert_eq!(event["id"], format!("web-1/0000000000c0ffee/{seq}"));
        }
    }
    aggregator.stop().await;
}

#[tokio::test]
async fn a_follower_gets_what_is_stored_from_then_on_as_cloudevents() {
    let dir = tempdir().unwrap();
    let (aggregator, mut agent) = with_events(&dir, &[event("cpuidle", NOON)]).await;
    let http = aggregator.addresses.http;
    let mut lines = follow(TcpStream::connect(http).await.unwrap(), http).await;
    let events = [event("cpuidle", NOON), event("oom", NOON + SECOND)];
    send(&mut agent, 2, events.iter().map(|event| event.encode_to_vec().into()).collect()).await;
    let event: Value = serde_json::from_str(&next(&mut lines, "data: ").await).unwrap();
    assert_eq!(event["specversion"], "1.0");
    assert_eq!(event["id"], "web-1/0000000000c0ffee/3");
    assert_eq!(event["source"], "/nodes/web-1");
    assert_eq!(event["type"], "io.galen.event.oom.trigger");
    assert_eq!(event["subject"], "web-1");
    assert_eq!(event["time"], "2025-11-24T12:00:01.000Z");
    assert_eq!(event["datacontenttype"], "application/json");
    assert_eq!(event["data"]["data"]["user_percent"], 97.5);
    // A follower does not hold up the end.
    aggregator.stop().await;
}

#[tokio::test]
async fn before_after_and_their_difference_are_shown_apart() {
    let dir = tempdir().unwrap();
    let named = |name: &str| Attachment { name: name.into(), ..profile() };
    let attachments = vec![named("after.pb.gz"), named("before.pb.gz")];
    let both = Event { kind: EventKind::Capture.into(), attachments, ..event("cpuidle", NOON) };
    let one = Event { kind: EventKind::Capture.into(), attachments: vec![profile()], ..event("cpuidle", NOON) };
    let (aggregator, _agent) = with_events(&dir, &[both, one]).await;
    let http = aggregator.addresses.http;
    let of = |seq: u64, what: &str| format!("/api/v1/events/web-1/0000000000c0ffee/{seq}/{what}");
    for part in ["before", "after"] {
        let folded = get(http, &of(1, &format!("flame.folded?part={part}"))).await;
        assert_eq!(folded.text(), "main;<script>alert(1)</script> 42\n");
    }
    let folded = get(http, &of(1, "flame.folded?part=diff")).await;
    assert_eq!(folded.text(), "main;<script>alert(1)</script> 42 42\n");
    let svg = get(http, &of(1, "flame.svg?part=diff")).await;
    assert_eq!(svg.header("content-type"), "image/svg+xml");
    assert!(svg.text().contains("&lt;script&gt;alert(1)") && !svg.text().contains("<script>alert"));
    assert_eq!(get(http, &of(1, "profile.pb.gz?part=diff")).await.status, 400);
    assert_eq!(get(http, &of(1, "flame.svg?part=middle")).await.status, 400);
    assert_eq!(get(http, &of(2, "flame.svg?part=before")).await.status, 404);
    assert_eq!(get(http, &of(2, "flame.svg?part=after")).await.status, 200);
    let page = get(http, "/events/web-1/0000000000c0ffee/1").await;
    assert!(page.text().contains("/flame.svg?part=diff"), "{}", page.text());
}

#[tokio::test]
async fn the_flame_graph_of_a_run_is_drawn_for_its_trigger_too() {
    let dir = tempdir().unwrap();
    let trigger = event("cpuidle", NOON);
    let capture =
        Event { kind: EventKind::Capture.into(), attachments: vec![profile()], ..event("cpuidle", NOON + 10 * SECOND) };
    let other = Event { run_id: "run-2".into(), ..event("cpuidle", NOON) };
    let (aggregator, _agent) = with_events(&dir, &[trigger, capture, other]).await;
    let http = aggregator.addresses.http;
    let of = |seq: u64, what: &str| format!("/api/v1/events/web-1/0000000000c0ffee/{seq}/{what}");
    for seq in [1, 2] {
        let folded = get(http, &of(seq, "flame.folded")).await;
        assert_eq!(folded.text(), "main;<script>alert(1)</script> 42\n");
        let svg = get(http, &of(seq, "flame.svg")).await;
        assert_eq!(svg.header("content-type"), "image/svg+xml");
        assert!(svg.header("content-security-policy").starts_with("sandbox allow-scripts; default-src 'none'"));
        assert!(svg.text().contains("&lt;script&gt;alert(1)") && !svg.text().contains("<script>alert"));
        assert_eq!(get(http, &of(seq, "profile.pb.gz")).await.body, profile().content);
        let page = get(http, &format!("/events/web-1/0000000000c0ffee/{seq}")).await;
        assert!(
            page.text().contains("/flame.svg\" title=\"Flame graph\" sandbox=\"allow-scripts\""),
            "{}",
            page.text()
        );
        assert!(page.text().contains(r#"<td class="number">97.5</td><td class="number">75</td>"#), "{}", page.text());
    }
    assert_eq!(get(http, &of(3, "flame.svg")).await.status, 404);

    match Command::new("go").arg("version").output() {
        Ok(found) if found.status.success() => {
            let file = dir.path().join("profile.pb.gz");
            std::fs::write(&file, get(http, &of(1, "profile.pb.gz")).await.body).unwrap();
            let top = Command::new("go").args(["tool", "pprof", "-top"]).arg(&file).output().unwrap();
            let text = String::from_utf8_lossy(&top.stdout).into_owned();
            assert!(top.status.success() && text.contains("42") && text.contains("main"), "{text}");
        }
        _ => galen_scratch::skip("`go` is not there to open the profile with"),
    }
    aggregator.stop().await;
}

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
    send(&mut agent, 3, vec![self::event("oom", NOON).encode_to_vec().into()]).await;
    let next = timeout(PATIENCE, events.message()).await.expect("an event in time").unwrap().unwrap();
    assert_eq!((next.event.unwrap().id.unwrap().seq, next.missed), (3, 0));
    drop((client, events));
    aggregator.stop().await;
}

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
