//! Where the types of the tracers end: one erased value for each, in explicit lists.

use std::{marker::PhantomData, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use prometheus::core::Collector;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de;

use super::{BoxError, Context, OnDemand, Outcome, RawSettings, Roles, Support, Tracer};
use crate::host::Environment;

/// A list of tracers, as a type, because the settings are read by it: each tracer of the list has a section.
///
/// [`Shipped`](crate::tracers::Shipped) is the agent's own. Another program makes one of its own to add to it.
pub trait TracerSet: 'static {
    fn factories() -> Vec<Factory>;
}

/// A tracer with valid settings, its type erased.
type Erased = Arc<dyn Configured>;

/// Makes one tracer from its settings.
#[derive(Clone, Copy)]
pub struct Factory {
    pub name: &'static str,
    pub roles: Roles,
    schema: fn(&mut SchemaGenerator) -> Schema,
    configure: fn(Option<&mut dyn erased_serde::Deserializer<'_>>) -> Result<Erased, erased_serde::Error>,
}

impl Factory {
    pub fn of<T: Tracer>() -> Self {
        Self { name: T::NAME, roles: T::ROLES, schema: <T::Raw as JsonSchema>::json_schema, configure: configure::<T> }
    }

    pub(super) fn schema(&self, generator: &mut SchemaGenerator) -> Schema {
        (self.schema)(generator)
    }

    pub(super) fn defaults(&self) -> Result<Erased, erased_serde::Error> {
        (self.configure)(None)
    }

    pub(super) fn read<'de, D: de::Deserializer<'de>>(&self, settings: D) -> Result<Erased, D::Error> {
        let mut settings = <dyn erased_serde::Deserializer<'_>>::erase(settings);
        // The lines that follow repeat the key, which the caller knows.
        let first_line = |error: erased_serde::Error| error.to_string().lines().next().unwrap_or_default().to_owned();
        (self.configure)(Some(&mut settings)).map_err(|error| de::Error::custom(first_line(error)))
    }
}

/// What is left of a tracer's type.
pub(crate) trait Configured: erased_serde::Serialize + Send + Sync {
    fn name(&self) -> &'static str;
    fn enabled(&self) -> bool;
    fn on_demand(&self) -> OnDemand;
    fn restart(&self) -> Duration;
    fn support(&self, environment: &Environment) -> Support;
    fn run(&self, context: Context) -> BoxFuture<'static, Result<Outcome, BoxError>>;
    fn collector(&self) -> Option<Box<dyn Collector>>;
}

erased_serde::serialize_trait_object!(Configured);

struct Of<T: Tracer> {
    raw: T::Raw,
    settings: T::Settings,
    tracer: PhantomData<fn() -> T>,
}

/// From the given section, or from the defaults.
fn configure<T: Tracer>(
    section: Option<&mut dyn erased_serde::Deserializer<'_>>,
) -> Result<Erased, erased_serde::Error> {
    let raw: T::Raw = match section {
        Some(section) => erased_serde::deserialize(section)?,
        None => T::Raw::default(),
    };
    let settings = T::Settings::try_from(raw.clone()).map_err(de::Error::custom)?;
    Ok(Arc::new(Of::<T> { raw, settings, tracer: PhantomData }))
}

impl<T: Tracer> serde::Serialize for Of<T> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.raw.serialize(serializer)
    }
}

impl<T: Tracer> Configured for Of<T> {
    fn name(&self) -> &'static str {
        T::NAME
    }

    fn enabled(&self) -> bool {
        self.raw.enabled()
    }

    fn on_demand(&self) -> OnDemand {
        T::ON_DEMAND
    }

    fn restart(&self) -> Duration {
        T::RESTART
    }

    fn support(&self, environment: &Environment) -> Support {
        T::support(&self.settings, environment)
    }

    fn run(&self, context: Context) -> BoxFuture<'static, Result<Outcome, BoxError>> {
        Box::pin(T::new(self.settings.clone()).run(context))
    }

    fn collector(&self) -> Option<Box<dyn Collector>> {
        T::collector(&self.settings)
    }
}
