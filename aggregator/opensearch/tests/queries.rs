//! The same questions to both stores, over the same events, have the same answers.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{collections::BTreeSet, time::Duration};

use bytes::Bytes;
use galen_opensearch::{Archive, Found, Search};
use galen_proto::v1::{Event, EventId, LogRecord};
use galen_services::Server;
use galen_specimen::{EPOCH, NOW, SECOND, attachment, event, questions, raw_record, record};
use galen_store::{Order, Query, Store};
use opensearch::http::Method;
use tempfile::TempDir;

use support::{ask, indexed, settings, shared};

/// Both stores, with the same events.
struct Both {
    _dir: TempDir,
    store: Store,
    archive: Archive,
}

impl Both {
    async fn filled(server: &Server, prefix: &str, records: Vec<LogRecord>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let retention = Duration::from_secs(100 * 365 * 86_400);
        let store = galen_store::Settings { dir: dir.path().join("store"), retention, max_bytes: 1 << 30 };
        let store = Store::open(store).unwrap();
        let mut writer = store.writer(1000).unwrap();
        for record in &records {
            writer.add(writer.next(), record).unwrap();
        }
        writer.commit().unwrap();
        let settings = settings(server, prefix);
        indexed(settings.clone(), records).await;
        ask(server, Method::Post, &format!("/{prefix}-*/_refresh"), None).await;
        Self { _dir: dir, store, archive: Archive::new(&settings).unwrap() }
    }

    /// Asks both, and compares all that they answer.
    async fn ask(&self, query: &str, count_by: &[String], change: impl Fn(&mut Search<'_>)) -> Found {
        let parsed = Query::parse(query, NOW).unwrap();
        let mut search =
            Search { query: &parsed, since: None, until: None, ascending: true, limit: 1000, page: None, count_by };
        change(&mut search);
        let order = if search.ascending { Order::OldestFirst } else { Order::NewestFirst };
        let mine = galen_store::Search {
            since: search.since,
            until: search.until,
            order,
            limit: search.limit,
            count_by: search.count_by,
            ..galen_store::Search::newest(&parsed, 0)
        };
        let mine = self.store.search(&mine).unwrap();
        let found = self.archive.search(&search).await.unwrap_or_else(|error| panic!("{query}: {error:?}"));
        let events: Vec<_> = mine.hits.into_iter().map(|hit| hit.event).collect();
        if search.page.is_none() {
            assert_eq!(seqs(&found.events), seqs(&events), "{query}");
            assert_eq!(found.events, events, "{query}");
            assert_eq!(found.next.is_some(), mine.next.is_some(), "{query}");
        }
        assert_eq!(found.total, mine.total, "{query}");
        assert_eq!(found.counts, mine.counts, "{query}");
        found
    }
}

fn seqs(events: &[Event]) -> Vec<u64> {
    events.iter().map(|event| event.id.as_ref().unwrap().seq).collect()
}

#[tokio::test]
async fn every_query_finds_the_same_in_both_stores() {
    let server = shared();
    let both = Both::filled(&server, "queries", vec![record(1, &questions::events())]).await;
    for (query, expected) in questions::queries() {
        let found = both.ask(query, &[], |_| {}).await;
        let found: BTreeSet<_> = seqs(&found.events).into_iter().collect();
        assert_eq!(found, expected.into_iter().collect(), "{query}");
    }
}

#[tokio::test]
async fn keys_and_values_of_any_form_are_found_the_same_way() {
    let server = shared();
    let mut large = event("cpuidle", NOW, r#"{"n":1,"s":"x","l":["p","q"]}"#);
    large.attachments = vec![attachment("before.pb.gz", 10), attachment("after.pb.gz", 300_000)];
    // A field that this version does not know.
    let mut newer = prost::Message::encode_to_vec(&event("cpuidle", NOW, r#"{"n":1,"s":"x","l":["q"]}"#));
    newer.extend([0xf8, 0x3f, 5]);
    let mut events: Vec<Bytes> = [
        large.clone(),
        event("a", NOW, "{\"\":1,\"\\u0000\":2,\"a\\u0000b\":3,\".\":5,\"ok\":7}"),
        event("b", NOW - 86_400 * SECOND, r#"{"ok":"text","n":1e308,"z":-0.0,"b":true}"#),
        event("c", NOW, r#"{"ok":{"ok":{"ok":1}},"ok":2,"n":2.5}"#),
        event("c", i64::MIN, r#"{"ok":[1,"two words",{"three":3},[true,null]],"big":9007199254740993}"#),
        event("bad", NOW, "{\"a\":"),
        event("long", NOW, &format!(r#"{{"text":"{}","end":1}}"#, "Wörter und mehr ".repeat(1000))),
    ]
    .iter()
    .map(|event| prost::Message::encode_to_vec(event).into())
    .collect();
    events.insert(1, newer.into());
    events.push(Bytes::from_static(b"\xff\xff not an event"));
    let both = Both::filled(&server, "forms", vec![raw_record(1, events)]).await;
    for query in [
        "",
        "data.ok:7",
        "data.ok:text",
        "data.ok.ok.ok:1",
        "data.ok:2 AND data.n:2.5",
        "data.ok:words",
        "data.ok:\"two words\"",
        "data.ok:true",
        "data.ok.three:>=3",
        "data.ok:>1",
        "data.ok:*",
        "data.n:>1e300",
        "data.big:>9007199254740000",
        "data.text:\"und mehr wörter\"",
        "data.text:WÖRT*",
        "data.text:>a",
        "data.s:[a TO z]",
        "data.b:true",
        "_exists_:defect",
        "defect:object",
        "attachment:after.pb.gz",
        "-_exists_:recorded",
        "time:<1971-01-01",
        "tracer:(a OR b) -data.ok:7",
    ] {
        both.ask(query, &[], |_| {}).await;
        both.ask(query, &[], |search| search.ascending = false).await;
    }
    let fields =
        ["tracer", "data.n", "data.s", "data.l", "data.ok", "severity", "host.cpus", "defect"].map(String::from);
    both.ask("-tracer:b", &fields, |_| {}).await;
    let fields = ["seq", "node", "data.b", "attachment", "container.labels.app.kubernetes.io/name"].map(String::from);
    both.ask("", &fields, |search| search.limit = 0).await;
    for seq in 1..=10 {
        let id = EventId { node: "node-1".into(), epoch: EPOCH, seq };
        assert_eq!(both.archive.get(&id).await.unwrap(), both.store.get(&id).unwrap(), "{seq}");
    }
    let id = EventId { node: "node-1".into(), epoch: EPOCH, seq: 1 };
    assert_eq!(both.archive.get(&id).await.unwrap().unwrap().attachments, large.attachments);
    for field in ["nothing", "time", "summary", "data"] {
        let (query, fields) = (Query::parse("", NOW).unwrap(), [field.to_owned()]);
        let mine = galen_store::Search { count_by: &fields, ..galen_store::Search::newest(&query, 0) };
        let theirs = Search {
            query: &query,
            since: None,
            until: None,
            ascending: true,
            limit: 0,
            page: None,
            count_by: &fields,
        };
        let theirs = both.archive.search(&theirs).await.unwrap_err().to_string();
        assert_eq!(theirs, both.store.search(&mine).unwrap_err().to_string());
    }
}

#[tokio::test]
async fn pages_are_stable_while_events_arrive() {
    let server = shared();
    let events: Vec<_> = (0..25).map(|n| event("oom", NOW + n / 5, "")).collect();
    let both = Both::filled(&server, "pages", vec![record(1, &events)]).await;
    for ascending in [true, false] {
        let mut expected: Vec<u64> = (1..=25).collect();
        if !ascending {
            expected.reverse();
        }
        let whole = both.ask("seq:<=25", &[], |search| search.ascending = ascending).await;
        assert_eq!(seqs(&whole.events), expected);
        let (mut seen, mut page) = (Vec::new(), None::<String>);
        let query = Query::parse("", NOW).unwrap();
        loop {
            let search = Search {
                query: &query,
                since: None,
                until: None,
                ascending,
                limit: 4,
                page: page.as_deref(),
                count_by: &[],
            };
            let found = both.archive.search(&search).await.unwrap();
            seen.extend(seqs(&found.events).into_iter().filter(|seq| *seq <= 25));
            // Before the first page, so that it moves none.
            let before = if ascending { NOW - SECOND } else { NOW + SECOND };
            let late = record(1000 + seen.len() as u64 * 2 + u64::from(ascending), &[event("oom", before, "")]);
            indexed(settings(&server, "pages"), vec![late]).await;
            ask(&server, Method::Post, "/pages-events-*/_refresh", None).await;
            page = found.next;
            if page.is_none() {
                break;
            }
        }
        assert_eq!(seen, expected);
    }
    let query = Query::parse("", NOW).unwrap();
    for page in ["x", "W10", "WzEsMiwzLDQsNV0"] {
        let search = Search {
            query: &query,
            since: None,
            until: None,
            ascending: true,
            limit: 4,
            page: Some(page),
            count_by: &[],
        };
        let error = both.archive.search(&search).await.unwrap_err().to_string();
        assert!(error.contains("is not a page"), "{error}");
    }
}

#[tokio::test]
async fn an_answer_is_cut_where_it_grows_too_large() {
    let server = shared();
    let data = format!(r#"{{"text":"{}"}}"#, "x".repeat(700_000));
    let events: Vec<_> = (0..8).map(|n| event("oom", NOW + n, &data)).collect();
    let both = Both::filled(&server, "large", vec![record(1, &events)]).await;
    let found = both.ask("", &[], |_| {}).await;
    assert_eq!((found.events.len(), found.total), (4, 8));
    let next = found.next.unwrap();
    let query = Query::parse("", NOW).unwrap();
    let search = Search {
        query: &query,
        since: Some(NOW),
        until: Some(NOW + 7),
        ascending: true,
        limit: 100,
        page: Some(&next),
        count_by: &[],
    };
    assert_eq!(seqs(&both.archive.search(&search).await.unwrap().events), [5, 6, 7]);
}
