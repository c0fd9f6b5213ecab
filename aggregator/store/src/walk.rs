//! A walk through JSON, cut to the bounds of what is indexed while it is parsed. What is made of the values is up to who
//! takes them.
//!
//! Text is never taken for a date, so that what was written is what is found.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::limits::{MAX_DEPTH, MAX_KEY, MAX_TEXT, MAX_VALUES};

/// A value that holds no others.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Leaf<'t> {
    Bool(bool),
    I64(i64),
    U64(u64),
    F64(f64),
    Text(&'t str),
}

/// Takes what the walk comes by, in its order.
pub trait Taker {
    /// What becomes of a value.
    type Item;
    /// What is kept of an array or an object while the walk is in it.
    type Open;

    fn null(&mut self) -> Self::Item;
    fn leaf(&mut self, leaf: Leaf<'_>) -> Self::Item;
    fn open(&mut self) -> Self::Open;
    fn close_array(&mut self, array: Self::Open) -> Self::Item;
    fn close_object(&mut self, object: Self::Open) -> Self::Item;

    /// Whether the value of this key is wanted; it is next then.
    fn key(&mut self, key: &str) -> bool;

    /// The value of the last key has come.
    fn entry(&mut self, _object: &Self::Open) {}
}

/// Walks through a text that is one value; returns what became of it, and whether something was left out. After an error
/// the taker has a part of it.
///
/// # Errors
/// The text is not JSON.
pub fn walk<T: Taker>(text: &[u8], taker: &mut T) -> Result<(T::Item, bool), serde_json::Error> {
    let mut walk = Walk { taker, left: MAX_VALUES, cut: false };
    let mut parser = serde_json::Deserializer::from_slice(text);
    let item = Seed { walk: &mut walk, depth: 0 }.deserialize(&mut parser)?;
    parser.end()?;
    Ok((item, walk.cut))
}

/// Whether a key can be part of a field's name. A zero byte ends a name in the index.
#[must_use]
pub fn is_key(key: &str) -> bool {
    (1..=MAX_KEY).contains(&key.len()) && !key.contains('\0')
}

struct Walk<'t, T> {
    taker: &'t mut T,
    left: u32,
    cut: bool,
}

impl<T: Taker> Walk<'_, T> {
    /// Whether one more value may be taken inside something at `depth`.
    fn takes(&mut self, depth: u32) -> bool {
        let takes = self.left > 0 && depth < MAX_DEPTH;
        self.cut |= !takes;
        takes
    }

    fn leaf(&mut self, leaf: Leaf<'_>) -> T::Item {
        self.left = self.left.saturating_sub(1);
        self.taker.leaf(leaf)
    }
}

/// Takes one value.
struct Seed<'w, 't, T> {
    walk: &'w mut Walk<'t, T>,
    depth: u32,
}

impl<'de, T: Taker> DeserializeSeed<'de> for Seed<'_, '_, T> {
    type Value = T::Item;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<T::Item, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, T: Taker> Visitor<'de> for Seed<'_, '_, T> {
    type Value = T::Item;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<T::Item, E> {
        Ok(self.walk.taker.null())
    }

    fn visit_bool<E>(self, value: bool) -> Result<T::Item, E> {
        Ok(self.walk.leaf(Leaf::Bool(value)))
    }

    fn visit_i64<E>(self, value: i64) -> Result<T::Item, E> {
        Ok(self.walk.leaf(Leaf::I64(value)))
    }

    fn visit_u64<E>(self, value: u64) -> Result<T::Item, E> {
        Ok(self.walk.leaf(Leaf::U64(value)))
    }

    fn visit_f64<E>(self, value: f64) -> Result<T::Item, E> {
        Ok(self.walk.leaf(Leaf::F64(value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<T::Item, E> {
        let kept = &value[..value.floor_char_boundary(MAX_TEXT)];
        self.walk.cut |= kept.len() < value.len();
        Ok(self.walk.leaf(Leaf::Text(kept)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<T::Item, A::Error> {
        let Self { walk, depth } = self;
        let array = walk.taker.open();
        while walk.takes(depth) {
            if elements.next_element_seed(Seed { walk, depth: depth + 1 })?.is_none() {
                return Ok(walk.taker.close_array(array));
            }
        }
        while elements.next_element::<IgnoredAny>()?.is_some() {}
        Ok(walk.taker.close_array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<T::Item, A::Error> {
        let Self { walk, depth } = self;
        let object = walk.taker.open();
        while let Some(taken) = entries.next_key_seed(Key { walk, depth })? {
            if taken {
                entries.next_value_seed(Seed { walk, depth: depth + 1 })?;
                walk.taker.entry(&object);
            } else {
                entries.next_value::<IgnoredAny>()?;
            }
        }
        Ok(walk.taker.close_object(object))
    }
}

/// Takes a key if its value can be taken as well, and says so.
struct Key<'w, 't, T> {
    walk: &'w mut Walk<'t, T>,
    depth: u32,
}

impl<'de, T: Taker> DeserializeSeed<'de> for Key<'_, '_, T> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de, T: Taker> Visitor<'de> for Key<'_, '_, T> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<bool, E> {
        let Self { walk, depth } = self;
        let taken = walk.takes(depth) && is_key(key) && walk.taker.key(key);
        walk.cut |= !taken;
        Ok(taken)
    }
}
