//! An event's data as it is indexed: a flat list of paths and values, parsed once and cut to the bounds of the embedded
//! store.
//!
//! Names of fields have no dots. OpenSearch makes objects of dots, so that `app` and `app.version` could not stand in one
//! index; here a path is joined by `/`, and every path is a field of its own. Each value goes to `data` as a keyword, as
//! it is written; numbers go to `data_number` as well, texts, as words, to `data_words`. So no two events can
//! disagree on a field's type, and whatever is compared is compared with its like.

use std::{cmp::Ordering, fmt, ops::Range};

use galen_store::{
    is_key,
    limits::{MAX_DEPTH, MAX_TEXT, MAX_VALUES},
};
use serde::{
    Serialize, Serializer,
    de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor},
    ser::{SerializeMap, SerializeSeq},
};

use crate::words::words;

/// What joins the keys of a path.
const JOINT: char = '/';

/// The name of the field that a path leads to.
pub(crate) fn field(path: &str) -> String {
    path.replace('.', "/")
}

/// The values of an event's data.
#[derive(Debug, Default)]
pub(crate) struct Flat {
    /// Paths and texts.
    texts: String,
    /// By path.
    leaves: Vec<Leaf>,
    /// Something was left out.
    pub(crate) cut: bool,
}

#[derive(Debug)]
struct Leaf {
    path: Range<usize>,
    value: Value,
}

#[derive(Debug)]
enum Value {
    Bool(bool),
    I64(i64),
    U64(u64),
    F64(f64),
    Text(Range<usize>),
}

/// Which of the three.
#[derive(Debug, Clone, Copy)]
enum View {
    All,
    Numbers,
    Words,
}

/// One of the three objects that are made of the values.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fields<'a> {
    flat: &'a Flat,
    view: View,
}

impl Flat {
    /// Reads one JSON object.
    pub(crate) fn parse(text: &[u8]) -> Result<Self, serde_json::Error> {
        let mut flat = Self::default();
        let mut collector = Collector { flat: &mut flat, path: String::new(), left: MAX_VALUES };
        let mut parser = serde_json::Deserializer::from_slice(text);
        let is_object = Seed { collector: &mut collector, depth: 0 }.deserialize(&mut parser)?;
        parser.end()?;
        if !is_object {
            return Err(serde_json::Error::custom("not an object"));
        }
        let Self { texts, leaves, .. } = &mut flat;
        leaves.sort_by(|a, b| texts[a.path.clone()].cmp(&texts[b.path.clone()]));
        Ok(flat)
    }

    /// Every value, as it is written.
    pub(crate) fn all(&self) -> Fields<'_> {
        Fields { flat: self, view: View::All }
    }

    pub(crate) fn numbers(&self) -> Fields<'_> {
        Fields { flat: self, view: View::Numbers }
    }

    /// The words of texts.
    pub(crate) fn words(&self) -> Fields<'_> {
        Fields { flat: self, view: View::Words }
    }

    fn path(&self, leaf: &Leaf) -> &str {
        &self.texts[leaf.path.clone()]
    }
}

impl View {
    fn takes(self, value: &Value) -> bool {
        match self {
            Self::All => true,
            Self::Numbers => matches!(value, Value::I64(_) | Value::U64(_) | Value::F64(_)),
            Self::Words => matches!(value, Value::Text(_)),
        }
    }
}

impl Serialize for Fields<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_map(None)?;
        let mut leaves = &self.flat.leaves[..];
        while let Some(first) = leaves.first() {
            let path = self.flat.path(first);
            let same = leaves.iter().take_while(|leaf| self.flat.path(leaf).cmp(path) == Ordering::Equal).count();
            let (values, rest) = leaves.split_at(same);
            leaves = rest;
            let mut taken = values.iter().filter(|leaf| self.view.takes(&leaf.value));
            match (taken.next(), taken.next()) {
                (None, _) => {}
                (Some(only), None) => fields.serialize_entry(path, &self.one(only))?,
                _ => fields.serialize_entry(path, &Many { fields: *self, values })?,
            }
        }
        fields.end()
    }
}

impl<'a> Fields<'a> {
    fn one(self, leaf: &'a Leaf) -> One<'a> {
        One { texts: &self.flat.texts, value: &leaf.value, words: matches!(self.view, View::Words) }
    }
}

/// The values of one path.
struct Many<'a> {
    fields: Fields<'a>,
    values: &'a [Leaf],
}

impl Serialize for Many<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut values = serializer.serialize_seq(None)?;
        for leaf in self.values.iter().filter(|leaf| self.fields.view.takes(&leaf.value)) {
            values.serialize_element(&self.fields.one(leaf))?;
        }
        values.end()
    }
}

struct One<'a> {
    texts: &'a str,
    value: &'a Value,
    words: bool,
}

impl Serialize for One<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.value {
            Value::Bool(value) => serializer.serialize_bool(*value),
            Value::I64(value) => serializer.serialize_i64(*value),
            Value::U64(value) => serializer.serialize_u64(*value),
            Value::F64(value) => number(*value).serialize(serializer),
            Value::Text(span) => {
                let text = &self.texts[span.clone()];
                if self.words { serializer.serialize_str(&words(text)) } else { serializer.serialize_str(text) }
            }
        }
    }
}

/// A number as counts show it: `80`, not `80.0`.
fn number(value: f64) -> serde_json::Number {
    let whole = value as i64;
    if whole as f64 == value && value.abs() < 9e15 {
        whole.into()
    } else {
        // JSON has no number that is not finite.
        serde_json::Number::from_f64(value).unwrap_or_else(|| 0.into())
    }
}

struct Collector<'f> {
    flat: &'f mut Flat,
    path: String,
    left: u32,
}

impl Collector<'_> {
    /// Whether one more value may be taken inside something at `depth`.
    fn takes(&mut self, depth: u32) -> bool {
        let takes = self.left > 0 && depth < MAX_DEPTH;
        self.flat.cut |= !takes;
        takes
    }

    fn leaf(&mut self, value: Value) {
        self.left = self.left.saturating_sub(1);
        let path = self.text(|collector, texts| texts.push_str(&collector.path));
        self.flat.leaves.push(Leaf { path, value });
    }

    fn text(&mut self, write: impl FnOnce(&Self, &mut String)) -> Range<usize> {
        let mut texts = std::mem::take(&mut self.flat.texts);
        let start = texts.len();
        write(self, &mut texts);
        let span = start..texts.len();
        self.flat.texts = texts;
        span
    }
}

/// Takes one value, and says whether it is an object.
struct Seed<'c, 'f> {
    collector: &'c mut Collector<'f>,
    depth: u32,
}

impl<'de> DeserializeSeed<'de> for Seed<'_, '_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_, '_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_bool<E>(self, value: bool) -> Result<bool, E> {
        self.collector.leaf(Value::Bool(value));
        Ok(false)
    }

    fn visit_i64<E>(self, value: i64) -> Result<bool, E> {
        self.collector.leaf(Value::I64(value));
        Ok(false)
    }

    fn visit_u64<E>(self, value: u64) -> Result<bool, E> {
        self.collector.leaf(Value::U64(value));
        Ok(false)
    }

    fn visit_f64<E>(self, value: f64) -> Result<bool, E> {
        self.collector.leaf(Value::F64(value));
        Ok(false)
    }

    fn visit_str<E>(self, value: &str) -> Result<bool, E> {
        let kept = &value[..value.floor_char_boundary(MAX_TEXT)];
        self.collector.flat.cut |= kept.len() < value.len();
        let text = self.collector.text(|_, texts| texts.push_str(kept));
        self.collector.leaf(Value::Text(text));
        Ok(false)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<bool, A::Error> {
        let Self { collector, depth } = self;
        while collector.takes(depth) {
            if elements.next_element_seed(Seed { collector, depth: depth + 1 })?.is_none() {
                return Ok(false);
            }
        }
        while elements.next_element::<IgnoredAny>()?.is_some() {}
        Ok(false)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<bool, A::Error> {
        let Self { collector, depth } = self;
        let outer = collector.path.len();
        while let Some(taken) = entries.next_key_seed(Key { collector, depth })? {
            if taken {
                entries.next_value_seed(Seed { collector, depth: depth + 1 })?;
            } else {
                entries.next_value::<IgnoredAny>()?;
            }
            collector.path.truncate(outer);
        }
        Ok(true)
    }
}

/// Takes a key if its value can be taken as well, and says so.
struct Key<'c, 'f> {
    collector: &'c mut Collector<'f>,
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
        let Self { collector, depth } = self;
        // OpenSearch takes no name that is blank.
        let taken = collector.takes(depth) && is_key(key) && !key.trim().is_empty();
        collector.flat.cut |= !taken;
        if taken {
            if !collector.path.is_empty() {
                collector.path.push(JOINT);
            }
            collector.path.extend(key.chars().map(|c| if c == '.' { JOINT } else { c }));
        }
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn views(text: &str) -> [String; 3] {
        let flat = Flat::parse(text.as_bytes()).unwrap();
        [flat.all(), flat.numbers(), flat.words()].map(|fields| serde_json::to_string(&fields).unwrap())
    }

    #[test]
    fn every_value_is_found_by_its_path_and_with_its_like() {
        let [all, numbers, words] =
            views(r#"{"a":{"b":[1,-2.5,"X y",{"c":true}]},"a.b":80.0,"d":null,"e":18446744073709551615}"#);
        assert_eq!(all, r#"{"a/b":[1,-2.5,"X y",80],"a/b/c":true,"e":18446744073709551615}"#);
        assert_eq!(numbers, r#"{"a/b":[1,-2.5,80],"e":18446744073709551615}"#);
        assert_eq!(words, r#"{"a/b":"x y"}"#);
    }

    #[test]
    fn keys_that_come_twice_are_one_field() {
        assert_eq!(views(r#"{"ok":{"ok":1},"ok":2,"ok":"t"}"#)[0], r#"{"ok":[2,"t"],"ok/ok":1}"#);
    }

    #[test]
    fn what_is_too_much_is_cut_and_said() {
        let cut = |text: &str| Flat::parse(text.as_bytes()).unwrap().cut;
        assert!(!cut(r#"{"a":1}"#));
        assert!(cut(&format!("{{\"a\":[{}1]}}", "1,".repeat(5000))));
        assert!(cut(&format!("{}1{}", "{\"a\":".repeat(40), "}".repeat(40))));
        assert!(cut(&format!("{{\"a\":\"{}\"}}", "x".repeat(MAX_TEXT + 1))));
        assert!(cut(r#"{"":1}"#) && cut(r#"{" ":1}"#));
        assert!(Flat::parse(b"[1]").is_err() && Flat::parse(b"{\"a\":").is_err() && Flat::parse(b"{}x").is_err());
    }
}
