//! What was encoded is decoded again, byte for byte.

use bytes::Bytes;
use galen_log::{Append, EmbeddedLog, MAX_EVENTS_BYTES, embedded};
use galen_proto::v1::{
    Account, Attachment, Container, Event, EventKind, LogRecord, Loss, LossCounter, LossReason, Position, Range, Times,
};
use proptest::prelude::*;
use prost::Message as _;
use rdkafka::{
    Timestamp,
    message::{Headers, Message, OwnedHeaders, OwnedMessage},
};

use super::*;
use crate::{Payload, producer::Outgoing, topics::Topics};

const LARGEST: usize = 16 << 10;
const RECEIVED: i64 = 1_764_000_000_123_000_000;

fn topics() -> Topics {
    Topics { events: "t.events".into(), watermarks: "t.watermarks".into(), dead_letters: "t.dead-letters".into() }
}

fn encoder(payload: Payload) -> Encoder {
    Encoder::new(topics(), payload, |event| format!("{{\"id\":\"{}\"}}", event.id.unwrap()).into_bytes(), LARGEST)
}

/// As the records would be read from partition 3, from offset 100 on.
fn written(payload: Payload, records: &[LogRecord]) -> Vec<OwnedMessage> {
    let mut encoder = encoder(payload);
    let mut messages = Vec::new();
    for record in records {
        let taken = encoder.encode(record, |outgoing: Outgoing<'_>| {
            let offset = 100 + messages.len() as i64;
            messages.push(OwnedMessage::new(
                Some(outgoing.payload.to_vec()),
                Some(outgoing.key.into()),
                outgoing.topic.into(),
                Timestamp::CreateTime(outgoing.timestamp),
                3,
                offset,
                outgoing.headers,
            ));
            Ok::<_, ()>(())
        });
        taken.unwrap();
    }
    messages
}

fn read(messages: &[OwnedMessage]) -> (Vec<LogRecord>, Joiner) {
    let mut joiner = Joiner::default();
    messages.iter().filter(|message| message.topic() == "t.events").for_each(|message| joiner.add(message));
    let (mut records, _) = joiner.take();
    records.iter_mut().for_each(|record| record.position = None);
    (records, joiner)
}

fn header<'a>(headers: Option<&'a OwnedHeaders>, key: &str) -> Option<&'a str> {
    let headers = headers?;
    (0..headers.count())
        .map(|place| headers.get(place))
        .find(|header| header.key == key)?
        .value
        .map(|value| std::str::from_utf8(value).unwrap())
}

fn event(tracer: &str, attachments: &[usize]) -> Bytes {
    let attachment = |(place, &bytes): (usize, &usize)| Attachment {
        name: format!("{place}.pb.gz"),
        content: (0..bytes).map(|byte| (byte % 251) as u8).collect::<Vec<u8>>().into(),
        ..Attachment::default()
    };
    Event {
        tracer: tracer.into(),
        kind: EventKind::Capture.into(),
        times: Some(Times { observed_unix_nanos: RECEIVED - 5, ..Times::default() }),
        container: Some(Container { name: "shop".into(), ..Container::default() }),
        data: Bytes::from_static(b"{}"),
        attachments: attachments.iter().enumerate().map(attachment).collect(),
        explanation: "because".into(),
        ..Event::default()
    }
    .encode_to_vec()
    .into()
}

fn record(first_seq: u64, events: Vec<Bytes>) -> LogRecord {
    LogRecord {
        node: "web-1".into(),
        epoch: 7,
        first_seq,
        events,
        received_unix_nanos: RECEIVED,
        ..LogRecord::default()
    }
}

#[test]
fn an_event_has_the_headers_of_a_cloudevent() {
    let messages = written(Payload::Protobuf, &[record(42, vec![event("cpuidle", &[])])]);
    let headers = messages[0].headers();
    for (key, value) in [
        ("ce_specversion", "1.0"),
        ("ce_id", "web-1/0000000000000007/42"),
        ("ce_source", "/nodes/web-1"),
        ("ce_type", "io.galen.event.cpuidle.capture"),
        ("ce_time", "2025-11-24T16:00:00.122999995Z"),
        ("ce_subject", "shop"),
        ("content-type", PROTOBUF),
    ] {
        assert_eq!(header(headers, key), Some(value), "{key}");
    }
    assert_eq!((messages[0].key(), messages[0].payload()), (Some(&b"web-1"[..]), Some(&event("cpuidle", &[])[..])));
    assert_eq!(messages[0].timestamp(), Timestamp::CreateTime(RECEIVED / 1_000_000));
}

#[test]
fn consecutive_events_of_a_queue_are_one_record_again() {
    let records = [record(1, vec![event("oom", &[]), event("cpuidle", &[])]), record(3, vec![event("oom", &[])])];
    let (read, _) = read(&written(Payload::Protobuf, &records));
    assert_eq!(read, [record(1, vec![event("oom", &[]), event("cpuidle", &[]), event("oom", &[])])]);
}

#[test]
fn what_a_node_told_comes_with_its_last_event() {
    let account = Some(Account { observed: 9, counted: 2, waiting: 1 });
    for last in [event("oom", &[]), event("oom", &[40_000]), Bytes::from_static(&[0xff; 40])] {
        let whole = LogRecord { next_seq: 8, account, ..record(1, vec![event("oom", &[]), last]) };
        let (read, _) = read(&written(Payload::Protobuf, &[whole]));
        let told: Vec<_> = read.iter().filter(|record| record.account.is_some()).collect();
        assert_eq!((told.len(), told[0].next_seq, told[0].account), (1, 8, account));
    }
}

#[test]
fn large_attachments_are_sent_in_parts_and_joined() {
    for payload in [Payload::Protobuf, Payload::Json] {
        let large = event("cpuidle", &[40_000, 100, 30_000]);
        let records = [record(1, vec![event("oom", &[]), large.clone(), event("oom", &[])])];
        let messages = written(payload, &records);
        assert!(messages.iter().all(|message| message.payload().unwrap().len() <= LARGEST));
        let parts: Vec<_> =
            messages.iter().filter(|message| header(message.headers(), "galen_part").is_some()).collect();
        assert_eq!(parts.len(), 5);
        let kinds = parts.iter().map(|part| header(part.headers(), "ce_type"));
        assert!(kinds.into_iter().all(|kind| kind == Some("io.galen.event.cpuidle.attachment")));
        assert_eq!(header(parts[4].headers(), "ce_id"), Some("web-1/0000000000000007/2#5"));
        assert_eq!(header(parts[4].headers(), "galen_part"), Some("5/5"));
        // Whoever has both has the event, without looking at the place.
        let joined: Vec<u8> = parts.iter().flat_map(|part| part.payload().unwrap().to_vec()).collect();
        let evidence = Event::decode(&joined[..]).unwrap();
        assert_eq!(evidence.attachments, Event::decode(large.clone()).unwrap().attachments);
        assert_eq!(read(&messages).0, [records[0].clone()]);
    }
}

#[test]
fn json_is_for_others_and_the_event_comes_back_as_it_was() {
    let records = [record(1, vec![event("oom", &[])])];
    let messages = written(Payload::Json, &records);
    assert_eq!(header(messages[0].headers(), "content-type"), Some("application/json"));
    assert_eq!(messages[0].payload(), Some(&b"{\"id\":\"web-1/0000000000000007/1\"}"[..]));
    assert_eq!(read(&messages).0, records);
}

#[test]
fn losses_and_counters_are_records_of_their_own_behind_the_events() {
    let loss = |first| Loss {
        range: Some(Range { first, last: first }),
        reason: LossReason::RateLimited as i32,
        tracer: "cpuidle".into(),
        tenant: "shop".into(),
    };
    let lost: Vec<Loss> = (0..600).map(|place| loss(10 + 2 * place)).collect();
    let counters = vec![LossCounter { reason: LossReason::RingFull as i32, tracer: "oom".into(), count: 3 }];
    let whole = LogRecord { lost: lost.clone(), counters: counters.clone(), ..record(1, vec![event("oom", &[])]) };
    let messages = written(Payload::Protobuf, &[whole]);
    assert_eq!(messages.len(), 11);
    assert!(messages[1..].iter().all(|message| header(message.headers(), "ce_type") == Some(LOSSES)));
    let (read, _) = read(&messages);
    assert_eq!(read[0], record(1, vec![event("oom", &[])]));
    assert_eq!(read[1..].iter().flat_map(|record| record.lost.clone()).collect::<Vec<_>>(), lost);
    assert_eq!(read[1..].iter().flat_map(|record| record.counters.clone()).collect::<Vec<_>>(), counters);
}

#[test]
fn what_cannot_be_read_or_sent_goes_among_the_dead_letters_with_its_reason() {
    let garbage = Bytes::from_static(&[0xff; 40]);
    let immense: Bytes = Event { summary: "x".repeat(40_000), ..Event::default() }.encode_to_vec().into();
    let records = [record(1, vec![event("oom", &[]), garbage.clone(), immense.clone(), event("oom", &[])])];
    let messages = written(Payload::Protobuf, &records);
    let dead: Vec<_> = messages.iter().filter(|message| message.topic() == "t.dead-letters").collect();
    assert_eq!(dead.len(), 4);
    assert_eq!(dead[0].payload(), Some(&garbage[..]));
    assert_eq!(header(dead[0].headers(), "ce_id"), Some("web-1/0000000000000007/2"));
    assert!(header(dead[0].headers(), "galen_reason").unwrap().contains("decode"));
    assert!(header(dead[1].headers(), "galen_reason").unwrap().contains("40004 bytes"));
    let parts: Vec<_> = dead[1..].iter().map(|part| header(part.headers(), "galen_part").unwrap()).collect();
    assert_eq!(parts, ["1/3", "2/3", "3/3"]);
    let kept: Vec<u8> = dead[1..].iter().flat_map(|part| part.payload().unwrap().to_vec()).collect();
    assert_eq!(kept, immense);
    let (read, _) = read(&messages);
    assert_eq!(read.iter().map(|record| record.events.len()).collect::<Vec<_>>(), [1, 1, 0]);
    let settled: Vec<u64> = read[2].lost.iter().map(|loss| loss.range.unwrap().first).collect();
    assert_eq!(settled, [2, 3], "whoever reads does not wait for them");
}

#[test]
fn an_event_that_is_too_large_for_the_log_goes_among_the_dead_letters() {
    let mut encoder = Encoder::new(topics(), Payload::Protobuf, |_| Vec::new(), 1 << 20);
    for (bytes, is_taken) in [(MAX_EVENTS_BYTES - 1024, true), (MAX_EVENTS_BYTES, false)] {
        assert_eq!(encoder.takes(&record(1, vec![event("oom", &[bytes])])), is_taken);
    }
}

/// Of others, who may write what they like.
#[test]
fn whatever_is_in_the_topic_the_log_takes_what_is_read_of_it() {
    const PART: usize = 1 << 20;
    let message = |offset: usize, headers: &[(&str, &str)], bytes: usize| {
        let headers = headers.iter().fold(OwnedHeaders::new(), |headers, &(key, value)| {
            headers.insert(rdkafka::message::Header { key, value: Some(value) })
        });
        let headers = headers.insert(rdkafka::message::Header { key: "ce_type", value: Some("io.galen.event.x.y") });
        let (payload, topic) = (vec![1; bytes], "t.events".into());
        OwnedMessage::new(Some(payload), None, topic, Timestamp::NotAvailable, 0, offset as i64, Some(headers))
    };
    let id = |seq: u64| format!("web-1/0000000000000007/{seq}");
    for (bytes, events, lost) in [(MAX_EVENTS_BYTES, 3, 0), (MAX_EVENTS_BYTES + 1, 2, 1)] {
        let parts = bytes.div_ceil(PART);
        let mut joiner = Joiner::default();
        joiner.add(&message(0, &[("ce_id", &id(1))], 4 * PART));
        joiner.add(&message(1, &[("ce_id", &id(2)), ("galen_parts", &parts.to_string()), ("galen_cut", "0")], 0));
        for part in 1..=parts {
            let (id, number) = (format!("{}#{part}", id(2)), format!("{part}/{parts}"));
            let bytes = PART.min(bytes - (part - 1) * PART);
            joiner.add(&message(1 + part, &[("ce_id", &id), ("galen_part", &number)], bytes));
        }
        joiner.add(&message(2 + parts, &[("ce_id", &id(3))], 1));
        let (records, place) = joiner.take();
        let dir = tempfile::tempdir().unwrap();
        let (_log, mut writer, _) = EmbeddedLog::open(embedded::Settings::new(dir.path())).unwrap();
        assert_eq!(writer.append(&records).unwrap().next, events);
        assert_eq!(place.0, [(0, parts as u64 + 3)]);
        assert_eq!(joiner.stats(), JoinStats { unreadable: lost, incomplete: 0 });
        let told = records.iter().flat_map(|record| &record.lost);
        assert!(
            told.map(|loss| (loss.reason, loss.range.unwrap().first))
                .eq((0..lost).map(|_| (LossReason::Quarantined as i32, 2)))
        );
    }
}

#[test]
fn a_place_stands_before_an_event_whose_parts_have_not_all_come() {
    let records = [record(1, vec![event("oom", &[]), event("cpuidle", &[40_000]), event("oom", &[])])];
    let messages = written(Payload::Protobuf, &records);
    assert_eq!(messages.len(), 6);
    let mut joiner = Joiner::default();
    messages[..4].iter().for_each(|message| joiner.add(message));
    let (read, place) = joiner.take();
    assert_eq!((read.len(), place.0), (1, vec![(3, 101)]));
    assert_eq!(read[0].position, Some(Position { partition: 3, next: 101 }));
    messages[4..].iter().for_each(|message| joiner.add(message));
    let (read, place) = joiner.take();
    assert_eq!((read[0].events.len(), place.0), (2, vec![(3, 106)]));
    // Its writer came to an end in the middle, and another sent it anew.
    let again = [&messages[1..3], &messages[1..]].concat();
    let mut joiner = Joiner::default();
    again.iter().for_each(|message| joiner.add(message));
    assert_eq!(joiner.take().0[0].events.len(), 2);
    assert_eq!(joiner.stats(), JoinStats::default());
}

#[test]
fn no_record_stands_behind_an_event_that_comes_after_it() {
    // Two replicas wrote into one partition at a time: an event of one stands between the parts of the other's.
    let mut messages = written(Payload::Protobuf, &[record(1, vec![event("cpuidle", &[40_000])])]);
    let mut between =
        written(Payload::Protobuf, &[LogRecord { node: "web-2".into(), ..record(1, vec![event("oom", &[])]) }]);
    messages.insert(2, between.remove(0));
    let mut joiner = Joiner::default();
    for (offset, message) in (100..).zip(messages) {
        let (payload, headers) = (message.payload().map(<[u8]>::to_vec), message.headers().cloned());
        let (topic, timestamp) = (message.topic().to_owned(), message.timestamp());
        joiner.add(&OwnedMessage::new(payload, None, topic, timestamp, 3, offset, headers));
    }
    let (read, _) = joiner.take();
    let positions: Vec<_> = read.iter().map(|record| (&*record.node, record.position.unwrap().next)).collect();
    assert_eq!(positions, [("web-2", 100), ("web-1", 105)]);
}

#[test]
fn headers_have_the_begin_of_a_name_that_is_too_long_for_them() {
    let long = Event { tracer: "ä".repeat(4000), ..Event::default() }.encode_to_vec();
    let records = [record(1, vec![long.clone().into()])];
    let messages = written(Payload::Protobuf, &records);
    let kind = header(messages[0].headers(), "ce_type").unwrap();
    assert_eq!(kind, format!("io.galen.event.{}.unknown", "ä".repeat(128)));
    assert_eq!(read(&messages).0, records);
}

#[test]
fn records_that_are_not_ours_are_passed_over_and_counted() {
    let of = |id: &str, kind: &str| {
        let headers =
            [("ce_id", id), ("ce_type", kind)].into_iter().fold(OwnedHeaders::new(), |headers, (key, value)| {
                headers.insert(rdkafka::message::Header { key, value: Some(value) })
            });
        OwnedMessage::new(Some(vec![1]), None, "t.events".into(), Timestamp::NotAvailable, 0, 1, Some(headers))
    };
    let mut joiner = Joiner::default();
    for message in [of("web-1/1", "io.galen.event.oom.event"), of("", LOSSES), of("web-1/0000000000000007/1#1", "x")] {
        joiner.add(&message);
    }
    joiner.add(&of("a", "com.example.other"));
    assert_eq!(joiner.take().0, []);
    assert_eq!(joiner.stats().unreadable, 2);
}

proptest! {
    #[test]
    fn any_events_come_back_as_they_were(
        sizes in prop::collection::vec((0usize..60_000, 0usize..20_000), 1..6),
        first in 1u64..1000,
        json in any::<bool>(),
    ) {
        let events: Vec<Bytes> = sizes.iter().map(|&(a, b)| event("oom", &[a, b])).collect();
        let records = [record(first, events)];
        let payload = if json { Payload::Json } else { Payload::Protobuf };
        prop_assert_eq!(&read(&written(payload, &records)).0[..], &records[..]);
    }
}
