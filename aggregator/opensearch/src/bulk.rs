//! A bulk request: its lines, which are made once, and what is sent of them.
//!
//! The first try sends the lines as they lie, without a copy. A later one sends the items that are left.

use std::ops::Range;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{client::Answer, error::Error};

/// What a document is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Event,
    Attachment,
    /// An event that is not indexed, with its bytes.
    DeadLetter,
    /// A dead letter that was too large, without them.
    Remark,
}

/// A document of a request.
#[derive(Debug, Clone)]
pub(crate) struct Item {
    /// Both lines, in the body.
    lines: Range<usize>,
    pub(crate) kind: Kind,
    /// Of the event, in its delivery.
    pub(crate) place: usize,
}

/// Lines in the making.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    body: Vec<u8>,
    items: Vec<Item>,
}

/// What one request sends.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    body: Bytes,
    pub(crate) items: Vec<Item>,
}

#[derive(Serialize)]
struct Action<'a> {
    create: Target<'a>,
}

#[derive(Serialize)]
struct Target<'a> {
    _index: &'a str,
    _id: &'a str,
}

/// The answer to a request, as far as it is asked for.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Outcome {
    errors: bool,
    items: Vec<Created>,
}

#[derive(Debug, Deserialize)]
struct Created {
    create: Status,
}

/// What became of an item.
#[derive(Debug, Deserialize)]
pub(crate) struct Status {
    pub(crate) status: u16,
    pub(crate) error: Option<Cause>,
}

/// Why OpenSearch refused something.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Cause {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) reason: Option<String>,
    caused_by: Option<Box<Cause>>,
}

impl Lines {
    pub(crate) fn with_capacity(bytes: usize) -> Self {
        Self { body: Vec::with_capacity(bytes), items: Vec::new() }
    }

    /// Appends a document that is only created if it is not there.
    pub(crate) fn create(&mut self, index: &str, id: &str, document: &impl Serialize, kind: Kind, place: usize) {
        let start = self.body.len();
        for written in [serde_json::to_writer(&mut self.body, &Action { create: Target { _index: index, _id: id } }), {
            self.body.push(b'\n');
            serde_json::to_writer(&mut self.body, document)
        }] {
            // Memory takes everything, and the keys of our maps are texts.
            debug_assert!(written.is_ok(), "{written:?}");
        }
        self.body.push(b'\n');
        self.items.push(Item { lines: start..self.body.len(), kind, place });
    }

    pub(crate) fn request(self) -> Request {
        Request { body: self.body.into(), items: self.items }
    }
}

impl Request {
    /// Divides it into requests of at most this many bytes, or one item.
    pub(crate) fn divided(self, max_bytes: usize) -> Vec<Self> {
        let mut parts = Vec::new();
        let mut items = self.items.into_iter().peekable();
        while let Some(first) = items.next() {
            let start = first.lines.start;
            let mut part = vec![first];
            while let Some(item) = items.next_if(|item| item.lines.end - start <= max_bytes) {
                part.push(item);
            }
            let end = part.last().map_or(start, |item| item.lines.end);
            for item in &mut part {
                item.lines = item.lines.start - start..item.lines.end - start;
            }
            parts.push(Self { body: self.body.slice(start..end), items: part });
        }
        parts
    }

    /// What is left of it: the items for which `keep` says so.
    pub(crate) fn only(&self, keep: impl Fn(usize) -> bool) -> Self {
        let mut left = Lines::default();
        for (_, item) in self.items.iter().enumerate().filter(|(number, _)| keep(*number)) {
            let start = left.body.len();
            left.body.extend_from_slice(&self.body[item.lines.clone()]);
            left.items.push(Item { lines: start..left.body.len(), ..item.clone() });
        }
        left.request()
    }

    pub(crate) fn halves(self) -> Vec<Self> {
        let bytes = self.body.len();
        self.divided(bytes.div_ceil(2))
    }

    pub(crate) fn body(&self) -> Bytes {
        self.body.clone()
    }

    /// Reads the answer: what became of each item, in order.
    pub(crate) fn read(&self, answer: &Answer) -> Result<Vec<Status>, Error> {
        let outcome: Outcome = answer.read("index events")?;
        let (sent, got) = (self.items.len(), outcome.items.len());
        if sent != got {
            return Err(Error::Items { node: answer.node.to_string(), sent, got, begins: answer.begins() });
        }
        Ok(outcome.items.into_iter().map(|item| item.create).collect())
    }
}

impl Cause {
    /// In one line, with its causes, cut to a length that people read.
    pub(crate) fn message(&self) -> String {
        const MAX: usize = 1000;
        let mut message = format!("{}: {}", self.kind, self.reason.as_deref().unwrap_or_default());
        let mut cause = self.caused_by.as_deref();
        while let Some(inner) = cause.filter(|_| message.len() < MAX) {
            message.push_str(&format!("; {}: {}", inner.kind, inner.reason.as_deref().unwrap_or_default()));
            cause = inner.caused_by.as_deref();
        }
        message.truncate(message.floor_char_boundary(MAX));
        message
    }
}
