//! JSON as it goes into the index: parsed once, borrowed where it can be, and cut to bounds while it is parsed.
//!
//! Whatever the bounds cut off is not searchable; the event itself keeps it. Text is never taken for a date, so that
//! what was written is what is found.

use std::{borrow::Cow, cell::Cell, fmt};

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use tantivy::schema::document::{ReferenceValue, ReferenceValueLeaf, Value};

/// Most values of one event that are indexed.
pub(crate) const MAX_VALUES: u32 = 512;
/// Deepest nesting that is indexed.
const MAX_DEPTH: u32 = 12;
/// Longest text that is indexed, in bytes. The rest of a longer one is not searchable.
const MAX_TEXT: usize = 8 << 10;
/// Longest key, in bytes.
const MAX_KEY: usize = 256;

/// A value of a JSON document.
#[derive(Debug)]
pub(crate) enum Node<'a> {
    Null,
    Bool(bool),
    I64(i64),
    U64(u64),
    F64(f64),
    Text(Cow<'a, str>),
    Array(Vec<Node<'a>>),
    Object(Vec<(Cow<'a, str>, Node<'a>)>),
}

/// A parsed object, and whether something of it was left out.
#[derive(Debug)]
pub(crate) struct Parsed<'a> {
    pub(crate) root: Node<'a>,
    pub(crate) cut: bool,
}

/// Parses one JSON object.
pub(crate) fn parse(text: &[u8]) -> Result<Parsed<'_>, serde_json::Error> {
    let left = Cell::new(MAX_VALUES);
    let cut = Cell::new(false);
    let mut parser = serde_json::Deserializer::from_slice(text);
    let root = Seed { left: &left, cut: &cut, depth: 0 }.deserialize(&mut parser)?;
    parser.end()?;
    if !matches!(root, Node::Object(_)) {
        return Err(serde_json::Error::custom("not an object"));
    }
    Ok(Parsed { root, cut: cut.get() })
}

/// Whether a key can be part of a field's name. A zero byte ends a name in the index.
pub(crate) fn is_key(key: &str) -> bool {
    (1..=MAX_KEY).contains(&key.len()) && !key.contains('\0')
}

/// What of a document is looked for as a term: texts and truths. Numbers are compared, in columns.
pub(crate) fn terms<'a>(node: &'a Node<'_>) -> Option<Node<'a>> {
    match node {
        Node::Null | Node::I64(_) | Node::U64(_) | Node::F64(_) => None,
        Node::Bool(truth) => Some(Node::Bool(*truth)),
        Node::Text(text) => Some(Node::Text(Cow::Borrowed(text))),
        Node::Array(elements) => {
            let elements: Vec<_> = elements.iter().filter_map(terms).collect();
            (!elements.is_empty()).then_some(Node::Array(elements))
        }
        Node::Object(entries) => {
            let entry = |(key, node): &'a (Cow<'_, str>, Node<'_>)| Some((Cow::Borrowed(&**key), terms(node)?));
            let entries: Vec<_> = entries.iter().filter_map(entry).collect();
            (!entries.is_empty()).then_some(Node::Object(entries))
        }
    }
}

#[derive(Clone, Copy)]
struct Seed<'c> {
    left: &'c Cell<u32>,
    cut: &'c Cell<bool>,
    depth: u32,
}

impl Seed<'_> {
    /// Whether one more value may be taken, a level deeper.
    fn deeper(self) -> Option<Self> {
        if self.left.get() == 0 || self.depth >= MAX_DEPTH {
            self.cut.set(true);
            return None;
        }
        Some(Self { depth: self.depth + 1, ..self })
    }

    fn leaf<'a>(self, node: Node<'a>) -> Node<'a> {
        self.left.set(self.left.get().saturating_sub(1));
        node
    }

    fn text<'a>(self, text: Cow<'a, str>) -> Node<'a> {
        if text.len() <= MAX_TEXT {
            return self.leaf(Node::Text(text));
        }
        self.cut.set(true);
        let end = text.floor_char_boundary(MAX_TEXT);
        self.leaf(Node::Text(match text {
            Cow::Borrowed(text) => Cow::Borrowed(&text[..end]),
            Cow::Owned(mut text) => {
                text.truncate(end);
                Cow::Owned(text)
            }
        }))
    }
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Node<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node<'de>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Node<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Node<'de>, E> {
        Ok(Node::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node<'de>, E> {
        Ok(self.leaf(Node::Bool(value)))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node<'de>, E> {
        Ok(self.leaf(Node::I64(value)))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node<'de>, E> {
        Ok(self.leaf(Node::U64(value)))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Node<'de>, E> {
        Ok(self.leaf(Node::F64(value)))
    }

    fn visit_borrowed_str<E>(self, value: &'de str) -> Result<Node<'de>, E> {
        Ok(self.text(Cow::Borrowed(value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Node<'de>, E> {
        Ok(self.text(Cow::Owned(value.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Node<'de>, A::Error> {
        let mut array = Vec::new();
        loop {
            match self.deeper() {
                Some(seed) => match elements.next_element_seed(seed)? {
                    Some(node) => array.push(node),
                    None => return Ok(Node::Array(array)),
                },
                None => {
                    while elements.next_element::<IgnoredAny>()?.is_some() {}
                    return Ok(Node::Array(array));
                }
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Node<'de>, A::Error> {
        let mut object = Vec::new();
        while let Some(key) = entries.next_key_seed(Key)? {
            match self.deeper() {
                Some(seed) if is_key(&key) => {
                    object.push((key, entries.next_value_seed(seed)?));
                }
                _ => {
                    self.cut.set(true);
                    entries.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(Node::Object(object))
    }
}

struct Key;

impl<'de> DeserializeSeed<'de> for Key {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Key {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_borrowed_str<E>(self, key: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(key))
    }

    fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(key.to_owned()))
    }
}

/// The entries of an object.
pub(crate) struct Entries<'a>(std::slice::Iter<'a, (Cow<'a, str>, Node<'a>)>);

impl<'a> Iterator for Entries<'a> {
    type Item = (&'a str, &'a Node<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().map(|(key, node)| (key.as_ref(), node))
    }
}

impl<'a> Value<'a> for &'a Node<'a> {
    type ArrayIter = std::slice::Iter<'a, Node<'a>>;
    type ObjectIter = Entries<'a>;

    fn as_value(&self) -> ReferenceValue<'a, Self> {
        match self {
            Node::Null => ReferenceValueLeaf::Null.into(),
            Node::Bool(value) => ReferenceValueLeaf::Bool(*value).into(),
            Node::I64(value) => ReferenceValueLeaf::I64(*value).into(),
            Node::U64(value) => ReferenceValueLeaf::U64(*value).into(),
            Node::F64(value) => ReferenceValueLeaf::F64(*value).into(),
            Node::Text(text) => ReferenceValueLeaf::Str(text).into(),
            Node::Array(elements) => ReferenceValue::Array(elements.iter()),
            Node::Object(entries) => ReferenceValue::Object(Entries(entries.iter())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(node: &Node<'_>) -> u32 {
        match node {
            Node::Array(elements) => elements.iter().map(values).sum(),
            Node::Object(entries) => entries.iter().map(|(_, node)| values(node)).sum(),
            _ => 1,
        }
    }

    #[test]
    fn an_object_is_parsed_with_its_types() {
        let parsed = parse(br#"{"a":{"b":[1,-2,2.5,true,null,"x\ty"]}}"#).unwrap();
        assert!(!parsed.cut);
        assert_eq!(
            format!("{:?}", parsed.root),
            r#"Object([("a", Object([("b", Array([U64(1), I64(-2), F64(2.5), Bool(true), Null, Text("x\ty")]))]))])"#
        );
    }

    #[test]
    fn what_is_too_much_is_cut_and_said() {
        let many = format!("{{\"a\":[{}1]}}", "1,".repeat(5000));
        let parsed = parse(many.as_bytes()).unwrap();
        assert!(parsed.cut);
        assert_eq!(values(&parsed.root), MAX_VALUES);
        let deep = format!("{}1{}", "{\"a\":".repeat(40), "}".repeat(40));
        assert!(parse(deep.as_bytes()).unwrap().cut);
        let long = format!("{{\"a\":\"{}\"}}", "é".repeat(MAX_TEXT));
        assert!(parse(long.as_bytes()).unwrap().cut);
    }

    #[test]
    fn what_is_not_an_object_is_refused() {
        for text in ["", "1", "[]", "{", "{} x", "{\"a\":\u{1}}", "\"\\ud800\""] {
            assert!(parse(text.as_bytes()).is_err(), "{text}");
        }
        assert!(parse(b"{\"a\":\"\xff\"}").is_err());
        let bomb = "[".repeat(100_000);
        assert!(parse(bomb.as_bytes()).is_err());
    }
}
