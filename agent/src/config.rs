//! The agent's settings, as they are written and as they are used.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use galen_proto::MAX_NODE_NAME;
use galen_runtime::{
    OneOrMore, Size, Span, config,
    endpoint::{Endpoint, Security},
    telemetry::LogFormat,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    budget::Bounds,
    containers,
    recorder::Limits,
    tls,
    tracer::{Sections, TracerSet},
    tracers::Shipped,
};

/// Begins the names of environment variables that are settings: `GALEN_AGENT__DATA_DIR=…`.
pub const ENV_PREFIX: &str = "GALEN_AGENT";

/// Settings of galen-agent.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, bound = "S: TracerSet")]
#[schemars(bound = "S: TracerSet")]
pub struct Config<S: TracerSet = Shipped> {
    /// Name of this node in the fleet, at most 253 bytes. Empty: the host name.
    pub node: String,
    /// Where buffered events are kept, and by default record files.
    pub data_dir: PathBuf,
    /// How long the orderly end may take.
    pub shutdown_deadline: Span,
    /// What is said of this machine.
    pub host: Host,
    /// Where events go.
    pub aggregator: Aggregator,
    /// TLS to the aggregators. The files are read again when they change, and on SIGHUP.
    pub tls: tls::Config,
    /// Events that were not delivered yet.
    pub buffer: Buffer,
    /// The local files, one line an event.
    pub records: Records,
    /// What captures may cost.
    pub budget: Budget,
    /// CPU profiles, and the flight recorder.
    pub profiler: Profiler,
    /// Who is asked what a container is, and which containers events are wanted of.
    pub containers: containers::Raw,
    /// What is watched for.
    pub tracers: Sections<S>,
    /// The agent's own log, on standard error.
    pub log: Log,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Host {
    /// Place of the machine, such as a region or zone.
    pub region: String,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Aggregator {
    /// Address of the aggregator, or a list of addresses, for aggregators that have one log together: one of them is
    /// dialled, in a random order, and another when it ends. `https://` takes `[tls]`; `http://` is for loopback only.
    pub endpoint: OneOrMore,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Buffer {
    /// Most disk that undelivered events take. Over it the oldest are dropped, and declared lost.
    pub max_bytes: Size,
    /// Size of the pieces in which disk is given back.
    pub segment_bytes: Size,
    /// Most memory of events that wait for the disk.
    pub queue_bytes: Size,
    /// Most events that wait for the disk.
    pub queue_events: usize,
    /// Largest event that is taken, its evidence included.
    pub max_event_bytes: Size,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Records {
    /// Folder of the record files. Empty: `records` in the data folder.
    pub dir: PathBuf,
    /// Size at which a tracer's file is rotated.
    pub max_file_bytes: Size,
    /// Rotated files that are kept for each tracer.
    pub max_files: usize,
    /// Age at which a rotated file, or evidence beside it, is removed.
    pub max_age: Span,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Profiler {
    /// Whether what runs is always sampled, about 12 times a second on a CPU that is busy, so that captures have the
    /// seconds before their trigger. It takes 704 KiB of the kernel's memory for each CPU.
    pub flight_recorder: bool,
    /// Seconds before the trigger that a capture has, at most 60 s. At least 20 s are kept, and more where stacks are
    /// not all of the deepest kind.
    pub look_back: Span,
    /// Samples a second and CPU while a capture runs.
    pub frequency: u32,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Budget {
    /// Captures at a time, of all tracers.
    pub max_concurrent_captures: usize,
    /// Captures an hour, of all tracers. While less than half of this or of the next two is left, captures are short;
    /// when one is used up, triggers are told without a capture.
    pub captures_per_hour: u32,
    /// CPU time of the agent that captures may take in an hour: 36 s are 1 % of one CPU.
    pub cpu_per_hour: Span,
    /// Bytes of evidence an hour.
    pub bytes_per_hour: Size,
    /// How long a short capture takes.
    pub short_capture: Span,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// `text` or `json`.
    pub format: LogFormat,
    /// Level, or levels by module: `info,galen_agent=debug`.
    pub filter: String,
}

impl<S: TracerSet> Default for Config<S> {
    fn default() -> Self {
        Self {
            node: String::new(),
            data_dir: "/var/lib/galen/agent".into(),
            shutdown_deadline: Span::from_secs(20),
            host: Host::default(),
            aggregator: Aggregator::default(),
            tls: tls::Config::default(),
            buffer: Buffer::default(),
            records: Records::default(),
            budget: Budget::default(),
            profiler: Profiler::default(),
            containers: containers::Raw::default(),
            tracers: Sections::default(),
            log: Log::default(),
        }
    }
}

impl Default for Aggregator {
    fn default() -> Self {
        Self { endpoint: OneOrMore(vec!["http://127.0.0.1:7400".into()]) }
    }
}

impl Default for Buffer {
    fn default() -> Self {
        Self {
            max_bytes: Size::gib(1),
            segment_bytes: Size::mib(64),
            queue_bytes: Size::mib(8),
            queue_events: 8192,
            max_event_bytes: Size::mib(4),
        }
    }
}

impl Default for Records {
    fn default() -> Self {
        Self {
            dir: PathBuf::new(),
            max_file_bytes: Size::mib(16),
            max_files: 10,
            max_age: Span::from_secs(14 * 86_400),
        }
    }
}

impl Default for Profiler {
    fn default() -> Self {
        Self { flight_recorder: true, look_back: Span::from_secs(30), frequency: 99 }
    }
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            max_concurrent_captures: 4,
            captures_per_hour: 120,
            cpu_per_hour: Span::from_secs(36),
            bytes_per_hour: Size::mib(64),
            short_capture: Span::from_secs(2),
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { format: LogFormat::default(), filter: "info".into() }
    }
}

/// What is wrong with settings that can be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Invalid {
    #[error(transparent)]
    Config(#[from] config::Error),
    #[error("`node` is {0} bytes long: at most {MAX_NODE_NAME} are allowed")]
    NodeName(usize),
    #[error("`node` has control characters")]
    NodeControl,
    #[error("`data_dir` must not be empty")]
    NoDataDir,
    #[error("`aggregator.endpoint`")]
    Endpoint(#[source] galen_runtime::endpoint::Error),
    #[error("`aggregator.endpoint` must not be an empty list")]
    NoEndpoint,
    #[error("`aggregator.endpoint`: `{0}` takes the files of `[tls]`, which are not set")]
    NoTls(Endpoint),
    #[error("`{key}` must be set with the other files of `[tls]`")]
    TlsFile { key: &'static str },
    #[error("`[containers]`: {0}")]
    Containers(#[from] containers::Invalid),
    #[error("`log.filter`")]
    Filter(#[source] galen_runtime::telemetry::Error),
    #[error("`{key}` must not be zero")]
    Zero { key: &'static str },
    #[error("the settings were not read from anywhere, so they cannot be read again")]
    NotLoaded,
    #[error("`{key}` is {value}: it must be from {least} to {most}")]
    OutOfRange { key: &'static str, value: String, least: &'static str, most: &'static str },
}

/// Validated settings: the agent is made from nothing else.
#[derive(Debug, Clone)]
pub struct Settings<S: TracerSet = Shipped> {
    pub(crate) config: Config<S>,
    pub(crate) node: String,
    /// At least one.
    pub(crate) endpoints: Vec<Endpoint>,
    /// There if one of the endpoints takes it.
    pub(crate) tls: Option<tls::Settings>,
    pub(crate) containers: containers::Settings,
    /// `None` if they were made, not read.
    pub(crate) layers: Option<Layers>,
}

/// Where settings were read from, other than the environment.
#[derive(Debug, Clone)]
pub(crate) struct Layers {
    file: Option<PathBuf>,
    arguments: Vec<(String, String)>,
}

impl Layers {
    /// Reads all layers, with `changes` over them.
    pub(crate) fn read<S: TracerSet>(self, changes: &[(String, String)]) -> Result<Settings<S>, Invalid> {
        let overrides = [&self.arguments[..], changes].concat();
        let settings = Settings::try_from(config::load::<Config<S>>(self.file.as_deref(), ENV_PREFIX, &overrides)?)?;
        Ok(Settings { layers: Some(self), ..settings })
    }
}

impl<S: TracerSet> Settings<S> {
    /// Defaults < file < environment < `overrides`.
    pub fn load(file: Option<&Path>, overrides: &[(String, String)]) -> Result<Self, Invalid> {
        Layers { file: file.map(Path::to_owned), arguments: overrides.to_vec() }.read(&[])
    }

    /// What holds until the agent ends, by dotted key.
    pub(crate) fn fixed(&self) -> BTreeMap<String, String> {
        let mut fixed = config::flat(&self.config);
        fixed.retain(|key, _| !key.starts_with("tracers.") && key != "log.filter");
        fixed
    }

    pub fn node(&self) -> &str {
        &self.node
    }

    pub fn config(&self) -> &Config<S> {
        &self.config
    }

    pub(crate) fn records_dir(&self) -> PathBuf {
        let dir = &self.config.records.dir;
        if dir.as_os_str().is_empty() { self.config.data_dir.join("records") } else { dir.clone() }
    }

    pub(crate) fn record_limits(&self) -> Limits {
        let Records { max_file_bytes, max_files, max_age, .. } = self.config.records;
        Limits { max_file_bytes: max_file_bytes.0, max_files, max_age: max_age.0 }
    }

    /// What captures may cost, and how long a short one takes.
    pub(crate) fn budget(&self) -> (Bounds, Duration) {
        let budget = &self.config.budget;
        let bounds = Bounds {
            concurrent: budget.max_concurrent_captures,
            captures_per_hour: budget.captures_per_hour,
            cpu_per_hour: budget.cpu_per_hour.0,
            bytes_per_hour: budget.bytes_per_hour.0,
        };
        (bounds, budget.short_capture.0)
    }

    pub(crate) fn buffer(&self) -> galen_buffer::Settings {
        let size = |size: Size| usize::try_from(size.0).unwrap_or(usize::MAX);
        let buffer = &self.config.buffer;
        galen_buffer::Settings {
            dir: self.config.data_dir.join("buffer"),
            max_bytes: buffer.max_bytes.0,
            segment_bytes: buffer.segment_bytes.0,
            queue_bytes: size(buffer.queue_bytes),
            queue_events: buffer.queue_events,
            max_event_bytes: size(buffer.max_event_bytes),
        }
    }
}

impl<S: TracerSet> TryFrom<Config<S>> for Settings<S> {
    type Error = Invalid;

    fn try_from(config: Config<S>) -> Result<Self, Invalid> {
        let node = match config.node.as_str() {
            "" => rustix::system::uname().nodename().to_string_lossy().into_owned(),
            node => node.to_owned(),
        };
        if node.len() > MAX_NODE_NAME {
            return Err(Invalid::NodeName(node.len()));
        }
        // As aggregators have it: they would refuse the node for ever.
        if node.chars().any(char::is_control) {
            return Err(Invalid::NodeControl);
        }
        if config.data_dir.as_os_str().is_empty() {
            return Err(Invalid::NoDataDir);
        }
        let endpoints: Result<Vec<Endpoint>, _> = config.aggregator.endpoint.0.iter().map(|url| url.parse()).collect();
        let endpoints = endpoints.map_err(Invalid::Endpoint)?;
        if endpoints.is_empty() {
            return Err(Invalid::NoEndpoint);
        }
        let tls = config.tls.clone().check()?;
        let without = endpoints.iter().find(|endpoint| endpoint.security() == Security::Tls).filter(|_| tls.is_none());
        if let Some(endpoint) = without {
            return Err(Invalid::NoTls(endpoint.clone()));
        }
        let containers = config.containers.clone().try_into()?;
        galen_runtime::telemetry::check_filter(&config.log.filter).map_err(Invalid::Filter)?;
        let sizes = [
            ("buffer.max_bytes", config.buffer.max_bytes),
            ("buffer.segment_bytes", config.buffer.segment_bytes),
            ("buffer.queue_bytes", config.buffer.queue_bytes),
            ("buffer.max_event_bytes", config.buffer.max_event_bytes),
            ("records.max_file_bytes", config.records.max_file_bytes),
        ];
        let Profiler { look_back, frequency, .. } = config.profiler;
        let refused = |key, value, least, most| Err(Invalid::OutOfRange { key, value, least, most });
        if !(1..=10_000).contains(&frequency) {
            return refused("profiler.frequency", frequency.to_string(), "1", "10000");
        }
        if look_back < Span::from_secs(1) || look_back > Span::from_secs(60) {
            return refused("profiler.look_back", look_back.to_string(), "1s", "60s");
        }
        match sizes.iter().find(|(_, size)| size.0 == 0) {
            Some((key, _)) => Err(Invalid::Zero { key }),
            None => Ok(Self { config, node, endpoints, tls, containers, layers: None }),
        }
    }
}
