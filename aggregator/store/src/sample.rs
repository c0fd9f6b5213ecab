//! Some events in memory, to be asked which of them a query matches: for those who follow a log whose events are kept
//! by another store.

use std::{sync::Arc, time::Instant};

use galen_proto::v1::{Event, EventId, LogRecord};
use prost::Message;
use tantivy::{Index, IndexBuilder, TERMINATED, directory::RamDirectory, query::EnableScoring};

use crate::{
    batch::Batch,
    document::Document,
    error::Error,
    hit::unreadable,
    prepare::{Origin, prepare},
    query::Query,
    schema::{FIELDS, tokenizers},
    search::{DEADLINE, late},
};

/// What the engine may take before it has to write: never reached.
const HEAP: usize = 15 << 20;

/// Events, in the order in which they came.
pub struct Sample {
    index: Index,
    events: Vec<Event>,
}

impl Sample {
    /// Takes the events of some records.
    ///
    /// # Errors
    /// If the engine fails.
    pub fn new(records: &[LogRecord]) -> Result<Self, Error> {
        let builder = IndexBuilder::new().schema(FIELDS.schema.clone()).tokenizers(tokenizers());
        let builder = builder.fast_field_tokenizers(tokenizers());
        let mut writer = builder.single_segment_index_writer(RamDirectory::create(), HEAP).map_err(Error::Sample)?;
        let mut events = Vec::new();
        for record in records {
            let epoch = format!("{:016x}", record.epoch);
            for (seq, raw) in (record.first_seq..).zip(&record.events) {
                let (node, received) = (record.node.as_str(), record.received_unix_nanos);
                let origin = Origin { node, epoch: &epoch, seq, offset: 0, received };
                let mut batch = Batch::with_capacity(1, raw.len());
                let fields = prepare(origin, raw, &mut batch).fields;
                let document = Document { batch: Arc::new(batch), fields, source: None, place: None };
                writer.add_document(document).map_err(Error::Sample)?;
                let event = Event::decode(raw.clone()).map(without_content);
                let mut event = event.unwrap_or_else(|error| unreadable(received, Some(&format!("event: {error}"))));
                event.id = Some(EventId { node: node.to_owned(), epoch: record.epoch, seq });
                events.push(event);
            }
        }
        Ok(Self { index: writer.finalize().map_err(Error::Sample)?, events })
    }

    /// Those that match, without the content of their attachments.
    ///
    /// # Errors
    /// If the engine fails, or takes too long.
    pub fn matching(&self, query: &Query) -> Result<Vec<Event>, Error> {
        let end = Instant::now() + DEADLINE;
        let compiled = query.compile(end)?;
        let searcher = self.index.reader().map_err(Error::Sample)?.searcher();
        let weight = compiled.weight(EnableScoring::disabled_from_searcher(&searcher)).map_err(Error::Sample)?;
        let mut matching = Vec::new();
        for segment in searcher.segment_readers() {
            let mut scorer = weight.scorer(segment, 1.0).map_err(Error::Sample)?;
            let mut document = scorer.doc();
            while document != TERMINATED {
                matching.extend(self.events.get(document as usize).cloned());
                document = scorer.advance();
            }
            if Instant::now() > end {
                return Err(late());
            }
        }
        Ok(matching)
    }
}

fn without_content(mut event: Event) -> Event {
    event.attachments.iter_mut().for_each(|attachment| attachment.content = bytes::Bytes::new());
    event
}
