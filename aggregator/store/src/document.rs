//! A document as the engine reads it: an event's part of a batch.
//!
//! The engine goes through a document four times, in a thread of its own. The event itself is a handle to the bytes
//! that were received; they are copied once, to where the engine stores them.

use std::{slice, sync::Arc};

use bytes::Bytes;
use tantivy::schema::{
    Field,
    document::{self, ReferenceValue, ReferenceValueLeaf, Value},
};

use crate::{
    batch::{Batch, Item, Span},
    evidence::Place,
    schema::FIELDS,
};

/// One event.
#[derive(Debug)]
pub(crate) struct Document {
    pub(crate) batch: Arc<Batch>,
    pub(crate) fields: Span,
    /// The event as it was received, or without the content of its attachments.
    pub(crate) source: Option<Bytes>,
    /// Where the event lies if it is kept apart.
    pub(crate) place: Option<[u8; Place::BYTES]>,
}

impl document::Document for Document {
    type Value<'a> = Node<'a>;
    type FieldsValuesIter<'a> = Fields<'a>;

    fn iter_fields_and_values(&self) -> Fields<'_> {
        Fields {
            batch: &self.batch,
            fields: self.batch.fields[self.fields.range()].iter(),
            source: self.source.as_deref(),
            place: self.place.as_ref(),
        }
    }
}

/// The values of a document.
pub(crate) struct Fields<'a> {
    batch: &'a Batch,
    fields: slice::Iter<'a, (Field, Item)>,
    source: Option<&'a [u8]>,
    place: Option<&'a [u8; Place::BYTES]>,
}

impl<'a> Iterator for Fields<'a> {
    type Item = (Field, Node<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        if let Some((field, item)) = self.fields.next() {
            return Some((*field, Node::Item { batch: self.batch, item: *item, terms: false }));
        }
        if let Some(source) = self.source.take() {
            return Some((FIELDS.source, Node::Bytes(source)));
        }
        let place = self.place.take()?;
        Some((FIELDS.evidence, Node::Bytes(place)))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let fields = self.fields.len();
        (fields, Some(fields + 2))
    }
}

/// A value of a document.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Node<'a> {
    Bytes(&'a [u8]),
    Item {
        batch: &'a Batch,
        item: Item,
        /// Whether it is below [`Item::Terms`].
        terms: bool,
    },
}

impl<'a> Value<'a> for Node<'a> {
    type ArrayIter = Elements<'a>;
    type ObjectIter = Entries<'a>;

    fn as_value(&self) -> ReferenceValue<'a, Self> {
        let (batch, item, terms) = match *self {
            Self::Bytes(bytes) => return ReferenceValueLeaf::Bytes(bytes).into(),
            Self::Item { batch, item, terms } => (batch, item, terms),
        };
        let elements = |span: Span, terms| Elements { batch, items: batch.items[span.range()].iter(), terms };
        match item {
            Item::Null => ReferenceValueLeaf::Null.into(),
            Item::Bool(value) => ReferenceValueLeaf::Bool(value).into(),
            Item::I64(value) => ReferenceValueLeaf::I64(value).into(),
            Item::U64(value) => ReferenceValueLeaf::U64(value).into(),
            Item::F64(value) => ReferenceValueLeaf::F64(value).into(),
            Item::Text(span) => ReferenceValueLeaf::Str(&batch.texts[span.range()]).into(),
            Item::Array(span) => ReferenceValue::Array(elements(span, terms)),
            Item::Object(span) => ReferenceValue::Object(Entries(elements(span, terms))),
            Item::Terms(span) => ReferenceValue::Object(Entries(elements(span, true))),
        }
    }
}

/// What an array holds.
pub(crate) struct Elements<'a> {
    batch: &'a Batch,
    items: slice::Iter<'a, Item>,
    terms: bool,
}

impl<'a> Iterator for Elements<'a> {
    type Item = Node<'a>;

    fn next(&mut self) -> Option<Node<'a>> {
        let mut item = *self.items.next()?;
        match item {
            Item::Array(inside) | Item::Object(inside) => {
                self.items = self.items.as_slice()[inside.range().len()..].iter();
            }
            Item::I64(_) | Item::U64(_) | Item::F64(_) if self.terms => item = Item::Null,
            _ => {}
        }
        Some(Node::Item { batch: self.batch, item, terms: self.terms })
    }
}

/// What an object holds.
pub(crate) struct Entries<'a>(Elements<'a>);

impl<'a> Iterator for Entries<'a> {
    type Item = (&'a str, Node<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let Item::Text(key) = *self.0.items.next()? else { return None };
        Some((&self.0.batch.texts[key.range()], self.0.next()?))
    }
}
