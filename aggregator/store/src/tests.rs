//! What the store promises, on real files.

use std::{fs, time::Instant};

use bytes::Bytes;
use galen_proto::v1::{Event, EventId};
use galen_specimen::{EPOCH, NOW, SECOND, attachment, event, questions, raw_record, record};
use prost::Message;

use crate::{
    Error, Key, Order, Query, Sample, Search, Store,
    testing::{DAY, filled, found, settings},
};

fn id(seq: u64) -> EventId {
    EventId { node: "node-1".into(), epoch: EPOCH, seq }
}

#[test]
fn queries_find_what_they_say() {
    let events = questions::events();
    let (_dir, store, _writer) = filled(&events);
    let sample = Sample::new(&[record(1, &events)]).unwrap();
    for (query, seqs) in questions::queries() {
        assert_eq!(found(&store, query), seqs, "{query}");
        let matching = sample.matching(&Query::parse(query, NOW).unwrap()).unwrap();
        let matching: Vec<_> = matching.into_iter().map(|event| event.id.unwrap().seq).collect();
        assert_eq!(matching, seqs, "{query}");
    }
}

#[test]
fn a_wrong_query_says_what_and_where() {
    for (query, at, says) in [
        ("tracr:oom", 1, "`tracer`"),
        ("tracer:oom AND user_percent:>80", 16, "`data.user_percent`"),
        ("data:5", 6, "name one"),
        ("seq:abc", 5, "whole number"),
        ("time:>yesterday", 6, "moment"),
        ("severity:bad", 10, "severity"),
        ("id:x", 4, "node/epoch/seq"),
        ("_exists_:nothing", 10, "no field"),
    ] {
        let error = Query::parse(query, NOW).unwrap_err();
        assert_eq!(error.at, at, "{query}: {error}");
        assert!(error.message.contains(says), "{query}: {error}");
    }
}

#[test]
fn events_of_any_date_are_accepted_and_found_by_their_own_time() {
    let far = 4_102_444_800 * SECOND;
    let (dir, store, _writer) =
        filled(&[event("a", 0, ""), event("b", far, ""), event("c", i64::MIN, ""), event("d", NOW - DAY, "")]);
    let days = fs::read_dir(dir.path().join("store/days")).unwrap().count();
    assert_eq!(days, 2);
    assert_eq!(found(&store, "time:<1971-01-01 time:>=1970-01-01"), [1]);
    assert_eq!(found(&store, "time:[2099-01-01 TO 2101-01-01]"), [2]);
    let everything = Query::parse("", NOW).unwrap();
    let search = Search { since: Some(far), until: Some(far + 1), ..Search::newest(&everything, 10) };
    assert_eq!(store.search(&search).unwrap().hits[0].event.tracer, "b");
    let search = Search { order: Order::OldestFirst, ..Search::newest(&everything, 10) };
    let order: Vec<_> = store.search(&search).unwrap().hits.into_iter().map(|hit| hit.event.tracer).collect();
    assert_eq!(order, ["c", "a", "d", "b"]);
}

#[test]
fn pages_are_stable_while_events_arrive() {
    let events: Vec<_> = (0..25).map(|n| event("a", NOW + n / 5, "")).collect();
    let (_dir, store, mut writer) = filled(&events);
    let everything = Query::parse("", NOW).unwrap();
    for order in [Order::NewestFirst, Order::OldestFirst] {
        let mut after: Option<Key> = None;
        let mut seen = Vec::new();
        loop {
            let page = store.search(&Search { order, after, ..Search::newest(&everything, 4) }).unwrap();
            seen.extend(page.hits.iter().map(|hit| hit.offset).filter(|offset| *offset < 25));
            let next = writer.next();
            let time = if order == Order::NewestFirst { NOW + DAY } else { NOW - DAY };
            writer.add(next, &record(next + 1, &[event("b", time, "")])).unwrap();
            writer.commit().unwrap();
            match page.next {
                Some(next) => after = Some(next.to_string().parse().unwrap()),
                None => break,
            }
        }
        let mut expected: Vec<u64> = (0..25).collect();
        if order == Order::NewestFirst {
            expected.reverse();
        }
        assert_eq!(seen, expected);
    }
}

#[test]
fn values_are_counted() {
    let (_dir, store, _writer) = filled(&[
        event("a", NOW, r#"{"n":1,"s":"x","l":["p","q"]}"#),
        event("b", NOW, r#"{"n":1,"s":"x","l":["q"]}"#),
        event("b", NOW - DAY, r#"{"n":2.5,"b":true}"#),
    ]);
    let everything = Query::parse("", NOW).unwrap();
    let fields = ["tracer", "data.n", "data.s", "data.l", "data.b", "severity", "host.cpus", "seq"].map(String::from);
    let counts = store.search(&Search { count_by: &fields, ..Search::newest(&everything, 0) }).unwrap().counts;
    let counts: Vec<_> = counts
        .iter()
        .map(|tally| tally.values.iter().map(|(value, n)| format!("{value}={n}")).collect::<Vec<_>>().join(" "))
        .collect();
    assert_eq!(counts, ["b=2 a=1", "1=2 2.5=1", "x=2", "q=2 p=1", "true=1", "warning=3", "2=3", "1=1 2=1 3=1"]);
    for field in ["nothing", "time", "summary", "data"] {
        let fields = [field.to_owned()];
        assert!(store.search(&Search { count_by: &fields, ..Search::newest(&everything, 0) }).is_err(), "{field}");
    }
}

#[test]
fn what_was_received_comes_back_byte_for_byte() {
    let mut large = event("cpuidle", NOW, "{}");
    large.attachments = vec![attachment("cpu.pb.gz", 300_000)];
    let mut newer = event("cpuidle", NOW, "{}").encode_to_vec();
    // A field that this version does not know.
    newer.extend([0xf8, 0x3f, 5]);
    let raws: Vec<Bytes> = vec![
        large.encode_to_vec().into(),
        newer.into(),
        Bytes::from_static(b"\xff\xff not an event"),
        Bytes::new(),
        event("bad", NOW, "{\"a\":").encode_to_vec().into(),
        event("worse", NOW, "\u{0}\u{1}").encode_to_vec().into(),
    ];
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(settings(&dir)).unwrap();
    let mut writer = store.writer(10).unwrap();
    writer.add(0, &raw_record(1, raws.clone())).unwrap();
    writer.commit().unwrap();
    for (seq, raw) in (1..).zip(&raws) {
        assert_eq!(store.raw(&id(seq)).unwrap().as_ref(), Some(raw), "{seq}");
    }
    assert_eq!(store.raw(&id(99)).unwrap(), None);
    assert_eq!(store.get(&id(1)).unwrap(), Some(Event { id: Some(id(1)), ..large }));
    assert_eq!(found(&store, "_exists_:defect"), [3, 5, 6]);
    assert_eq!(found(&store, "tracer:bad AND web-1"), [5]);
    assert!(store.get(&id(3)).unwrap().unwrap().summary.contains("could not be read"));
    let stats = store.stats();
    assert_eq!((stats.unreadable, stats.partly, stats.indexed, stats.events), (1, 2, 3, 6));
    let everything = Query::parse("attachment:cpu.pb.gz", NOW).unwrap();
    let hit = store.search(&Search::newest(&everything, 1)).unwrap().hits.remove(0);
    assert_eq!((hit.event.attachments[0].name.as_str(), hit.event.attachments[0].content.len()), ("cpu.pb.gz", 0));
}

#[test]
fn keys_of_data_cannot_break_the_index() {
    let (_dir, store, _writer) = filled(&[
        event("a", NOW, "{\"\":1,\"\\u0000\":2,\"a\\u0000b\":3,\"\\u0001\":4,\".\":5,\"..a\":6,\"ok\":7}"),
        event("b", NOW, "{\"ok\":\"text\",\"n\":1e308,\"z\":-0.0}"),
        event("c", NOW, "{\"ok\":{\"ok\":{\"ok\":1}},\"ok\":2}"),
    ]);
    assert_eq!(found(&store, "data.ok:7"), [1]);
    assert_eq!(found(&store, "data.ok:text"), [2]);
    assert_eq!(found(&store, "data.ok.ok.ok:1"), [3]);
}

#[test]
fn retention_drops_whole_days_and_forgets_no_position() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(settings(&dir)).unwrap();
    let mut writer = store.writer(100).unwrap();
    let old = galen_proto::v1::LogRecord {
        received_unix_nanos: NOW - 9 * DAY,
        ..record(1, &[event("a", NOW - 9 * DAY, "")])
    };
    writer.add(0, &record(2, &[event("b", NOW, "")])).unwrap();
    writer.commit().unwrap();
    writer.add(1, &old).unwrap();
    writer.commit().unwrap();
    writer.retain(NOW).unwrap();
    assert_eq!(found(&store, ""), [2]);
    assert_eq!(store.stats().dropped, 1);
    drop(writer);
    drop(store);
    let store = Store::open(settings(&dir)).unwrap();
    assert_eq!(store.writer(100).unwrap().next(), 2);
}

#[test]
fn retention_by_size_keeps_the_newest_parts() {
    let dir = tempfile::tempdir().unwrap();
    let max_bytes = 200_000;
    let store = Store::open(crate::Settings { max_bytes, ..settings(&dir) }).unwrap();
    let mut writer = store.writer(1000).unwrap();
    for seq in 1..=60 {
        let mut event = event("a", NOW, "");
        event.attachments = vec![attachment("cpu.pb.gz", 10_000)];
        writer.add(seq - 1, &record(seq, &[event])).unwrap();
        writer.commit().unwrap();
        writer.retain(NOW).unwrap();
        let stats = store.stats();
        assert!(stats.bytes <= max_bytes || stats.indexes == 1, "{stats:?}");
    }
    let kept = found(&store, "");
    assert!(kept.len() > 5 && kept.len() < 60, "{kept:?}");
    assert!(kept.is_sorted() && kept.last() == Some(&60) && kept.windows(2).all(|pair| pair[0] + 1 == pair[1]));
}

#[test]
fn another_log_begins_a_new_generation() {
    let (dir, store, writer) = filled(&[event("old", NOW, ""), event("old", NOW, "")]);
    drop(writer);
    let mut writer = store.writer(1).unwrap();
    assert_eq!(writer.next(), 0);
    writer.add(0, &record(7, &[event("new", NOW, "")])).unwrap();
    writer.commit().unwrap();
    assert_eq!(found(&store, "tracer:old"), [1, 2]);
    assert_eq!(found(&store, "tracer:new"), [7]);
    drop((writer, store));
    let store = Store::open(settings(&dir)).unwrap();
    assert_eq!(store.writer(1).unwrap().next(), 1);
}

#[test]
fn a_store_has_one_process() {
    let (dir, _store, _writer) = filled(&[]);
    let error = Store::open(settings(&dir)).map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("another process"), "{error}");
}

#[test]
fn a_search_whose_time_is_over_says_so_and_blames_no_index() {
    let (_dir, store, _writer) = filled(&[event("cpuidle", NOW, "")]);
    for query in ["", "run_id:0193*"] {
        let parsed = Query::parse(query, NOW).unwrap();
        let error = store.search_until(&Search::newest(&parsed, 10), Instant::now()).unwrap_err();
        assert!(matches!(error, Error::Deadline(_)), "{query}: {error}");
        assert_eq!(store.stats().suspect, 0, "{query}");
        assert_eq!(found(&store, query), [1]);
    }
}
