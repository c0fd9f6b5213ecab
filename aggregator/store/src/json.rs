//! JSON as it goes into the index: parsed once, straight into a batch, and cut to bounds while it is parsed.
//!
//! Whatever the bounds cut off is not searchable; the event itself keeps it.

use serde::de::Error as _;

use crate::{
    batch::{Batch, Item, Span},
    walk::{Leaf, Taker, walk},
};

/// A parsed object, and whether something of it was left out.
#[derive(Debug)]
pub(crate) struct Parsed {
    pub(crate) entries: Span,
    pub(crate) cut: bool,
}

/// Parses one JSON object into a batch. After an error the batch holds parts of it, to which nothing leads.
pub(crate) fn parse(text: &[u8], batch: &mut Batch) -> Result<Parsed, serde_json::Error> {
    match walk(text, batch)? {
        (Item::Object(entries), cut) => Ok(Parsed { entries, cut }),
        _ => Err(serde_json::Error::custom("not an object")),
    }
}

impl Taker for Batch {
    type Item = Item;
    type Open = usize;

    fn null(&mut self) -> Item {
        self.push(Item::Null);
        Item::Null
    }

    fn leaf(&mut self, leaf: Leaf<'_>) -> Item {
        let item = match leaf {
            Leaf::Bool(value) => Item::Bool(value),
            Leaf::I64(value) => Item::I64(value),
            Leaf::U64(value) => Item::U64(value),
            Leaf::F64(value) => Item::F64(value),
            Leaf::Text(text) => self.text(text),
        };
        self.push(item);
        item
    }

    fn open(&mut self) -> usize {
        Self::open(self)
    }

    fn close_array(&mut self, array: usize) -> Item {
        self.close(array, Item::Array)
    }

    fn close_object(&mut self, object: usize) -> Item {
        self.close(object, Item::Object)
    }

    fn key(&mut self, key: &str) -> bool {
        let key = self.text(key);
        self.push(key);
        true
    }
}

#[cfg(test)]
mod tests {
    use tantivy::schema::{OwnedValue, document::Value as _};

    use super::*;
    use crate::{
        document::Node,
        limits::{MAX_TEXT, MAX_VALUES},
    };

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
