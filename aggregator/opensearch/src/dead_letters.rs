//! What was put aside: shown, and written again once the reason is gone.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use galen_log::Delivery;
use galen_proto::v1::{Event, EventId, LogRecord};
use opensearch::http::Method;
use prost::Message;
use serde::Deserialize;
use serde_json::{Value as Json, json};

use crate::{Client, Counters, Settings, error::Error, names::Names, retention, writer::Writer};

/// Letters that are read at a time; each may have the bytes of a large event.
const PAGE: usize = 10;

/// An event that OpenSearch refused.
#[derive(Debug, Clone)]
pub struct DeadLetter {
    /// As text: `node/epoch/seq`.
    pub id: String,
    pub message: String,
    /// Nanoseconds since 1970-01-01 UTC.
    pub received: i64,
    pub bytes: u64,
    /// Not there if they were too large as well.
    event: Option<Bytes>,
}

/// How a replay went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Replayed {
    /// Events that are among the others now.
    pub written: u64,
    /// Events that are refused as before, or whose bytes were not kept.
    pub left: u64,
}

/// The dead letters of a cluster.
#[derive(Debug)]
pub struct DeadLetters {
    writer: Writer,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Answer {
    hits: Hits,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Hits {
    hits: Vec<Hit>,
}

#[derive(Debug, Deserialize)]
struct Hit {
    _id: String,
    sort: Json,
    _source: Source,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Source {
    message: String,
    received: i64,
    bytes: u64,
    event: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Found {
    docs: Vec<Document>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Document {
    found: bool,
}

impl DeadLetters {
    /// # Errors
    /// If a file that the settings name cannot be used.
    pub fn new(settings: &Settings) -> Result<Self, Error> {
        Ok(Self { writer: Writer::new(settings, Arc::<Counters>::default())? })
    }

    /// Tells every letter, the oldest first.
    ///
    /// # Errors
    /// If OpenSearch does not answer.
    pub async fn each(&self, mut tell: impl FnMut(&DeadLetter)) -> Result<(), Error> {
        let mut after = None;
        loop {
            let (letters, last) = self.page(after, &["message", "received", "bytes"]).await?;
            letters.iter().for_each(&mut tell);
            match last {
                Some(last) => after = Some(last),
                None => return Ok(()),
            }
        }
    }

    /// Writes those that can be written now, and takes them from the letters.
    ///
    /// # Errors
    /// If OpenSearch does not answer, or is halted.
    pub async fn replay(&self) -> Result<Replayed, Error> {
        let mut replayed = Replayed::default();
        retention::list(&self.writer).await?;
        let mut after = None;
        loop {
            let (letters, last) = self.page(after, &["message", "received", "bytes", "event"]).await?;
            for letter in letters {
                let written = self.write(&letter).await?;
                *(if written { &mut replayed.written } else { &mut replayed.left }) += 1;
            }
            match last {
                Some(last) => after = Some(last),
                None => return Ok(replayed),
            }
        }
    }

    /// Writes an event like one that just came, and says whether all of it is there.
    async fn write(&self, letter: &DeadLetter) -> Result<bool, Error> {
        let Writer { client, names, .. } = &self.writer;
        let (Some(raw), Ok(id)) = (&letter.event, letter.id.parse::<EventId>()) else { return Ok(false) };
        let record = LogRecord {
            node: id.node,
            epoch: id.epoch,
            first_seq: id.seq,
            events: vec![raw.clone()],
            received_unix_nanos: letter.received,
            ..LogRecord::default()
        };
        self.writer.write(Delivery { records: vec![record], ..Delivery::default() }).await?;
        if !is_there(client, names, letter, raw).await? {
            return Ok(false);
        }
        let path = format!("/{}/_doc/{}", names.dead_letters(), encode(&letter.id));
        client.ask("delete a dead letter", Method::Delete, &path, None).await?;
        Ok(true)
    }

    /// Some letters, and where to go on.
    async fn page(&self, after: Option<Json>, fields: &[&str]) -> Result<(Vec<DeadLetter>, Option<Json>), Error> {
        const ACTION: &str = "read dead letters";
        let Writer { client, names, .. } = &self.writer;
        let index = names.dead_letters();
        client.ask(ACTION, Method::Post, &format!("/{index}/_refresh?ignore_unavailable=true"), None).await?;
        let mut body = json!({ "size": PAGE, "sort": ["received", "id"], "_source": fields });
        if let Some(after) = after {
            body["search_after"] = after;
        }
        let path = format!("/{index}/_search?ignore_unavailable=true&filter_path=hits.hits");
        let answer = client.ask(ACTION, Method::Post, &path, Some(Bytes::from(body.to_string()))).await?;
        let answer: Answer = answer.read(ACTION)?;
        let hits = answer.hits.hits;
        let last = hits.last().map(|hit| hit.sort.clone());
        let letter = |Hit { _id, _source, .. }: Hit| DeadLetter {
            id: _id,
            message: _source.message,
            received: _source.received,
            bytes: _source.bytes,
            event: _source.event.and_then(|event| STANDARD.decode(event).ok()).map(Bytes::from),
        };
        Ok((hits.into_iter().map(letter).collect(), last))
    }
}

/// Whether an event and all its attachments are where they belong.
async fn is_there(client: &Client, names: &Names, letter: &DeadLetter, raw: &Bytes) -> Result<bool, Error> {
    const ACTION: &str = "look for an event";
    let event = Event::decode(raw.clone()).ok();
    let id = |index: &str, id: String| json!({ "_index": index, "_id": id, "_source": false });
    let mut docs = vec![id(&names.event(event.as_ref()), letter.id.clone())];
    if let Some(event) = &event {
        let index = names.attachments(event);
        docs.extend((0..event.attachments.len()).map(|number| id(&index, format!("{}/{number}", letter.id))));
    }
    let body = Bytes::from(json!({ "docs": docs }).to_string());
    // Where an index is missing, nothing is said of `found`.
    let answer = client.ask(ACTION, Method::Post, "/_mget?filter_path=docs._id,docs.found", Some(body)).await?;
    let found: Found = answer.read(ACTION)?;
    Ok(found.docs.len() == docs.len() && found.docs.iter().all(|document| document.found))
}

/// An id as a part of a path.
fn encode(id: &str) -> String {
    let mut path = String::new();
    for byte in id.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            path.push(byte.into());
        } else {
            path.push_str(&format!("%{byte:02X}"));
        }
    }
    path
}
