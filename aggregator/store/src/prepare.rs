//! From an event, as it was received, to a document of the index.
//!
//! An event that cannot be decoded becomes a document too, with its identity, the reason in `defect` and its bytes
//! kept: it is put aside by a query, not by a place of its own, so that it is kept exactly once and as long as the
//! others. The same holds for `data` that is not a JSON object; the rest of such an event is indexed as usual.

use bytes::Bytes;
use galen_proto::{
    cloudevent::kind_name,
    v1::{Event, Severity, Times},
};
use prost::Message;
use tantivy::schema::Field;

use crate::{
    batch::{Batch, Item, Span},
    day::Day,
    json,
    limits::{MAX_ATTACHMENTS, MAX_LABELS},
    schema::FIELDS,
    walk::is_key,
};

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
    /// Its part of the batch.
    pub(crate) fields: Span,
    /// The event as the index keeps it.
    pub(crate) source: Option<Bytes>,
    /// Whether the event itself goes to the evidence file.
    pub(crate) apart: bool,
    pub(crate) defect: Option<Defect>,
}

/// Makes the document of an event. Its fields are added in the schema's order, so that the engine finds them sorted.
pub(crate) fn prepare(origin: Origin<'_>, raw: &Bytes, batch: &mut Batch) -> Prepared {
    let fields = &*FIELDS;
    let start = batch.fields.len();
    batch.add_text(fields.node, origin.node);
    batch.add_text(fields.epoch, origin.epoch);
    // A copy of the handle, not of the bytes.
    let decoded = Event::decode(raw.clone());
    let times = match &decoded {
        Ok(event) => event.times.unwrap_or_default(),
        Err(_) => Times { observed_unix_nanos: origin.received, ..Times::default() },
    };
    if let Ok(event) = &decoded {
        describe(batch, event);
    }
    batch.add(fields.seq, Item::U64(origin.seq));
    batch.add(fields.offset, Item::U64(origin.offset));
    batch.add(fields.time, Item::I64(times.observed_unix_nanos));
    if decoded.is_ok() {
        batch.add(fields.recorded, Item::I64(times.recorded_unix_nanos));
    }
    batch.add(fields.received, Item::I64(origin.received));

    let (source, apart, defect) = match decoded {
        Ok(mut event) => {
            keyword(batch, fields.summary, &event.summary);
            let defect = index_data(batch, &event.data);
            let apart = !event.attachments.is_empty() || raw.len() > LARGE;
            let source = if apart {
                for attachment in &mut event.attachments {
                    attachment.content = Bytes::new();
                }
                event.encode_to_vec().into()
            } else {
                raw.clone()
            };
            (Some(source), apart, defect)
        }
        Err(error) => {
            batch.add_text(fields.defect, &format!("event: {error}"));
            (None, true, Some(Defect::Unreadable))
        }
    };
    let day = Day::index(times.observed_unix_nanos, origin.received);
    Prepared { day, fields: batch.fields_since(start), source, apart, defect }
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

fn describe(batch: &mut Batch, event: &Event) {
    let fields = &*FIELDS;
    keyword(batch, fields.tracer, &event.tracer);
    keyword(batch, fields.kind, kind_name(event.kind));
    keyword(batch, fields.severity, severity_name(event.severity));
    for attachment in event.attachments.iter().take(MAX_ATTACHMENTS) {
        keyword(batch, fields.attachment, &attachment.name);
    }
    if let Some(container) = &event.container {
        keyword(batch, fields.container.id, &container.id);
        keyword(batch, fields.container.name, &container.name);
        keyword(batch, fields.container.runtime, &container.runtime);
        keyword(batch, fields.container.cgroup, &container.cgroup);
        keyword(batch, fields.container.pod, &container.pod);
        keyword(batch, fields.container.namespace, &container.namespace);
        keyword(batch, fields.container.qos, &container.qos);
        keyword(batch, fields.container.image, &container.image);
        if !container.labels.is_empty() {
            let labels = batch.open();
            for (key, value) in container.labels.iter().filter(|(key, _)| is_key(key)).take(MAX_LABELS) {
                let (key, value) = (batch.text(key), batch.text(value));
                batch.push(key);
                batch.push(value);
            }
            let labels = batch.close(labels, Item::Object);
            batch.add(fields.container.labels, labels);
        }
    }
    keyword(batch, fields.run_id, &event.run_id);
    if let Some(host) = &event.host {
        keyword(batch, fields.host.name, &host.name);
        keyword(batch, fields.host.kernel, &host.kernel);
        keyword(batch, fields.host.arch, &host.arch);
        keyword(batch, fields.host.boot_id, &host.boot_id);
        keyword(batch, fields.host.region, &host.region);
        batch.add(fields.host.cpus, Item::U64(host.cpus.into()));
    }
}

fn index_data(batch: &mut Batch, data: &[u8]) -> Option<Defect> {
    if data.is_empty() {
        return None;
    }
    match json::parse(data, batch) {
        Ok(parsed) => {
            batch.add(FIELDS.data, Item::Object(parsed.entries));
            batch.add(FIELDS.data_text, Item::Terms(parsed.entries));
            parsed.cut.then(|| {
                batch.add_text(FIELDS.defect, "data: has more than is indexed");
                Defect::Data
            })
        }
        Err(error) => {
            batch.add_text(FIELDS.defect, &format!("data: not a JSON object: {error}"));
            Some(Defect::Data)
        }
    }
}

/// Adds text, unless there is none.
fn keyword(batch: &mut Batch, field: Field, text: &str) {
    if !text.is_empty() {
        batch.add_text(field, text);
    }
}
