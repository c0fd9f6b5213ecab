//! From the log's records to Kafka's.

use std::{fmt::Write as _, ops::Range};

use bytes::Bytes;
use galen_log::MAX_EVENTS_BYTES;
use galen_proto::{
    cloudevent,
    v1::{Event, EventId, LogRecord, Loss, LossReason, Range as Numbers},
};
use prost::Message;
use rdkafka::message::{Header, OwnedHeaders};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{
    BYTES, CONTENT_TYPE, CUT, EVENT, ID, JSON, LOSSES, LOSSES_MEDIA_TYPE, MAX_PARTS, PART, PARTS, PROTOBUF, REASON,
    SOURCE, SPEC_VERSION, SUBJECT, TIME, TOLD, TYPE, cut::cut, head::Head,
};
use crate::{Payload, producer::Outgoing, topics::Topics};

/// Room that headers and key may take.
const HEADERS: usize = 2 << 10;
/// Longest name of a tracer or a container in a header: agents may send any.
const MAX_NAME: usize = 256;
/// Declared losses in one record, at most about 170 bytes each.
const LOSSES_AT_A_TIME: usize = 64;

/// What the API gives for an event, as JSON.
pub type Render = fn(Event) -> Vec<u8>;

/// Makes records; its memory is used again and again.
pub(crate) struct Encoder {
    topics: Topics,
    payload: Payload,
    render: Render,
    /// Largest value.
    largest: usize,
    head: Head,
    id: String,
    time: Vec<u8>,
    /// What the node told with the events, for the last of them.
    told: Option<Vec<u8>>,
    /// Events that were put aside.
    dead_letters: u64,
}

/// What the records of one queue have in common.
struct Queue<'a> {
    node: &'a str,
    epoch: u64,
    source: String,
    timestamp: i64,
}

impl Encoder {
    /// `largest`: the largest record, in bytes.
    pub(crate) fn new(topics: Topics, payload: Payload, render: Render, largest: usize) -> Self {
        let largest = largest.saturating_sub(HEADERS);
        let (head, id, time) = (Head::default(), String::new(), Vec::new());
        Self { topics, payload, render, largest, head, id, time, told: None, dead_letters: 0 }
    }

    /// Events that were put aside since the last call.
    pub(crate) fn dead_letters(&mut self) -> u64 {
        std::mem::take(&mut self.dead_letters)
    }

    /// Whether none of its events would be put aside.
    pub(crate) fn takes(&mut self, record: &LogRecord) -> bool {
        let dead_letters = self.dead_letters;
        // Nothing is handed on, so nothing can fail.
        let _ = self.encode(record, |_| Ok::<_, ()>(()));
        std::mem::replace(&mut self.dead_letters, dead_letters) == dead_letters
    }

    /// Hands the records of `record` to `out`, in their order.
    pub(crate) fn encode<E>(
        &mut self,
        record: &LogRecord,
        mut out: impl FnMut(Outgoing<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let queue = Queue {
            node: &record.node,
            epoch: record.epoch,
            source: cloudevent::source(&record.node),
            timestamp: record.received_unix_nanos / 1_000_000,
        };
        let mut lost = Vec::new();
        for (place, (seq, event)) in (record.first_seq..).zip(&record.events).enumerate() {
            self.told = told(record).filter(|_| place + 1 == record.events.len()).map(|told| told.encode_to_vec());
            if let Err(reason) = self.event(&queue, seq, event, &mut out)? {
                self.dead_letter(&queue, event, &reason, &mut out)?;
                let range = Some(Numbers { first: seq, last: seq });
                lost.push(Loss { range, reason: LossReason::Quarantined as i32, ..Loss::default() });
            }
        }
        lost.extend_from_slice(&record.lost);
        self.losses(&queue, record, &lost, &mut out)
    }

    /// One event; inside, why it cannot be written.
    fn event<E>(
        &mut self,
        queue: &Queue<'_>,
        seq: u64,
        event: &Bytes,
        out: &mut impl FnMut(Outgoing<'_>) -> Result<(), E>,
    ) -> Result<Result<(), String>, E> {
        self.id.clear();
        // A String takes all.
        let _ = write!(self.id, "{}/{:016x}/{seq}", queue.node, queue.epoch);
        if let Err(error) = self.head.read(event) {
            return Ok(Err(error.to_string()));
        }
        if event.len() > MAX_EVENTS_BYTES {
            return Ok(Err(format!("{} bytes are too many for a record of the log", event.len())));
        }
        let json = match self.json(queue, seq, event) {
            Ok(json) => json,
            Err(reason) => return Ok(Err(reason)),
        };
        if event.len() + json.as_ref().map_or(0, Vec::len) <= self.largest {
            out(self.outgoing(queue, event, json.as_deref(), None))?;
            return Ok(Ok(()));
        }
        let room = self.largest.saturating_sub(json.as_ref().map_or(0, Vec::len));
        let Some(cut) = cut(event, room) else {
            return Ok(Err(format!("{} bytes are too many, and cannot be sent in parts", event.len())));
        };
        let parts = cut.len().div_ceil(self.largest);
        if parts > MAX_PARTS {
            return Ok(Err(format!("{} bytes are too many for {MAX_PARTS} parts", event.len())));
        }
        let rest = [&event[..cut.start], &event[cut.end..]].concat();
        out(self.outgoing(queue, &rest, json.as_deref(), Some((parts, &cut))))?;
        for (number, part) in event[cut].chunks(self.largest).enumerate() {
            out(self.part(queue, part, number + 1, parts))?;
        }
        Ok(Ok(()))
    }

    /// What the API gives for the event, attachments without their contents.
    fn json(&self, queue: &Queue<'_>, seq: u64, event: &Bytes) -> Result<Option<Vec<u8>>, String> {
        if self.payload == Payload::Protobuf {
            return Ok(None);
        }
        let mut event = Event::decode(event.clone()).map_err(|error| error.to_string())?;
        event.id = Some(EventId { node: queue.node.to_owned(), epoch: queue.epoch, seq });
        Ok(Some((self.render)(event)))
    }

    fn outgoing<'a>(
        &'a mut self,
        queue: &'a Queue<'_>,
        event: &'a [u8],
        json: Option<&'a [u8]>,
        parts: Option<(usize, &Range<usize>)>,
    ) -> Outgoing<'a> {
        let kind = cloudevent::event_type(name(&self.head.tracer), self.head.kind);
        let mut headers = self.headers(queue, &self.id, &kind, if json.is_some() { JSON } else { PROTOBUF });
        self.time.clear();
        let observed = OffsetDateTime::from_unix_timestamp_nanos(self.head.observed_unix_nanos().into());
        if observed.is_ok_and(|observed| observed.format_into(&mut self.time, &Rfc3339).is_ok()) {
            headers = with(headers, TIME, &self.time);
        }
        if !self.head.container().is_empty() {
            headers = with(headers, SUBJECT, name(self.head.container()).as_bytes());
        }
        if json.is_some() {
            headers = with(headers, EVENT, event);
        }
        if let Some(told) = &self.told {
            headers = with(headers, TOLD, told);
        }
        if let Some((parts, cut)) = parts {
            headers = with(headers, PARTS, parts.to_string().as_bytes());
            headers = with(headers, CUT, cut.start.to_string().as_bytes());
        }
        self.record(queue, json.unwrap_or(event), headers)
    }

    fn part<'a>(&'a self, queue: &'a Queue<'_>, part: &'a [u8], number: usize, of: usize) -> Outgoing<'a> {
        let tracer = if self.head.tracer.is_empty() { "unknown" } else { name(&self.head.tracer) };
        let kind = format!("io.galen.event.{tracer}.attachment");
        let headers = self.headers(queue, &format!("{}#{number}", self.id), &kind, BYTES);
        self.record(queue, part, with(headers, PART, format!("{number}/{of}").as_bytes()))
    }

    fn dead_letter<E>(
        &mut self,
        queue: &Queue<'_>,
        event: &Bytes,
        reason: &str,
        out: &mut impl FnMut(Outgoing<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        tracing::warn!(id = self.id, reason, "an event was put among the dead letters");
        self.dead_letters += 1;
        let parts = event.len().div_ceil(self.largest).max(1);
        for number in 1..=parts {
            let part = &event[(number - 1) * self.largest..event.len().min(number * self.largest)];
            let mut headers = self.headers(queue, &self.id, &cloudevent::event_type("", 0), BYTES);
            headers = with(headers, REASON, reason.as_bytes());
            if parts > 1 {
                headers = with(headers, PART, format!("{number}/{parts}").as_bytes());
            }
            out(Outgoing { topic: &self.topics.dead_letters, ..self.record(queue, part, headers) })?;
        }
        Ok(())
    }

    fn losses<E>(
        &mut self,
        queue: &Queue<'_>,
        record: &LogRecord,
        mut lost: &[Loss],
        out: &mut impl FnMut(Outgoing<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut counters = record.counters.as_slice();
        for number in 0.. {
            if lost.is_empty() && counters.is_empty() {
                break;
            }
            let (now, later) = lost.split_at(lost.len().min(LOSSES_AT_A_TIME));
            let told = LogRecord {
                node: record.node.clone(),
                epoch: record.epoch,
                received_unix_nanos: record.received_unix_nanos,
                lost: now.to_vec(),
                counters: counters.to_vec(),
                next_seq: record.next_seq,
                account: record.account,
                ..LogRecord::default()
            };
            (lost, counters) = (later, &[]);
            let id = format!("{}/{:016x}/losses-{}-{number}", queue.node, queue.epoch, record.received_unix_nanos);
            let headers = self.headers(queue, &id, LOSSES, LOSSES_MEDIA_TYPE);
            out(self.record(queue, &told.encode_to_vec(), headers))?;
        }
        Ok(())
    }

    fn headers(&self, queue: &Queue<'_>, id: &str, kind: &str, content_type: &str) -> OwnedHeaders {
        let mut headers = OwnedHeaders::new_with_capacity(8);
        headers = with(headers, SPEC_VERSION, cloudevent::SPEC_VERSION.as_bytes());
        headers = with(headers, ID, id.as_bytes());
        headers = with(headers, SOURCE, queue.source.as_bytes());
        headers = with(headers, TYPE, kind.as_bytes());
        with(headers, CONTENT_TYPE, content_type.as_bytes())
    }

    fn record<'a>(&'a self, queue: &'a Queue<'_>, payload: &'a [u8], headers: OwnedHeaders) -> Outgoing<'a> {
        let Queue { node, timestamp, .. } = *queue;
        Outgoing { topic: &self.topics.events, key: node, payload, headers: Some(headers), timestamp }
    }
}

/// What a node told of its queue with a record, if anything.
fn told(record: &LogRecord) -> Option<LogRecord> {
    let account = Some(record.account?);
    Some(LogRecord { next_seq: record.next_seq, account, ..LogRecord::default() })
}

/// As much of a name as a header has: a record that is too large for its name would be refused for ever.
fn name(whole: &str) -> &str {
    &whole[..whole.floor_char_boundary(MAX_NAME)]
}

fn with(headers: OwnedHeaders, key: &str, value: &[u8]) -> OwnedHeaders {
    headers.insert(Header { key, value: Some(value) })
}
