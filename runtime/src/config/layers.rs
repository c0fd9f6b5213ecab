//! Merging the layers, with a memory of where each value came from.

use std::{collections::BTreeMap, path::Path};

use serde::{Serialize, de::DeserializeOwned};
use toml::{
    Table, Value,
    de::{DeTable, DeValue},
};

use super::{Error, Origin, Shape};

/// The settings so far.
pub(super) struct Layers<'a> {
    merged: Table,
    shape: Shape<'a>,
    /// By dotted key.
    origins: BTreeMap<String, Origin>,
}

impl<'a> Layers<'a> {
    pub(super) fn new<R: Serialize>(defaults: &R, shape: Shape<'a>) -> Result<Self, Error> {
        let merged = Table::try_from(defaults).map_err(Error::Defaults)?;
        Ok(Self { merged, shape, origins: BTreeMap::new() })
    }

    /// Lays a TOML file over what is there.
    pub(super) fn file(&mut self, path: &Path, text: &str) -> Result<(), Error> {
        // By bytes: an offset that the parser gives need not be at a character's border.
        let line_of = |offset: usize| 1 + text.bytes().take(offset).filter(|byte| *byte == b'\n').count();
        let origin = |offset| Origin::File { path: path.into(), line: line_of(offset) };
        let syntax = |error: toml::de::Error| Error::Syntax {
            origin: origin(error.span().map_or(0, |span| span.start)),
            message: error.message().to_owned(),
        };
        let spanned = DeTable::parse(text).map_err(syntax)?;
        self.check(spanned.get_ref(), &self.shape.clone(), "", &origin)?;
        merge(&mut self.merged, text.parse::<Table>().map_err(syntax)?);
        Ok(())
    }

    /// Sets one key from text: as TOML reads it, or as it is where text is expected and it has no quotes.
    pub(super) fn text(&mut self, key: &[String], text: &str, origin: Origin) -> Result<(), Error> {
        let dotted = key.join(".");
        let mut shape = self.shape.clone();
        for (depth, part) in key.iter().enumerate() {
            let child = shape.child(part);
            shape = child.ok_or_else(|| self.unknown(&shape, &key[..depth].join("."), part, origin.clone()))?;
        }
        let value = match value_of(text) {
            Some(value) if value.is_str() || !shape.is_text() => value,
            _ => Value::String(text.to_owned()),
        };
        let nested =
            key.iter().rev().fold(value, |value, part| Value::Table(Table::from_iter([(part.clone(), value)])));
        if let Value::Table(layer) = nested {
            merge(&mut self.merged, layer);
        }
        self.origins.insert(dotted, origin);
        Ok(())
    }

    /// The settings as the caller's type.
    pub(super) fn read<R: DeserializeOwned>(self) -> Result<R, Error> {
        serde_path_to_error::deserialize(Value::Table(self.merged)).map_err(|error| {
            let key = error.path().to_string();
            let key = if key == "." { String::new() } else { key };
            Error::Value {
                origin: origin_of(&self.origins, &key),
                message: error.inner().message().trim_end().to_owned(),
                key,
            }
        })
    }

    fn check(
        &mut self,
        table: &DeTable<'_>,
        shape: &Shape<'_>,
        section: &str,
        origin: &dyn Fn(usize) -> Origin,
    ) -> Result<(), Error> {
        for (key, value) in table {
            let name = key.get_ref().as_ref();
            let origin_of_key = origin(key.span().start);
            let child = shape.child(name).ok_or_else(|| self.unknown(shape, section, name, origin_of_key.clone()))?;
            let dotted = join(section, name);
            if let Some(table) = value.get_ref().as_table() {
                self.check(table, &child, &dotted, origin)?;
            }
            self.origins.insert(dotted, origin_of_key);
        }
        Ok(())
    }

    fn unknown(&self, shape: &Shape<'_>, section: &str, name: &str, origin: Origin) -> Error {
        let nearest = shape.nearest(name).map(|near| join(section, near)).or_else(|| self.shape.find(name));
        Error::UnknownKey { origin, key: join(section, name), nearest }
    }
}

/// The TOML value that `text` is. Not read as part of a document alone: the text must not bring keys of its own.
fn value_of(text: &str) -> Option<Value> {
    DeValue::parse(text).ok()?;
    toml::from_str::<Table>(&format!("value = {text}")).ok()?.remove("value")
}

/// The origin of a key, or of the part of it that was given.
fn origin_of(origins: &BTreeMap<String, Origin>, key: &str) -> Origin {
    let mut key = key;
    loop {
        if let Some(origin) = origins.get(key) {
            return origin.clone();
        }
        match key.rfind(['.', '[']) {
            Some(end) => key = &key[..end],
            None => return Origin::Default,
        }
    }
}

fn join(section: &str, name: &str) -> String {
    if section.is_empty() { name.to_owned() } else { format!("{section}.{name}") }
}

/// Tables are merged, anything else is replaced.
fn merge(under: &mut Table, over: Table) {
    for (key, value) in over {
        match (under.get_mut(&key), value) {
            (Some(Value::Table(under)), Value::Table(over)) => merge(under, over),
            (_, value) => {
                under.insert(key, value);
            }
        }
    }
}
