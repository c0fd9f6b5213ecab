//! What a tracer is.
//!
//! A tracer watches for one kind of anomaly, records a trigger the moment it sees one, and the evidence when it has it.
//! It is typed where it is defined, by [`Tracer`], and erased once, by [`Factory::of`], where it is listed. Each runs as
//! a supervised task of its own: when its run returns it is started again after its restart interval, an error or a
//! panic is counted, told in its [status](Statuses) and followed by a restart with back-off, and none of this reaches
//! another tracer. It ends for good when it is not supported on this machine, and when the agent stops; which tracers
//! run may be changed while the agent does.
//!
//! All tracers share one thread, so a run never blocks: what blocks goes through `tokio::task::spawn_blocking`. A
//! capture is [spawned](Context::spawn), so that detection goes on beside it.

mod context;
mod cooldown;
mod crew;
mod demand;
mod factory;
mod figure;
mod range;
mod run;
mod settings;
mod status;

use std::time::Duration;

use prometheus::core::Collector;

pub use context::Context;
pub use cooldown::Cooldown;
pub use crew::Error as ChangeError;
pub use demand::{Asked, Cause, Demand, Demands, OnDemand};
pub use factory::{Factory, TracerSet};
pub use range::{OutOfRange, within};
pub use settings::{Percent, RawSettings, Section, Sections};
pub use status::{Status, Statuses};

pub(crate) use context::Loader;
pub(crate) use crew::Crew;
pub(crate) use figure::{percent, round};

use run::supervise;

use crate::host::Environment;

/// Any error that ends a run.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A kind of anomaly that is watched for.
pub trait Tracer: Sized + Send + 'static {
    /// As events and settings name it: lower case letters, digits and `_`.
    const NAME: &'static str;
    const ROLES: Roles = Roles::CAPTURES;
    const ON_DEMAND: OnDemand = OnDemand::No("it captures on its own triggers only");
    /// Wait between the return of a run and the next.
    const RESTART: Duration;

    /// The section `[tracers.NAME]` as it is written.
    type Raw: RawSettings;
    /// The same, validated: a tracer cannot be made from anything else.
    type Settings: TryFrom<Self::Raw, Error: std::fmt::Display> + Clone + Send + Sync + 'static;

    /// Called for each run.
    fn new(settings: Self::Settings) -> Self;

    /// Whether it can work on this machine. Asked before each run.
    fn support(settings: &Self::Settings, environment: &Environment) -> Support;

    /// Detects and captures. Dropped at any `await` when the agent stops, or the tracer is disabled or gets new settings.
    fn run(self, context: Context) -> impl Future<Output = Result<Outcome, BoxError>> + Send;

    /// For the metrics role: registered while the tracer is enabled. Its figures travel to the aggregator; names begin with
    /// `galen_agent_`, and the name of the tracer.
    fn collector(_settings: &Self::Settings) -> Option<Box<dyn Collector>> {
        None
    }
}

/// What a tracer is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Roles {
    pub captures: bool,
    pub metrics: bool,
}

impl Roles {
    pub const CAPTURES: Self = Self { captures: true, metrics: false };
    pub const METRICS: Self = Self { captures: false, metrics: true };
    pub const BOTH: Self = Self { captures: true, metrics: true };
}

/// Whether a tracer works here, and why not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Support {
    Full,
    /// It works with less than it could show.
    Degraded(String),
    Unsupported(String),
}

/// How a run ended that did not fail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// To be run again after the restart interval.
    Again,
    /// It found out that it cannot work here: never run again.
    Unsupported(String),
}
