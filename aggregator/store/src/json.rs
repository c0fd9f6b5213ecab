//! JSON as it goes into the index: parsed once, straight into a batch, and cut to bounds while it is parsed.
//!
//! Whatever the bounds cut off is not searchable; the event itself keeps it. Text is never taken for a date, so that
//! what was written is what is found.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::{
    batch::{Batch, Item, Span},
    limits::{MAX_DEPTH, MAX_KEY, MAX_TEXT, MAX_VALUES},
};

/// A parsed object, and whether something of it was left out.
#[derive(Debug)]
pub(crate) struct Parsed {
    pub(crate) entries: Span,
    pub(crate) cut: bool,
}

/// Parses one JSON object into a batch. After an error the batch holds parts of it, to which nothing leads.
pub(crate) fn parse(text: &[u8], batch: &mut Batch) -> Result<Parsed, serde_json::Error> {
    let mut output = Output { batch, left: MAX_VALUES, cut: false };
    let mut parser = serde_json::Deserializer::from_slice(text);
    let root = Seed { output: &mut output, depth: 0 }.deserialize(&mut parser)?;
    parser.end()?;
    match root {
        Item::Object(entries) => Ok(Parsed { entries, cut: output.cut }),
        _ => Err(serde_json::Error::custom("not an object")),
    }
}

/// Whether a key can be part of a field's name. A zero byte ends a name in the index.
#[must_use]
pub fn is_key(key: &str) -> bool {
    (1..=MAX_KEY).contains(&key.len()) && !key.contains('\0')
}

struct Output<'d> {
    batch: &'d mut Batch,
    left: u32,
    cut: bool,
}

impl Output<'_> {
    /// Whether one more value may be taken inside something at `depth`.
    fn takes(&mut self, depth: u32) -> bool {
        let takes = self.left > 0 && depth < MAX_DEPTH;
        self.cut |= !takes;
        takes
    }

    fn leaf(&mut self, item: Item) -> Item {
        self.left = self.left.saturating_sub(1);
        self.batch.push(item);
        item
    }
}

/// Takes one value.
struct Seed<'o, 'd> {
    output: &'o mut Output<'d>,
    depth: u32,
}

impl<'de> DeserializeSeed<'de> for Seed<'_, '_> {
    type Value = Item;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Item, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_, '_> {
    type Value = Item;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Item, E> {
        self.output.batch.push(Item::Null);
        Ok(Item::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Item, E> {
        Ok(self.output.leaf(Item::Bool(value)))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Item, E> {
        Ok(self.output.leaf(Item::I64(value)))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Item, E> {
        Ok(self.output.leaf(Item::U64(value)))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Item, E> {
        Ok(self.output.leaf(Item::F64(value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Item, E> {
        let kept = &value[..value.floor_char_boundary(MAX_TEXT)];
        self.output.cut |= kept.len() < value.len();
        let text = self.output.batch.text(kept);
        Ok(self.output.leaf(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Item, A::Error> {
        let Self { output, depth } = self;
        let array = output.batch.open();
        while output.takes(depth) {
            if elements.next_element_seed(Seed { output, depth: depth + 1 })?.is_none() {
                return Ok(output.batch.close(array, Item::Array));
            }
        }
        while elements.next_element::<IgnoredAny>()?.is_some() {}
        Ok(output.batch.close(array, Item::Array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Item, A::Error> {
        let Self { output, depth } = self;
        let object = output.batch.open();
        while let Some(taken) = entries.next_key_seed(Key { output, depth })? {
            if taken {
                entries.next_value_seed(Seed { output, depth: depth + 1 })?;
            } else {
                entries.next_value::<IgnoredAny>()?;
            }
        }
        Ok(output.batch.close(object, Item::Object))
    }
}

/// Takes a key if its value can be taken as well, and says so.
struct Key<'o, 'd> {
    output: &'o mut Output<'d>,
    depth: u32,
}

impl<'de> DeserializeSeed<'de> for Key<'_, '_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Key<'_, '_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<bool, E> {
        let Self { output, depth } = self;
        let taken = output.takes(depth) && is_key(key);
        output.cut |= !taken;
        if taken {
            let key = output.batch.text(key);
            output.batch.push(key);
        }
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use tantivy::schema::{OwnedValue, document::Value as _};

    use super::*;
    use crate::document::Node;

    /// Parses a text, and says what the index sees of it.
    fn parsed(text: &str, seen: fn(Span) -> Item) -> (String, bool) {
        let mut batch = Batch::default();
        let parsed = parse(text.as_bytes(), &mut batch).unwrap();
        let node = Node::Item { batch: &batch, item: seen(parsed.entries), terms: false };
        (serde_json::to_string(&OwnedValue::from(node.as_value())).unwrap(), parsed.cut)
    }

    #[test]
    fn an_object_is_parsed_with_its_types() {
        let text =
            r#"{"a":{"b":[1,-2,2.5,[],true,{},null,"x\ty",{"é":"ü"}],"c":[[{"d":{}}],3]},"e":18446744073709551615}"#;
        assert_eq!(parsed(text, Item::Object), (text.to_owned(), false));
    }

    #[test]
    fn terms_of_an_object_are_its_texts_and_truths() {
        let text = r#"{"a":{"b":[1,-2,"x",{"c":2.5}]},"d":true,"e":7}"#;
        let terms = r#"{"a":{"b":[null,null,"x",{"c":null}]},"d":true,"e":null}"#;
        assert_eq!(parsed(text, Item::Terms), (terms.to_owned(), false));
    }

    #[test]
    fn what_is_too_much_is_cut_and_said() {
        let (many, cut) = parsed(&format!("{{\"a\":[{}1]}}", "1,".repeat(5000)), Item::Object);
        assert!(cut);
        assert_eq!(many.matches('1').count(), MAX_VALUES as usize);
        let (_, cut) = parsed(&format!("{}1{}", "{\"a\":".repeat(40), "}".repeat(40)), Item::Object);
        assert!(cut);
        let (long, cut) = parsed(&format!("{{\"a\":\"{}\"}}", "é".repeat(MAX_TEXT)), Item::Object);
        assert!(cut);
        assert_eq!(long.matches('é').count(), MAX_TEXT / 2);
        let (keys, cut) = parsed("{\"\":1,\"a\\u0000\":{\"b\":2},\"c\":3}", Item::Object);
        assert_eq!((keys.as_str(), cut), ("{\"c\":3}", true));
    }

    #[test]
    fn what_is_not_an_object_is_refused() {
        for text in ["", "1", "[]", "{", "{} x", "{\"a\":\u{1}}", "\"\\ud800\""] {
            assert!(parse(text.as_bytes(), &mut Batch::default()).is_err(), "{text}");
        }
        assert!(parse(b"{\"a\":\"\xff\"}", &mut Batch::default()).is_err());
        let bomb = "[".repeat(100_000);
        assert!(parse(bomb.as_bytes(), &mut Batch::default()).is_err());
    }
}
