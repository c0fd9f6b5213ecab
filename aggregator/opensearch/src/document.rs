//! From the records of the log to the lines of a bulk request.
//!
//! A document has what people read and what is searched, and in `event` the event as it was received, protobuf in
//! base64, without the content of its attachments: that is what answers are made from. Attachments are documents of
//! their own, in their own indices, and come before the event, so that whoever finds the event finds them.
//!
//! An event that cannot be decoded becomes a document as well, with the reason in `defect` and all its bytes, as in the
//! embedded store.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use galen_log::Delivery;
use galen_proto::{
    cloudevent::kind_name,
    v1::{Attachment, Container, Event, EventId, Host},
};
use galen_store::{
    is_key,
    limits::{MAX_ATTACHMENTS, MAX_LABELS},
    severity_name,
};
use prost::Message;
use serde::{Serialize, Serializer, ser::SerializeMap};

use crate::{
    bulk::{Kind, Lines},
    flat::{Fields, Flat, field},
    names::{Names, tracer_of},
    tracers::Strangers,
    words::words,
};

/// What the defect of an event that cannot be decoded begins with.
pub(crate) const UNREADABLE: &str = "event: ";

/// An event and where it came from.
#[derive(Debug, Clone)]
pub(crate) struct Origin {
    pub(crate) id: EventId,
    pub(crate) received: i64,
    /// As it was received.
    pub(crate) raw: Bytes,
}

/// Whether an event can be searched in full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Defect {
    /// It cannot be decoded.
    Unreadable,
    /// Its data is not a JSON object, or has more than is indexed.
    Data,
}

/// The events of a delivery, each with its place in it.
pub(crate) fn origins(delivery: &Delivery) -> Vec<Origin> {
    let events = delivery.records.iter().flat_map(|record| {
        let numbered = (record.first_seq..).zip(&record.events);
        numbered.map(|(seq, raw)| Origin {
            id: EventId { node: record.node.clone(), epoch: record.epoch, seq },
            received: record.received_unix_nanos,
            raw: raw.clone(),
        })
    });
    events.collect()
}

/// Appends the documents of an event, which is the `place`-th of its delivery; none if it may have no index.
pub(crate) fn add(
    lines: &mut Lines,
    names: &Names,
    strangers: &Strangers,
    place: usize,
    origin: &Origin,
) -> Result<Option<Defect>, Why> {
    let id = origin.id.to_string();
    let mut event = match Event::decode(origin.raw.clone()) {
        Ok(event) => event,
        Err(error) => {
            let mut document = Document::new(origin);
            document.defect(format!("{UNREADABLE}{error}"));
            document.event = STANDARD.encode(&origin.raw);
            lines.create(&names.event(None), &id, &document, Kind::Event, place);
            return Ok(Some(Defect::Unreadable));
        }
    };
    let tracer = tracer_of(Some(&event));
    if !strangers.admit(&tracer) {
        return Err(Why::stranger(&tracer));
    }
    let index = names.event(Some(&event));
    let attachments = std::mem::take(&mut event.attachments);
    if !attachments.is_empty() {
        let index = names.attachments(&event);
        for (number, attachment) in attachments.iter().enumerate() {
            let document = Evidence::new(&id, origin.received, attachment);
            lines.create(&index, &format!("{id}/{number}"), &document, Kind::Attachment, place);
        }
    }
    let without_content = |attachment| Attachment { content: Bytes::new(), ..attachment };
    event.attachments = attachments.into_iter().map(without_content).collect();
    let mut document = Document::new(origin);
    document.event = if event.attachments.is_empty() {
        STANDARD.encode(&origin.raw)
    } else {
        STANDARD.encode(event.encode_to_vec())
    };
    document.describe(&event);
    let data = (!event.data.is_empty()).then(|| Flat::parse(&event.data));
    let flat = match &data {
        Some(Ok(flat)) => {
            document.data(flat);
            flat.cut.then(|| "data: has more than is indexed".to_owned())
        }
        Some(Err(error)) => Some(format!("data: not a JSON object: {error}")),
        None => None,
    };
    let defect = flat.map(|why| {
        document.defect(why);
        Defect::Data
    });
    lines.create(&index, &id, &document, Kind::Event, place);
    Ok(defect)
}

/// Appends the document that stands for an event that is not indexed. `raw` is left out of one that is too large.
pub(crate) fn add_dead(lines: &mut Lines, names: &Names, place: usize, origin: &Origin, why: &Why, raw: bool) {
    let id = origin.id.to_string();
    let document = DeadLetter {
        timestamp: millis(origin.received),
        id: &id,
        node: &origin.id.node,
        received: origin.received,
        status: why.status,
        reason: why.reason,
        message: &why.message,
        bytes: origin.raw.len(),
        event: raw.then(|| STANDARD.encode(&origin.raw)),
    };
    let kind = if raw { Kind::DeadLetter } else { Kind::Remark };
    lines.create(&names.dead_letters(), &id, &document, kind, place);
}

/// Why an event is not indexed.
#[derive(Debug, Clone)]
pub(crate) struct Why {
    /// For counting.
    pub(crate) reason: &'static str,
    /// What OpenSearch said, if it was asked.
    pub(crate) status: Option<u16>,
    pub(crate) message: String,
}

impl Why {
    pub(crate) fn refused(status: u16, message: String) -> Self {
        let reason = if status == 413 { "too_large" } else { "mapping" };
        Self { reason, status: Some(status), message }
    }

    fn stranger(tracer: &str) -> Self {
        let message = format!("too many tracers that are not known have indices: `{tracer}` is one more");
        Self { reason: "tracers", status: None, message }
    }
}

#[derive(Serialize)]
struct Document<'a> {
    #[serde(rename = "@timestamp")]
    timestamp: i64,
    node: &'a str,
    epoch: String,
    seq: u64,
    time: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    recorded: Option<i64>,
    received: i64,
    #[serde(skip_serializing_if = "str::is_empty")]
    tracer: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    run_id: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    kind: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    severity: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    summary: &'a str,
    #[serde(skip_serializing_if = "String::is_empty")]
    summary_words: String,
    #[serde(skip_serializing_if = "str::is_empty")]
    explanation: &'a str,
    #[serde(skip_serializing_if = "String::is_empty")]
    defect: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    defect_words: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    attachment: Vec<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<HostFields<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    container: Option<ContainerFields<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Fields<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data_number: Option<Fields<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data_words: Option<Fields<'a>>,
    /// Of the event as it is kept here.
    bytes: usize,
    event: String,
}

impl<'a> Document<'a> {
    fn new(origin: &'a Origin) -> Self {
        Self {
            timestamp: millis(origin.received),
            node: &origin.id.node,
            epoch: format!("{:016x}", origin.id.epoch),
            seq: origin.id.seq,
            time: origin.received,
            recorded: None,
            received: origin.received,
            tracer: "",
            run_id: "",
            kind: "",
            severity: "",
            summary: "",
            summary_words: String::new(),
            explanation: "",
            defect: String::new(),
            defect_words: String::new(),
            attachment: Vec::new(),
            host: None,
            container: None,
            data: None,
            data_number: None,
            data_words: None,
            bytes: origin.raw.len(),
            event: String::new(),
        }
    }

    fn describe(&mut self, event: &'a Event) {
        let times = event.times.unwrap_or_default();
        self.time = times.observed_unix_nanos;
        self.timestamp = millis(self.time);
        self.recorded = Some(times.recorded_unix_nanos);
        self.tracer = &event.tracer;
        self.run_id = &event.run_id;
        self.kind = kind_name(event.kind);
        self.severity = severity_name(event.severity);
        self.summary = &event.summary;
        self.summary_words = words(&event.summary);
        self.explanation = &event.explanation;
        let names = event.attachments.iter().take(MAX_ATTACHMENTS).map(|attachment| attachment.name.as_str());
        self.attachment = names.filter(|name| !name.is_empty()).collect();
        self.host = event.host.as_ref().map(HostFields::new);
        self.container = event.container.as_ref().map(ContainerFields::new);
        if !event.attachments.is_empty() {
            self.bytes = event.encoded_len();
        }
    }

    fn data(&mut self, flat: &'a Flat) {
        self.data = Some(flat.all());
        self.data_number = Some(flat.numbers());
        self.data_words = Some(flat.words());
    }

    fn defect(&mut self, why: String) {
        self.defect_words = words(&why);
        self.defect = why;
    }
}

#[derive(Serialize)]
struct HostFields<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    kernel: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    arch: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    boot_id: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    region: &'a str,
    cpus: u32,
}

impl<'a> HostFields<'a> {
    fn new(host: &'a Host) -> Self {
        Self {
            name: &host.name,
            kernel: &host.kernel,
            arch: &host.arch,
            boot_id: &host.boot_id,
            region: &host.region,
            cpus: host.cpus,
        }
    }
}

#[derive(Serialize)]
struct ContainerFields<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    id: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    runtime: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    cgroup: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    pod: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    namespace: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    qos: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    image: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    labels: Option<Labels<'a>>,
}

impl<'a> ContainerFields<'a> {
    fn new(container: &'a Container) -> Self {
        Self {
            id: &container.id,
            name: &container.name,
            runtime: &container.runtime,
            cgroup: &container.cgroup,
            pod: &container.pod,
            namespace: &container.namespace,
            qos: &container.qos,
            image: &container.image,
            labels: (!container.labels.is_empty()).then_some(Labels(container)),
        }
    }
}

struct Labels<'a>(&'a Container);

impl Serialize for Labels<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let labels = self.0.labels.iter().filter(|(key, _)| is_key(key) && !key.trim().is_empty()).take(MAX_LABELS);
        // Two keys may lead to one field; a name that comes twice would be refused.
        let mut fields: Vec<_> = labels.map(|(key, value)| (field(key), value)).collect();
        fields.sort_unstable();
        fields.dedup_by(|a, b| a.0 == b.0);
        let mut map = serializer.serialize_map(Some(fields.len()))?;
        for (key, value) in fields {
            map.serialize_entry(&key, value)?;
        }
        map.end()
    }
}

#[derive(Serialize)]
struct Evidence<'a> {
    event: &'a str,
    received: i64,
    name: &'a str,
    media_type: &'a str,
    encoding: &'a str,
    content: String,
}

impl<'a> Evidence<'a> {
    fn new(event: &'a str, received: i64, attachment: &'a Attachment) -> Self {
        Self {
            event,
            received,
            name: &attachment.name,
            media_type: &attachment.media_type,
            encoding: &attachment.encoding,
            content: STANDARD.encode(&attachment.content),
        }
    }
}

#[derive(Serialize)]
struct DeadLetter<'a> {
    #[serde(rename = "@timestamp")]
    timestamp: i64,
    id: &'a str,
    node: &'a str,
    received: i64,
    status: Option<u16>,
    reason: &'a str,
    message: &'a str,
    bytes: usize,
    event: Option<String>,
}

/// Of a moment in nanoseconds.
fn millis(nanos: i64) -> i64 {
    nanos.div_euclid(1_000_000)
}
