//! An event's data as it is indexed: a flat list of paths and values, parsed once and cut to the bounds of the embedded
//! store.
//!
//! Names of fields have no dots. OpenSearch makes objects of dots, so that `app` and `app.version` could not stand in one
//! index; here a path is joined by `/`, and every path is a field of its own. Each value goes to `data` as a keyword, as
//! it is written; numbers go to `data_number` as well, texts, as words, to `data_words`. So no two events can
//! disagree on a field's type, and whatever is compared is compared with its like.

use std::{cmp::Ordering, ops::Range};

use galen_store::walk::{self, Taker, walk};
use serde::{
    Serialize, Serializer,
    de::Error as _,
    ser::{SerializeMap, SerializeSeq},
};

use crate::words::words;

/// What joins the keys of a path.
pub(crate) const JOINT: char = '/';

/// The name of the field that a path leads to.
pub(crate) fn field(path: &str) -> String {
    path.chars().map(joined).collect()
}

fn joined(c: char) -> char {
    if c == '.' { JOINT } else { c }
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
        let mut collector = Collector::default();
        let (is_object, cut) = walk(text, &mut collector)?;
        if !is_object {
            return Err(serde_json::Error::custom("not an object"));
        }
        let mut flat = Self { cut, ..collector.flat };
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

/// Takes values by their paths; of each, says whether it is an object.
#[derive(Default)]
struct Collector {
    flat: Flat,
    path: String,
}

impl Taker for Collector {
    type Item = bool;
    /// Length of its path.
    type Open = usize;

    fn null(&mut self) -> bool {
        false
    }

    fn leaf(&mut self, leaf: walk::Leaf<'_>) -> bool {
        let texts = &mut self.flat.texts;
        let mut add = |text: &str| {
            let start = texts.len();
            texts.push_str(text);
            start..texts.len()
        };
        let path = add(&self.path);
        let value = match leaf {
            walk::Leaf::Bool(value) => Value::Bool(value),
            walk::Leaf::I64(value) => Value::I64(value),
            walk::Leaf::U64(value) => Value::U64(value),
            walk::Leaf::F64(value) => Value::F64(value),
            walk::Leaf::Text(text) => Value::Text(add(text)),
        };
        self.flat.leaves.push(Leaf { path, value });
        false
    }

    fn open(&mut self) -> usize {
        self.path.len()
    }

    fn close_array(&mut self, _array: usize) -> bool {
        false
    }

    fn close_object(&mut self, _object: usize) -> bool {
        true
    }

    fn key(&mut self, key: &str) -> bool {
        // OpenSearch takes no name that is blank.
        if key.trim().is_empty() {
            return false;
        }
        if !self.path.is_empty() {
            self.path.push(JOINT);
        }
        self.path.extend(key.chars().map(joined));
        true
    }

    fn entry(&mut self, object: &usize) {
        self.path.truncate(*object);
    }
}

#[cfg(test)]
mod tests {
    use galen_store::limits::MAX_TEXT;

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
