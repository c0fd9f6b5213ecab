//! An event as a search finds it, and as it was received.

use bytes::Bytes;
use galen_proto::v1::{Event, EventId, Severity, Times};
use prost::Message;
use tantivy::{
    DocAddress, Searcher, TantivyDocument,
    schema::{Field, Value},
};

use crate::{error::Error, evidence::Place, partition::Partition, schema::FIELDS};

/// An event that was found. Its attachments carry no content.
#[derive(Debug, Clone)]
pub struct Hit {
    /// The event, its identity filled in.
    pub event: Event,
    /// In the log.
    pub offset: u64,
    /// Observed, nanoseconds since 1970-01-01 UTC.
    pub time: i64,
    /// Received by the aggregator, nanoseconds since 1970-01-01 UTC.
    pub received: i64,
    /// What is wrong with the event, if anything.
    pub defect: Option<String>,
    /// What is kept of it in the index, in bytes.
    pub(crate) bytes: usize,
}

pub(crate) fn load(partition: &Partition, searcher: &Searcher, address: DocAddress) -> Result<Hit, Error> {
    let name = partition.name;
    let failed = || Error::index("read", name);
    let damaged = |what: String| Error::Damaged { index: name.to_string(), what };
    let columns = searcher.segment_reader(address.segment_ord).fast_fields();
    let number = |field| -> Result<u64, Error> {
        Ok(columns.u64(field).map_err(failed())?.first(address.doc_id).unwrap_or_default())
    };
    let moment = |field| -> Result<i64, Error> {
        Ok(columns.i64(field).map_err(failed())?.first(address.doc_id).unwrap_or_default())
    };
    let text = |field| -> Result<Option<String>, Error> {
        let Some(column) = columns.str(field).map_err(failed())? else { return Ok(None) };
        let Some(ord) = column.term_ords(address.doc_id).next() else { return Ok(None) };
        let mut text = String::new();
        column.ord_to_str(ord, &mut text).map_err(|error| damaged(error.to_string()))?;
        Ok(Some(text))
    };
    let epoch = text("epoch")?.and_then(|epoch| u64::from_str_radix(&epoch, 16).ok()).unwrap_or_default();
    let id = EventId { node: text("node")?.unwrap_or_default(), epoch, seq: number("seq")? };
    let (time, received, defect) = (moment("time")?, moment("received")?, text("defect")?);

    let document: TantivyDocument = searcher.doc(address).map_err(failed())?;
    let (mut event, bytes) = match stored(&document, FIELDS.source) {
        Some(source) => {
            let event = Event::decode(source).map_err(|error| damaged(format!("event {id}: {error}")))?;
            (event, source.len())
        }
        None => (unreadable(received, defect.as_deref()), 0),
    };
    event.id = Some(id);
    Ok(Hit { event, offset: number("offset")?, time, received, defect, bytes })
}

/// The event as it was received, byte for byte.
pub(crate) fn raw(partition: &Partition, searcher: &Searcher, address: DocAddress) -> Result<Bytes, Error> {
    let name = partition.name;
    let document: TantivyDocument = searcher.doc(address).map_err(Error::index("read", name))?;
    let damaged = |what: &str| Error::Damaged { index: name.to_string(), what: what.to_owned() };
    if let Some(place) = stored(&document, FIELDS.evidence) {
        let place = Place::from_bytes(place).ok_or_else(|| damaged("an event has no place"))?;
        let read = partition.evidence.read(place);
        return Ok(read.map_err(Error::io("read", partition.dir.join("evidence")))?.into());
    }
    let source = stored(&document, FIELDS.source).ok_or_else(|| damaged("an event has no source"))?;
    Ok(Bytes::copy_from_slice(source))
}

fn stored(document: &TantivyDocument, field: Field) -> Option<&[u8]> {
    document.get_first(field)?.as_bytes()
}

/// Stands for an event that cannot be decoded, so that people see that it came.
#[must_use]
pub fn unreadable(received: i64, defect: Option<&str>) -> Event {
    Event {
        severity: Severity::Warning.into(),
        summary: format!("This event could not be read. {}", defect.unwrap_or_default()),
        times: Some(Times { observed_unix_nanos: received, ..Times::default() }),
        ..Event::default()
    }
}
