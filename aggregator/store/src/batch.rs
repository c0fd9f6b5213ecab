//! The values of the events of one record, on their way into the index.
//!
//! An event has some sixty values. So that they cost no allocation each, which another thread would have to free, they
//! lie flat: all texts in one buffer, all nested values in one list, for all events of a record.

use std::ops::Range;

use tantivy::schema::Field;

use crate::room::Taken;

/// Fields of an event, as a rule.
const FIELDS: usize = 36;
/// Bytes of an event for each value in its data, as a rule.
const BYTES_PER_VALUE: usize = 16;

/// The values of some events.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) fields: Vec<(Field, Item)>,
    /// What arrays and objects hold, each behind the next; in objects a key before its value.
    pub(crate) items: Vec<Item>,
    pub(crate) texts: String,
    /// Its part of what may wait at a time.
    pub(crate) taken: Option<Taken>,
}

/// A value, or where it lies in its batch.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Item {
    Null,
    Bool(bool),
    I64(i64),
    U64(u64),
    F64(f64),
    /// Of the texts.
    Text(Span),
    /// Of the items.
    Array(Span),
    /// Of the items.
    Object(Span),
    /// The texts and truths of an object: what is looked for as a term. Numbers are compared, in columns.
    Terms(Span),
}

/// From one index up to another.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span {
    start: u32,
    end: u32,
}

impl Span {
    /// A record of the log is far below 4 GiB, and so is what is taken from it.
    fn new(start: usize, end: usize) -> Self {
        Self { start: start as u32, end: end as u32 }
    }

    pub(crate) fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }
}

impl Batch {
    /// For this many events, which have this many bytes.
    pub(crate) fn with_capacity(events: usize, bytes: usize) -> Self {
        Self {
            fields: Vec::with_capacity(events * FIELDS),
            items: Vec::with_capacity(bytes / BYTES_PER_VALUE),
            texts: String::with_capacity(bytes),
            taken: None,
        }
    }

    /// Memory that it takes, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.fields.capacity() * size_of::<(Field, Item)>()
            + self.items.capacity() * size_of::<Item>()
            + self.texts.capacity()
    }

    pub(crate) fn add(&mut self, field: Field, item: Item) {
        self.fields.push((field, item));
    }

    pub(crate) fn add_text(&mut self, field: Field, text: &str) {
        let item = self.text(text);
        self.add(field, item);
    }

    /// The fields that were added since there were `start` of them.
    pub(crate) fn fields_since(&self, start: usize) -> Span {
        Span::new(start, self.fields.len())
    }

    /// Takes a text over, for a field or into an array or object.
    pub(crate) fn text(&mut self, text: &str) -> Item {
        let start = self.texts.len();
        self.texts.push_str(text);
        Item::Text(Span::new(start, self.texts.len()))
    }

    /// Appends a value, or a key, to the array or object that was opened last.
    pub(crate) fn push(&mut self, item: Item) {
        self.items.push(item);
    }

    /// Opens an array or object.
    pub(crate) fn open(&mut self) -> usize {
        self.items.push(Item::Null);
        self.items.len() - 1
    }

    /// Closes what was opened at `at`. It holds all that was pushed since.
    pub(crate) fn close(&mut self, at: usize, of: impl FnOnce(Span) -> Item) -> Item {
        let item = of(Span::new(at + 1, self.items.len()));
        self.items[at] = item;
        item
    }
}
