//! The settings of the aggregator: [`Config`] as it is written, [`Settings`] once it was checked.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use galen_runtime::{Size, Span, endpoint, telemetry::LogFormat};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::listener::Waits;

/// Prefix of environment variables: `GALEN_AGGREGATOR__LISTEN__GRPC=…`.
pub const ENV_PREFIX: &str = "GALEN_AGGREGATOR";

/// Smallest credit that a session gets, whatever the number of agents: one batch of usual size.
pub const MIN_CREDIT: u64 = 64 << 10;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Directory of the log, of the store and of the file `addresses.json`. One aggregator each.
    pub data_dir: PathBuf,
    /// On SIGTERM the aggregator sends its agents elsewhere and ends what is underway, in at most so long.
    pub shutdown_deadline: Span,
    /// Addresses to listen on. Loopback only, until there is TLS. Port 0 takes a free one.
    pub listen: Listen,
    /// The durable log.
    pub log: Log,
    /// Kafka as the log that several aggregators share. What is in it is copied into `log` on each of them.
    pub kafka: galen_kafka::Config,
    /// The search store, filled from the log.
    pub store: Store,
    /// The streams of the agents.
    pub sessions: Sessions,
    /// The aggregator's own messages, on its standard error.
    pub telemetry: Telemetry,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Listen {
    /// For agents and for the command line.
    pub grpc: String,
    /// For the web page, the HTTP API and the metrics.
    pub http: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// Size at which a segment is closed and another begun.
    pub segment_bytes: Size,
    /// Beyond this size the oldest segments are deleted. At least four segments.
    pub retention_bytes: Size,
    /// Segments older than this are deleted.
    pub retention_age: Span,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Store {
    /// Events older than this are deleted, a day at a time.
    pub retention_age: Span,
    /// Beyond this size the oldest days are deleted.
    pub retention_bytes: Size,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Sessions {
    /// Bytes that an agent may have underway, sent and not acknowledged.
    pub credit: Size,
    /// Bytes that all agents together may have underway: with many agents, each gets less credit.
    pub memory: Size,
    /// Largest batch that is taken.
    pub max_batch_bytes: Size,
    /// Most events that a batch may hold.
    pub max_batch_events: u32,
    /// Both sides send something at least this often; silence of three intervals ends a session.
    pub heartbeat: Span,
    /// Sessions that may begin in a second, and as many at once after a quiet second. Agents beyond it are told when
    /// to come again. On SIGTERM agents are sent away at this pace, or faster if the deadline asks for it.
    pub new_per_second: u32,
    /// Agents that may be connected. More are refused, and come again later.
    pub max_agents: u32,
    /// Series of single agents that are kept, to be summed in `/metrics` and shown in `/metrics/nodes`; each takes 16
    /// bytes. More are left out, and counted.
    pub max_figures: u32,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Telemetry {
    /// `text` or `json`.
    pub format: LogFormat,
    /// Which messages, such as `info` or `warn,galen_log=debug`.
    pub filter: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_dir: "/var/lib/galen/aggregator".into(),
            shutdown_deadline: Span::from_secs(20),
            listen: Listen::default(),
            log: Log::default(),
            kafka: galen_kafka::Config::default(),
            store: Store::default(),
            sessions: Sessions::default(),
            telemetry: Telemetry::default(),
        }
    }
}

impl Default for Listen {
    fn default() -> Self {
        Self { grpc: "127.0.0.1:7400".into(), http: "127.0.0.1:7401".into() }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { segment_bytes: Size::mib(64), retention_bytes: Size::gib(8), retention_age: days(7) }
    }
}

impl Default for Store {
    fn default() -> Self {
        Self { retention_age: days(30), retention_bytes: Size::gib(20) }
    }
}

impl Default for Sessions {
    fn default() -> Self {
        Self {
            credit: Size::kib(256),
            memory: Size::mib(128),
            max_batch_bytes: Size::mib(4),
            max_batch_events: 1024,
            heartbeat: Span::from_secs(10),
            new_per_second: 500,
            max_agents: 10_000,
            max_figures: 2_000_000,
        }
    }
}

impl Default for Telemetry {
    fn default() -> Self {
        Self { format: LogFormat::default(), filter: "info".into() }
    }
}

/// A setting that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Invalid {
    #[error("`{key}`: `{value}` is not an address, write it as 127.0.0.1:7400")]
    Address { key: &'static str, value: String },
    #[error("`{key}` cannot be listened on")]
    Exposed {
        key: &'static str,
        #[source]
        source: endpoint::Error,
    },
    #[error("`{key}` must {must}")]
    Range { key: &'static str, must: &'static str },
    #[error(transparent)]
    Kafka(#[from] galen_kafka::Error),
}

/// Settings that were checked.
#[derive(Debug, Clone)]
pub struct Settings {
    pub data_dir: PathBuf,
    pub shutdown_deadline: Duration,
    pub grpc: SocketAddr,
    pub http: SocketAddr,
    pub log: Log,
    /// `None`: the log is on this machine's disk alone.
    pub kafka: Option<galen_kafka::Settings>,
    pub store: Store,
    pub sessions: Sessions,
    /// Whether the log is read into the store. Only measurements turn it off.
    pub index: bool,
    /// Only tests change them.
    pub waits: Waits,
}

impl TryFrom<Config> for Settings {
    type Error = Invalid;

    fn try_from(config: Config) -> Result<Self, Invalid> {
        let Config { data_dir, shutdown_deadline, listen, log, kafka, store, sessions, telemetry: _ } = config;
        let require = |met: bool, key, must| if met { Ok(()) } else { Err(Invalid::Range { key, must }) };
        require(!data_dir.as_os_str().is_empty(), "data_dir", "not be empty")?;
        require(log.segment_bytes >= Size::kib(64), "log.segment_bytes", "be at least 64KiB")?;
        require(
            log.retention_bytes.0 / 4 >= log.segment_bytes.0,
            "log.retention_bytes",
            "be at least four times log.segment_bytes",
        )?;
        require(!log.retention_age.0.is_zero(), "log.retention_age", "be more than zero")?;
        require(!store.retention_age.0.is_zero(), "store.retention_age", "be more than zero")?;
        require(sessions.credit.0 >= MIN_CREDIT, "sessions.credit", "be at least 64KiB")?;
        require(sessions.memory >= sessions.credit, "sessions.memory", "be at least sessions.credit")?;
        let batch = Size::kib(64)..=Size::mib(32);
        require(batch.contains(&sessions.max_batch_bytes), "sessions.max_batch_bytes", "be from 64KiB to 32MiB")?;
        require((1..=65_536).contains(&sessions.max_batch_events), "sessions.max_batch_events", "be from 1 to 65536")?;
        let beat = Duration::from_millis(100)..=Duration::from_secs(300);
        require(beat.contains(&sessions.heartbeat.0), "sessions.heartbeat", "be from 100ms to 5m")?;
        require(sessions.new_per_second > 0, "sessions.new_per_second", "be at least 1")?;
        require(sessions.max_agents > 0, "sessions.max_agents", "be at least 1")?;
        Ok(Self {
            grpc: address("listen.grpc", &listen.grpc)?,
            http: address("listen.http", &listen.http)?,
            data_dir,
            shutdown_deadline: shutdown_deadline.0,
            log,
            kafka: galen_kafka::Settings::new(kafka)?,
            store,
            sessions,
            index: true,
            waits: Waits::default(),
        })
    }
}

fn address(key: &'static str, value: &str) -> Result<SocketAddr, Invalid> {
    let address = value.parse().map_err(|_| Invalid::Address { key, value: value.to_owned() })?;
    endpoint::plaintext_allowed(&address).map_err(|source| Invalid::Exposed { key, source })?;
    Ok(address)
}

const fn days(days: u64) -> Span {
    Span::from_secs(days * 24 * 3600)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid() {
        let settings = Settings::try_from(Config::default()).unwrap();
        assert_eq!(settings.grpc.port(), 7400);
    }

    #[test]
    fn a_data_directory_without_a_name_is_refused() {
        let error = Settings::try_from(Config { data_dir: "".into(), ..Config::default() }).unwrap_err();
        assert_eq!(error.to_string(), "`data_dir` must not be empty");
    }

    #[test]
    fn an_address_that_others_could_reach_is_refused() {
        let mut config = Config::default();
        config.listen.http = "0.0.0.0:7401".into();
        let error = Settings::try_from(config).unwrap_err();
        let error = galen_runtime::Chain(&error).to_string();
        assert!(error.contains("listen.http") && error.contains("TLS"), "{error}");
    }

    #[test]
    fn a_log_without_room_for_its_snapshots_is_refused() {
        let mut config = Config::default();
        config.log.retention_bytes = Size::mib(128);
        let error = Settings::try_from(config).unwrap_err().to_string();
        assert!(error.contains("log.retention_bytes"), "{error}");
    }
}
