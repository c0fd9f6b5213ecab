//! The settings of the tracers of a set: `[tracers.NAME]`, each section typed and validated by its tracer.
//!
//! Sections are read in place, not through an intermediate value, so that an error keeps the key and the line where it
//! happened.

use std::{borrow::Cow, collections::BTreeMap, fmt, marker::PhantomData, sync::Arc};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, de::DeserializeOwned};

use super::{Factory, Support, TracerSet, factory::Configured};
use crate::host::Environment;

/// A section as it is written: a struct with `deny_unknown_fields`, `default`, and a doc on each field.
pub trait RawSettings: Serialize + DeserializeOwned + JsonSchema + Default + Clone + Send + Sync + 'static {
    /// The section's `enabled`.
    fn enabled(&self) -> bool;
}

/// One tracer with its settings.
#[derive(Clone)]
pub struct Section {
    pub(crate) tracer: Arc<dyn Configured>,
}

impl Section {
    pub fn name(&self) -> &'static str {
        self.tracer.name()
    }

    pub fn enabled(&self) -> bool {
        self.tracer.enabled()
    }

    /// Whether the tracer works on this machine.
    pub fn support(&self, environment: &Environment) -> Support {
        self.tracer.support(environment)
    }
}

/// The settings of every tracer of the set `S`.
pub struct Sections<S> {
    sections: BTreeMap<&'static str, Section>,
    set: PhantomData<fn() -> S>,
}

impl<S: TracerSet> Sections<S> {
    /// In the order of the set's list.
    pub fn iter(&self) -> impl Iterator<Item = &Section> {
        S::factories().into_iter().filter_map(|factory| self.sections.get(factory.name))
    }
}

impl<S: TracerSet> Default for Sections<S> {
    /// A tracer whose own defaults are invalid is left out; a test of the set finds it.
    fn default() -> Self {
        let configured = |factory: Factory| Some((factory.name, Section { tracer: factory.defaults().ok()? }));
        Self { sections: S::factories().into_iter().filter_map(configured).collect(), set: PhantomData }
    }
}

impl<S> Clone for Sections<S> {
    fn clone(&self) -> Self {
        Self { sections: self.sections.clone(), set: PhantomData }
    }
}

impl<S> fmt::Debug for Sections<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.sections.keys()).finish()
    }
}

impl<S> Serialize for Sections<S> {
    fn serialize<Ser: Serializer>(&self, serializer: Ser) -> Result<Ser::Ok, Ser::Error> {
        serializer.collect_map(self.sections.iter().map(|(name, section)| (name, &*section.tracer)))
    }
}

impl<'de, S: TracerSet> Deserialize<'de> for Sections<S> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(SectionsVisitor(PhantomData))
    }
}

impl<S: TracerSet> JsonSchema for Sections<S> {
    fn schema_name() -> Cow<'static, str> {
        "Tracers".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let sections: serde_json::Map<String, serde_json::Value> = S::factories()
            .iter()
            .map(|factory| (factory.name.to_owned(), factory.schema(generator).to_value()))
            .collect();
        json_schema!({ "type": "object", "properties": sections, "additionalProperties": false })
    }
}

struct SectionsVisitor<S>(PhantomData<fn() -> S>);

impl<'de, S: TracerSet> de::Visitor<'de> for SectionsVisitor<S> {
    type Value = Sections<S>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a section for each tracer")
    }

    fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut sections = Sections::default();
        while let Some(name) = map.next_key::<String>()? {
            let factory = S::factories().into_iter().find(|factory| factory.name == name);
            let factory = factory.ok_or_else(|| de::Error::custom(format!("there is no tracer `{name}`")))?;
            let tracer = map.next_value_seed(SectionSeed(factory))?;
            sections.sections.insert(factory.name, Section { tracer });
        }
        Ok(sections)
    }
}

struct SectionSeed(Factory);

impl<'de> de::DeserializeSeed<'de> for SectionSeed {
    type Value = Arc<dyn Configured>;

    fn deserialize<D: Deserializer<'de>>(self, section: D) -> Result<Self::Value, D::Error> {
        self.0.read(section)
    }
}

/// A threshold in percent: zero or more, finite. It may be over 100 where growth is meant.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Serialize, JsonSchema)]
#[schemars(inline)]
pub struct Percent(#[schemars(range(min = 0))] f64);

impl Percent {
    pub const fn new(percent: u16) -> Self {
        Self(percent as f64)
    }

    pub fn get(self) -> f64 {
        self.0
    }
}

impl<'de> Deserialize<'de> for Percent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = f64::deserialize(deserializer)?;
        if value.is_finite() && value >= 0.0 {
            Ok(Self(value))
        } else {
            Err(de::Error::custom(format!("{value} is not a percentage: it must be 0 or more")))
        }
    }
}
