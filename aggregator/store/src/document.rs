//! From an event, as it was received, to a document of the index.
//!
//! An event that cannot be decoded becomes a document too, with its identity, the reason in `defect` and its bytes
//! kept: it is put aside by a query, not by a place of its own, so that it is kept exactly once and as long as the
//! others. The same holds for `data` that is not a JSON object; the rest of such an event is indexed as usual.

use std::borrow::Cow;

use bytes::Bytes;
use galen_proto::v1::{Event, EventKind, Severity};
use prost::Message;
use tantivy::{TantivyDocument, schema::Field};

use crate::{day::Day, json, schema::FIELDS};

/// Larger events lie apart from the index even without attachments, in bytes.
const LARGE: usize = 32 << 10;

/// Where an event came from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Origin<'a> {
    pub(crate) node: &'a str,
    /// As 16 hex digits.
    pub(crate) epoch: &'a str,
    pub(crate) seq: u64,
    pub(crate) offset: u64,
    /// Nanoseconds since 1970-01-01 UTC.
    pub(crate) received: i64,
}

/// What was wrong with an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Defect {
    /// It cannot be decoded.
    Unreadable,
    /// Its data is not a JSON object, or has more than is indexed.
    Data,
}

/// A document, ready for the index of its day.
pub(crate) struct Prepared {
    pub(crate) day: Day,
    pub(crate) document: TantivyDocument,
    /// Whether the event itself goes to the evidence file.
    pub(crate) apart: bool,
    pub(crate) defect: Option<Defect>,
}

/// Makes the document of an event.
pub(crate) fn prepare(origin: Origin<'_>, raw: &Bytes) -> Prepared {
    let fields = &*FIELDS;
    let mut document = TantivyDocument::with_capacity(2 * raw.len().min(LARGE) + 1024);
    document.add_text(fields.node, origin.node);
    document.add_text(fields.epoch, origin.epoch);
    document.add_u64(fields.seq, origin.seq);
    document.add_u64(fields.offset, origin.offset);
    document.add_i64(fields.received, origin.received);

    // A copy of the handle, not of the bytes.
    let mut event = match Event::decode(raw.clone()) {
        Ok(event) => event,
        Err(error) => {
            document.add_i64(fields.time, origin.received);
            document.add_text(fields.defect, format!("event: {error}"));
            let day = Day::index(origin.received, origin.received);
            return Prepared { day, document, apart: true, defect: Some(Defect::Unreadable) };
        }
    };
    let times = event.times.unwrap_or_default();
    document.add_i64(fields.time, times.observed_unix_nanos);
    document.add_i64(fields.recorded, times.recorded_unix_nanos);
    describe(&mut document, &event);
    let defect = index_data(&mut document, &event.data);

    let apart = !event.attachments.is_empty() || raw.len() > LARGE;
    if apart {
        for attachment in &mut event.attachments {
            attachment.content = Bytes::new();
        }
        document.add_bytes(fields.source, &event.encode_to_vec());
    } else {
        document.add_bytes(fields.source, raw);
    }
    Prepared { day: Day::index(times.observed_unix_nanos, origin.received), document, apart, defect }
}

/// The name of a kind in queries.
#[must_use]
pub fn kind_name(kind: i32) -> &'static str {
    match EventKind::try_from(kind) {
        Ok(EventKind::Trigger) => "trigger",
        Ok(EventKind::Capture) => "capture",
        Ok(EventKind::Event) => "event",
        Ok(EventKind::Unspecified) | Err(_) => "unknown",
    }
}

/// The name of a severity in queries.
#[must_use]
pub fn severity_name(severity: i32) -> &'static str {
    match Severity::try_from(severity) {
        Ok(Severity::Info) => "info",
        Ok(Severity::Warning) => "warning",
        Ok(Severity::Critical) => "critical",
        Ok(Severity::Unspecified) | Err(_) => "unknown",
    }
}

fn describe(document: &mut TantivyDocument, event: &Event) {
    let fields = &*FIELDS;
    keyword(document, fields.tracer, &event.tracer);
    keyword(document, fields.run_id, &event.run_id);
    keyword(document, fields.kind, kind_name(event.kind));
    keyword(document, fields.severity, severity_name(event.severity));
    keyword(document, fields.summary, &event.summary);
    if let Some(host) = &event.host {
        keyword(document, fields.host.name, &host.name);
        keyword(document, fields.host.kernel, &host.kernel);
        keyword(document, fields.host.arch, &host.arch);
        keyword(document, fields.host.boot_id, &host.boot_id);
        keyword(document, fields.host.region, &host.region);
        document.add_u64(fields.host.cpus, host.cpus.into());
    }
    if let Some(container) = &event.container {
        keyword(document, fields.container.id, &container.id);
        keyword(document, fields.container.name, &container.name);
        keyword(document, fields.container.runtime, &container.runtime);
        keyword(document, fields.container.cgroup, &container.cgroup);
        keyword(document, fields.container.pod, &container.pod);
        keyword(document, fields.container.namespace, &container.namespace);
        keyword(document, fields.container.qos, &container.qos);
        keyword(document, fields.container.image, &container.image);
        if !container.labels.is_empty() {
            let labels = container.labels.iter().filter(|(key, _)| json::is_key(key)).take(json::MAX_VALUES as usize);
            let labels = labels.map(|(key, value)| (Cow::Borrowed(&**key), json::Node::Text(Cow::Borrowed(&**value))));
            document.add_field_value(fields.container.labels, &json::Node::Object(labels.collect()));
        }
    }
    for attachment in event.attachments.iter().take(64) {
        keyword(document, fields.attachment, &attachment.name);
    }
}

fn index_data(document: &mut TantivyDocument, data: &[u8]) -> Option<Defect> {
    if data.is_empty() {
        return None;
    }
    match json::parse(data) {
        Ok(parsed) => {
            document.add_field_value(FIELDS.data, &parsed.root);
            if let Some(terms) = json::terms(&parsed.root) {
                document.add_field_value(FIELDS.data_text, &terms);
            }
            parsed.cut.then(|| {
                document.add_text(FIELDS.defect, "data: has more than is indexed");
                Defect::Data
            })
        }
        Err(error) => {
            document.add_text(FIELDS.defect, format!("data: not a JSON object: {error}"));
            Some(Defect::Data)
        }
    }
}

/// Adds text, unless there is none.
fn keyword(document: &mut TantivyDocument, field: Field, text: &str) {
    if !text.is_empty() {
        document.add_text(field, text);
    }
}
