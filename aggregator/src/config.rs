//! The settings of the aggregator: [`Config`] as it is written, [`Settings`] once it was checked.

mod limits;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use galen_runtime::{
    Size, Span,
    endpoint::{self, Security},
    telemetry::LogFormat,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use limits::{Limit, LimitSettings, Limits, Redis};

use crate::{access, listener::Waits, tls};

/// Prefix of environment variables: `GALEN_AGGREGATOR__LISTEN__GRPC=…`.
pub const ENV_PREFIX: &str = "GALEN_AGGREGATOR";

/// Smallest credit that a session gets, whatever the number of agents: one batch of usual size.
pub const MIN_CREDIT: u64 = 64 << 10;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Directory of the log, of the store, of the incidents and of the file `addresses.json`. One aggregator each.
    pub data_dir: PathBuf,
    /// On SIGTERM the aggregator sends its agents elsewhere and ends what is underway, in at most so long.
    pub shutdown_deadline: Span,
    /// Addresses to listen on: of loopback only, unless there is TLS. Port 0 takes a free one.
    pub listen: Listen,
    /// TLS on both listeners. The files are read again when they change, and on SIGHUP.
    pub tls: tls::Config,
    /// Who may ask what, once there is TLS or a file of tokens.
    pub access: access::Config,
    /// The durable log.
    pub log: Log,
    /// Kafka as the log that several aggregators share. What is in it is copied into `log` on each of them.
    pub kafka: galen_kafka::Config,
    /// The search store, filled from the log.
    pub store: Store,
    /// OpenSearch, if there is one: events are found there instead of in the store.
    pub opensearch: OpenSearch,
    /// Events with one cause, joined across nodes.
    pub incidents: crate::incidents::Config,
    /// The streams of the agents.
    pub sessions: Sessions,
    /// How many events are taken, and whose.
    pub limits: Limits,
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
pub struct OpenSearch {
    /// Nodes of the cluster, such as `https://search-1:9200`; they take turns. Empty: there is none.
    pub urls: Vec<String>,
    /// What the names of all indices and templates begin with.
    pub prefix: String,
    /// Primary shards of an index.
    pub shards: u32,
    /// Copies of each shard.
    pub replicas: u32,
    /// Name of the user. Empty: none.
    pub user: String,
    /// File with the user's password.
    pub password_file: PathBuf,
    /// Certificates of the authorities that sign the nodes' certificates, PEM. Empty: those of the system.
    pub ca_file: PathBuf,
    /// The aggregator's own certificate, PEM. Empty: none.
    pub certificate_file: PathBuf,
    /// The key of that certificate, PEM.
    pub key_file: PathBuf,
    /// Largest request. A single document that is larger is sent alone.
    pub bulk_bytes: Size,
    /// Most events of a request. As many are sent as OpenSearch takes without delay, up to this.
    pub bulk_events: u32,
    /// Most requests at a time. As many are sent as OpenSearch takes without delay, up to this.
    pub concurrency: u32,
    /// Longest time for an answer.
    pub timeout: Span,
    /// Indices of older days are deleted.
    pub retention_age: Span,
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
            tls: tls::Config::default(),
            access: access::Config::default(),
            log: Log::default(),
            kafka: galen_kafka::Config::default(),
            store: Store::default(),
            opensearch: OpenSearch::default(),
            incidents: crate::incidents::Config::default(),
            sessions: Sessions::default(),
            limits: Limits::default(),
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

impl Default for OpenSearch {
    fn default() -> Self {
        Self {
            urls: Vec::new(),
            prefix: "galen".into(),
            shards: 1,
            replicas: 1,
            user: String::new(),
            password_file: PathBuf::new(),
            ca_file: PathBuf::new(),
            certificate_file: PathBuf::new(),
            key_file: PathBuf::new(),
            bulk_bytes: Size::mib(4),
            bulk_events: 1000,
            concurrency: 4,
            timeout: Span::from_secs(30),
            retention_age: days(30),
        }
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
    #[error("`{key}`: `{value}` is not an address of the form https://name:9200")]
    Url { key: &'static str, value: String },
    #[error("`{key}` must {must}")]
    Range { key: &'static str, must: &'static str },
    #[error(transparent)]
    Kafka(#[from] galen_kafka::Error),
    #[error("`limits` cannot be used")]
    Limits(#[from] galen_limits::Invalid),
    #[error("`limits.redis.url` cannot be used")]
    Redis(#[from] galen_limits::Error),
}

/// Settings that were checked.
#[derive(Debug, Clone)]
pub struct Settings {
    pub data_dir: PathBuf,
    pub shutdown_deadline: Duration,
    pub grpc: SocketAddr,
    pub http: SocketAddr,
    /// `None`: plaintext.
    pub tls: Option<tls::Settings>,
    pub access: access::Settings,
    pub log: Log,
    /// `None`: the log is on this machine's disk alone.
    pub kafka: Option<galen_kafka::Settings>,
    pub store: Store,
    pub opensearch: Option<galen_opensearch::Settings>,
    pub incidents: galen_incidents::Limits,
    /// Whether the log is read for incidents.
    pub join: bool,
    pub sessions: Sessions,
    /// `None`: all events are taken.
    pub limits: Option<LimitSettings>,
    /// Whether the log is read into the store. Only measurements turn it off.
    pub index: bool,
    /// Only tests change them.
    pub waits: Waits,
}

impl TryFrom<Config> for Settings {
    type Error = Invalid;

    fn try_from(config: Config) -> Result<Self, Invalid> {
        let Config {
            data_dir,
            shutdown_deadline,
            listen,
            tls,
            access,
            log,
            kafka,
            store,
            opensearch,
            incidents,
            sessions,
            limits,
            telemetry: _,
        } = config;
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
        let tls = tls.check()?;
        let access = access.check(tls.is_some())?;
        let security = if tls.is_some() { Security::Tls } else { Security::Plaintext };
        Ok(Self {
            grpc: address("listen.grpc", &listen.grpc, security)?,
            http: address("listen.http", &listen.http, security)?,
            tls,
            access,
            data_dir,
            shutdown_deadline: shutdown_deadline.0,
            log,
            kafka: galen_kafka::Settings::new(kafka)?,
            store,
            opensearch: self::opensearch(opensearch)?,
            join: incidents.enabled,
            incidents: incidents.try_into()?,
            sessions,
            limits: LimitSettings::new(limits)?,
            index: true,
            waits: Waits::default(),
        })
    }
}

/// Nothing, if no cluster is named.
fn opensearch(config: OpenSearch) -> Result<Option<galen_opensearch::Settings>, Invalid> {
    if config.urls.is_empty() {
        return Ok(None);
    }
    let require = |met: bool, key, must| if met { Ok(()) } else { Err(Invalid::Range { key, must }) };
    let url = |text: &String| {
        let url = url::Url::parse(text).ok();
        let url = url.filter(|url| ["http", "https"].contains(&url.scheme()) && url.has_host());
        let url = url.filter(|url| url.username().is_empty() && url.password().is_none());
        url.ok_or_else(|| Invalid::Url { key: "opensearch.urls", value: text.clone() })
    };
    let urls: Vec<_> = config.urls.iter().map(url).collect::<Result<_, _>>()?;
    let prefix = galen_opensearch::is_prefix(&config.prefix);
    require(prefix, "opensearch.prefix", "be 1 to 64 of a-z, 0-9, `-` and `_`, and begin with a letter or digit")?;
    require((1..=1024).contains(&config.shards), "opensearch.shards", "be from 1 to 1024")?;
    let file = |path: PathBuf| Some(path).filter(|path| !path.as_os_str().is_empty());
    let user = Some(config.user).filter(|user| !user.is_empty());
    let password_file = file(config.password_file);
    require(user.is_some() || password_file.is_none(), "opensearch.user", "be set with opensearch.password_file")?;
    let in_clear = user.is_some() && urls.iter().any(|url| url.scheme() == "http" && !is_loopback(url));
    require(!in_clear, "opensearch.urls", "begin with https, where a password is sent to another machine")?;
    let (certificate_file, key_file) = (file(config.certificate_file), file(config.key_file));
    require(
        certificate_file.is_some() == key_file.is_some(),
        "opensearch.key_file",
        "be set together with opensearch.certificate_file",
    )?;
    let bytes = Size::kib(64)..=Size::mib(64);
    require(bytes.contains(&config.bulk_bytes), "opensearch.bulk_bytes", "be from 64KiB to 64MiB")?;
    require((1..=10_000).contains(&config.bulk_events), "opensearch.bulk_events", "be from 1 to 10000")?;
    require((1..=64).contains(&config.concurrency), "opensearch.concurrency", "be from 1 to 64")?;
    let timeout = Duration::from_millis(100)..=Duration::from_secs(600);
    require(timeout.contains(&config.timeout.0), "opensearch.timeout", "be from 100ms to 10m")?;
    require(!config.retention_age.0.is_zero(), "opensearch.retention_age", "be more than zero")?;
    Ok(Some(galen_opensearch::Settings {
        urls,
        prefix: config.prefix,
        shards: config.shards,
        replicas: config.replicas,
        user,
        password_file,
        ca_file: file(config.ca_file),
        certificate_file,
        key_file,
        bulk_bytes: config.bulk_bytes.0 as usize,
        bulk_events: config.bulk_events as usize,
        concurrency: config.concurrency as usize,
        timeout: config.timeout.0,
        retention: config.retention_age.0,
    }))
}

fn is_loopback(url: &url::Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

fn address(key: &'static str, value: &str, security: Security) -> Result<SocketAddr, Invalid> {
    let address = value.parse().map_err(|_| Invalid::Address { key, value: value.to_owned() })?;
    endpoint::may_listen(&address, security).map_err(|source| Invalid::Exposed { key, source })?;
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
    fn opensearch_is_used_where_it_is_named_and_named_well() {
        assert!(Settings::try_from(Config::default()).unwrap().opensearch.is_none());
        let with = |change: fn(&mut OpenSearch)| {
            let mut config = Config::default();
            config.opensearch.urls = vec!["http://search-1:9200".into()];
            change(&mut config.opensearch);
            Settings::try_from(config).map_err(|error| error.to_string())
        };
        assert!(with(|_| {}).unwrap().opensearch.is_some());
        for (change, key) in [
            ((|o| o.urls.push("search-2:9200".into())) as fn(&mut OpenSearch), "opensearch.urls"),
            (|o| o.prefix = "Galen".into(), "opensearch.prefix"),
            (|o| o.user = "galen".into(), "opensearch.urls"),
            (|o| o.key_file = "key".into(), "opensearch.key_file"),
            (|o| o.shards = 0, "opensearch.shards"),
        ] {
            let error = with(change).unwrap_err();
            assert!(error.contains(key), "{error}");
        }
    }

    #[test]
    fn a_log_without_room_for_its_snapshots_is_refused() {
        let mut config = Config::default();
        config.log.retention_bytes = Size::mib(128);
        let error = Settings::try_from(config).unwrap_err().to_string();
        assert!(error.contains("log.retention_bytes"), "{error}");
    }
}
