//! An agent with a tracer of its own: the load average, told when it is above a threshold.
//!
//! `docs/adding-a-tracer.md` walks through this file. Run it with `cargo run --example loadavg_tracer`.

use std::time::Duration;

use galen_agent::{
    Factory, Settings, Tracer, TracerSet,
    host::Environment,
    recorder::{Record, RunId},
    tracer::{BoxError, Context, Outcome, RawSettings, Support},
    tracers::Shipped,
};
use galen_proto::v1::{EventKind, Severity, SuppressionReason};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

const LOADAVG: &str = "/proc/loadavg";

/// A machine that is asked for more than it has.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Raw {
    /// Whether the tracer runs.
    pub enabled: bool,
    /// Load average of the last minute, for each CPU, above which the rule is met.
    pub threshold: f64,
    /// How long the tracer is quiet after it has told one.
    pub interval_tracing: galen_runtime::Span,
}

impl Default for Raw {
    fn default() -> Self {
        Self { enabled: true, threshold: 2.0, interval_tracing: galen_runtime::Span::from_secs(600) }
    }
}

impl RawSettings for Raw {
    fn enabled(&self) -> bool {
        self.enabled
    }
}

#[derive(Debug, Clone)]
pub struct Validated {
    threshold: f64,
    cooldown: Duration,
}

impl TryFrom<Raw> for Validated {
    type Error = String;

    fn try_from(raw: Raw) -> Result<Self, String> {
        if !(raw.threshold.is_finite() && raw.threshold >= 0.0) {
            return Err(format!("`threshold` is {}: it must be 0 or more", raw.threshold));
        }
        Ok(Self { threshold: raw.threshold, cooldown: raw.interval_tracing.0 })
    }
}

/// `data` of its events.
#[derive(Debug, Serialize)]
struct Load {
    load_per_cpu: f64,
    load_per_cpu_threshold: f64,
    cpus: u32,
}

pub struct LoadAverage {
    settings: Validated,
}

impl Tracer for LoadAverage {
    const NAME: &'static str = "loadavg";
    const RESTART: Duration = Duration::from_secs(10);

    type Raw = Raw;
    type Settings = Validated;

    fn new(settings: Validated) -> Self {
        Self { settings }
    }

    fn support(_: &Validated, _: &Environment) -> Support {
        match std::fs::metadata(LOADAVG) {
            Ok(_) => Support::Full,
            Err(error) => Support::Unsupported(format!("{LOADAVG} cannot be read: {error}")),
        }
    }

    async fn run(self, mut context: Context) -> Result<Outcome, BoxError> {
        let cpus = context.environment.cpus;
        let mut quiet_until = Duration::ZERO;
        loop {
            let now = context.tick().await;
            let text = std::fs::read_to_string(LOADAVG)?;
            let minute: f64 = text.split(' ').next().unwrap_or_default().parse()?;
            let load = minute / f64::from(cpus);
            context.evaluated(load, self.settings.threshold);
            if load <= self.settings.threshold {
                continue;
            }
            if now.boot < quiet_until {
                context.suppressed(SuppressionReason::Cooldown);
                continue;
            }
            quiet_until = now.boot + self.settings.cooldown;
            context.record(Record {
                run: RunId::new(),
                kind: EventKind::Event,
                severity: Severity::Warning,
                summary: format!("load average of {load:.2} for each of {cpus} CPUs"),
                explanation: format!("Load was {load:.2} for each CPU (rule: over {}).", self.settings.threshold),
                container: None,
                observed: now,
                data: Load { load_per_cpu: load, load_per_cpu_threshold: self.settings.threshold, cpus },
                attachments: Vec::new(),
            })?;
        }
    }
}

/// The agent's own tracers, and this one.
pub struct WithLoadAverage;

impl TracerSet for WithLoadAverage {
    fn factories() -> Vec<Factory> {
        let mut factories = Shipped::factories();
        factories.push(Factory::of::<LoadAverage>());
        factories
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let overrides = [("data_dir".to_owned(), "/tmp/galen-loadavg".to_owned())];
    let settings = Settings::<WithLoadAverage>::load(None, &overrides)?;
    let supervisor = galen_runtime::Supervisor::new();
    galen_runtime::telemetry::init(settings.config().log.format, &settings.config().log.filter)?;
    let stop = supervisor.token();
    supervisor.spawn("signals", galen_runtime::OnEnd::Shutdown, async {
        galen_runtime::signal::terminated().await;
        Ok(())
    });
    galen_agent::run(settings, stop).await?;
    Ok(())
}
