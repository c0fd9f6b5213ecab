//! The settings of Kafka: [`Config`] as it is written, [`Settings`] once it was checked.

use std::{fs, net::IpAddr, path::PathBuf, time::Duration};

use galen_runtime::{Size, Span};
use rdkafka::{ClientConfig, config::RDKafkaLogLevel};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Error;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Brokers to ask first, such as `kafka-1:9092,kafka-2:9092`. Empty: the log is on this machine's disk alone.
    pub brokers: String,
    /// What the names of the topics begin with: `<prefix>.events`, `<prefix>.watermarks`, `<prefix>.dead-letters`. The
    /// names of the readers' groups begin with it, too.
    pub topic_prefix: String,
    /// Whether topics that are missing are made at the start.
    pub create_topics: bool,
    /// Partitions of topics that are made. A node's events are in one partition, in order; more partitions later move
    /// nodes to others.
    pub partitions: u32,
    /// Copies of the topics that are made, two of which must be in sync where there are three or more. 0: as the brokers
    /// have it.
    pub replication: u16,
    /// What the value of an event's record is: `protobuf`, as it came, or `json`.
    pub payload: Payload,
    /// How records are compressed: `none`, `gzip`, `snappy`, `lz4` or `zstd`.
    pub compression: Compression,
    /// Bytes of records that may wait for the brokers.
    pub memory: Size,
    /// Largest record. What is larger is sent in parts. Less holds where the topic takes less.
    pub max_record_bytes: Size,
    /// How long a record waits for others to be sent with it.
    pub linger: Span,
    /// Events that the brokers have not acknowledged in this time are given up: their agents come again.
    pub patience: Span,
    /// Whether brokers on other machines may be dialled without TLS. What lies between must be trusted then.
    pub plaintext: bool,
    /// TLS to the brokers.
    pub tls: Tls,
    /// Who the aggregator is for the brokers.
    pub sasl: Sasl,
}

/// What the value of a record is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Payload {
    #[default]
    Protobuf,
    Json,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    None,
    Gzip,
    Snappy,
    Lz4,
    #[default]
    Zstd,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Tls {
    /// Whether brokers are dialled with TLS.
    pub enabled: bool,
    /// File of the certificates that brokers' are checked against. Empty: those of the system.
    pub ca_file: PathBuf,
    /// File of the aggregator's certificate, if the brokers ask for one.
    pub certificate_file: PathBuf,
    /// File of its key.
    pub key_file: PathBuf,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Sasl {
    /// `PLAIN`, `SCRAM-SHA-256` or `SCRAM-SHA-512`. Empty: none.
    pub mechanism: String,
    pub user: String,
    /// File that holds the password.
    pub password_file: PathBuf,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            brokers: String::new(),
            topic_prefix: "galen".into(),
            create_topics: true,
            partitions: 12,
            replication: 0,
            payload: Payload::default(),
            compression: Compression::default(),
            memory: Size::mib(64),
            max_record_bytes: Size::kib(900),
            linger: Span::from_millis(5),
            patience: Span::from_secs(30),
            plaintext: false,
            tls: Tls::default(),
            sasl: Sasl::default(),
        }
    }
}

/// Settings that were checked.
#[derive(Debug, Clone)]
pub struct Settings {
    pub(crate) brokers: String,
    pub(crate) prefix: String,
    pub(crate) create_topics: bool,
    pub(crate) partitions: i32,
    pub(crate) replication: u16,
    pub(crate) payload: Payload,
    pub(crate) compression: Compression,
    pub(crate) memory: u64,
    pub(crate) max_record_bytes: usize,
    pub(crate) linger: Duration,
    pub(crate) patience: Duration,
    pub(crate) tls: Tls,
    pub(crate) sasl: Sasl,
}

impl Settings {
    /// `None` where no brokers are named.
    ///
    /// # Errors
    /// The first setting that cannot be used.
    pub fn new(config: Config) -> Result<Option<Self>, Error> {
        let Config { brokers, topic_prefix, create_topics, partitions, replication, payload, compression, .. } = config;
        let Config { memory, max_record_bytes, linger, patience, plaintext, tls, sasl, .. } = config;
        if brokers.trim().is_empty() {
            return Ok(None);
        }
        let require = |met: bool, key, must| if met { Ok(()) } else { Err(Error::Setting { key, must }) };
        let brokers: Vec<&str> = brokers.split(',').map(str::trim).collect();
        require(
            brokers.iter().all(|broker| host(broker).is_some()),
            "kafka.brokers",
            "be hosts with their ports, joined by commas, such as kafka-1:9092,kafka-2:9092",
        )?;
        let is_name = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
        require(
            (1..=200).contains(&topic_prefix.len()) && is_name(&topic_prefix),
            "kafka.topic_prefix",
            "be 1 to 200 letters, digits, `.`, `_` or `-`",
        )?;
        require((1..=10_000).contains(&partitions), "kafka.partitions", "be from 1 to 10000")?;
        let records = Size::kib(16)..=Size::mib(256);
        require(records.contains(&max_record_bytes), "kafka.max_record_bytes", "be from 16KiB to 256MiB")?;
        require(
            memory.0 / 2 >= max_record_bytes.0 && memory <= Size::gib(64),
            "kafka.memory",
            "be at least twice kafka.max_record_bytes, and at most 64GiB",
        )?;
        require(linger.0 <= Duration::from_secs(1), "kafka.linger", "be at most 1s")?;
        require(patience.0 >= Duration::from_secs(1), "kafka.patience", "be at least 1s")?;
        require(
            tls.enabled || plaintext || brokers.iter().all(|broker| host(broker).is_some_and(is_loopback)),
            "kafka.tls.enabled",
            "be true for brokers on other machines, or kafka.plaintext where the network is trusted",
        )?;
        require(
            tls.certificate_file.as_os_str().is_empty() == tls.key_file.as_os_str().is_empty(),
            "kafka.tls.key_file",
            "be set together with kafka.tls.certificate_file",
        )?;
        let files = [&tls.ca_file, &tls.certificate_file, &tls.key_file];
        require(
            tls.enabled || files.iter().all(|file| file.as_os_str().is_empty()),
            "kafka.tls.enabled",
            "be true for the files of kafka.tls to be used",
        )?;
        require(
            ["", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"].contains(&sasl.mechanism.as_str()),
            "kafka.sasl.mechanism",
            "be PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, or empty",
        )?;
        let named = !sasl.mechanism.is_empty();
        require(named != sasl.user.is_empty(), "kafka.sasl.user", "be set together with kafka.sasl.mechanism")?;
        require(
            named != sasl.password_file.as_os_str().is_empty(),
            "kafka.sasl.password_file",
            "be set together with kafka.sasl.mechanism",
        )?;
        Ok(Some(Self {
            brokers: brokers.join(","),
            prefix: topic_prefix,
            create_topics,
            partitions: i32::try_from(partitions).unwrap_or(i32::MAX),
            replication,
            payload,
            compression,
            memory: memory.0,
            max_record_bytes: usize::try_from(max_record_bytes.0).unwrap_or(usize::MAX),
            linger: linger.0,
            patience: patience.0,
            tls,
            sasl,
        }))
    }

    /// What every client is told. The secrets are read anew each time.
    pub(crate) fn client(&self, role: &str) -> Result<ClientConfig, Error> {
        let mut client = ClientConfig::new();
        client
            .set("bootstrap.servers", &self.brokers)
            .set("client.id", format!("{}-{role}", self.prefix))
            // A missing topic is told, or made as the settings say, never as a broker happens to.
            .set("allow.auto.create.topics", "false")
            // So often that an idle connection is not taken for a lost one.
            .set("topic.metadata.refresh.interval.ms", "60000")
            .set("reconnect.backoff.max.ms", "2000")
            .set("statistics.interval.ms", "2000")
            .set_log_level(RDKafkaLogLevel::Warning);
        let protocol = match (self.tls.enabled, self.sasl.mechanism.is_empty()) {
            (false, true) => "plaintext",
            (false, false) => "sasl_plaintext",
            (true, true) => "ssl",
            (true, false) => "sasl_ssl",
        };
        client.set("security.protocol", protocol);
        let files = [
            ("kafka.tls.ca_file", "ssl.ca.location", &self.tls.ca_file),
            ("kafka.tls.certificate_file", "ssl.certificate.location", &self.tls.certificate_file),
            ("kafka.tls.key_file", "ssl.key.location", &self.tls.key_file),
        ];
        for (key, name, path) in files {
            if !path.as_os_str().is_empty() {
                // The client's own error does not name the setting.
                fs::File::open(path).map_err(|source| Error::Secret { key, path: path.clone(), source })?;
                client.set(name, path.to_string_lossy());
            }
        }
        if !self.sasl.mechanism.is_empty() {
            let path = &self.sasl.password_file;
            let password = fs::read_to_string(path).map_err(|source| Error::Secret {
                key: "kafka.sasl.password_file",
                path: path.clone(),
                source,
            })?;
            client
                .set("sasl.mechanism", &self.sasl.mechanism)
                .set("sasl.username", &self.sasl.user)
                .set("sasl.password", password.trim_end_matches(['\r', '\n']));
        }
        Ok(client)
    }
}

impl Compression {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }
}

/// The host of a broker's address.
fn host(broker: &str) -> Option<&str> {
    let (host, port) = broker.rsplit_once(':')?;
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let is_host = !bare.is_empty() && !bare.contains(['/', '@', ' ']);
    (is_host && port.parse::<u16>().is_ok_and(|port| port > 0)).then_some(bare)
}

fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || host.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(change: impl FnOnce(&mut Config)) -> Result<Option<Settings>, String> {
        let mut config = Config { brokers: "127.0.0.1:9092, localhost:9093,[::1]:9094".into(), ..Config::default() };
        change(&mut config);
        Settings::new(config).map_err(|error| error.to_string())
    }

    #[test]
    fn without_brokers_there_is_no_kafka() {
        assert!(Settings::new(Config::default()).unwrap().is_none());
        let settings = with(|_| {}).unwrap().unwrap();
        assert_eq!(settings.brokers, "127.0.0.1:9092,localhost:9093,[::1]:9094");
    }

    #[test]
    fn what_is_wrong_is_named_by_its_key() {
        type Change = fn(&mut Config);
        let wrong: [(&str, Change); 12] = [
            ("`kafka.brokers`", |config| config.brokers = "kafka".into()),
            ("`kafka.brokers`", |config| config.brokers = "kafka:9092,".into()),
            ("`kafka.topic_prefix`", |config| config.topic_prefix = "a b".into()),
            ("`kafka.partitions`", |config| config.partitions = 0),
            ("`kafka.memory`", |config| config.memory = Size::kib(900)),
            ("`kafka.max_record_bytes`", |config| config.max_record_bytes = Size::kib(1)),
            ("`kafka.patience`", |config| config.patience = Span::from_millis(1)),
            ("`kafka.tls.enabled`", |config| config.brokers = "kafka-1:9092".into()),
            ("`kafka.tls.enabled`", |config| config.tls.ca_file = "/ca.pem".into()),
            ("`kafka.tls.key_file`", |config| {
                config.tls = Tls { enabled: true, certificate_file: "/a.pem".into(), ..Tls::default() };
            }),
            ("`kafka.sasl.mechanism`", |config| config.sasl.mechanism = "GSSAPI".into()),
            ("`kafka.sasl.user`", |config| config.sasl.mechanism = "PLAIN".into()),
        ];
        for (key, change) in wrong {
            let error = with(change).unwrap_err();
            assert!(error.starts_with(key), "{error}");
        }
    }

    #[test]
    fn the_client_is_built_with_tls_sasl_and_every_compression() {
        let password = tempfile::NamedTempFile::new().unwrap();
        fs::write(password.path(), "secret\n").unwrap();
        for compression in
            [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd]
        {
            for mechanism in ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] {
                let settings = with(|config| {
                    config.brokers = "kafka-1.invalid:9093".into();
                    config.tls.enabled = true;
                    let (user, password_file) = ("galen".into(), password.path().into());
                    config.sasl = Sasl { mechanism: mechanism.into(), user, password_file };
                    config.compression = compression;
                });
                let settings = settings.unwrap().unwrap();
                let link = crate::Link::default();
                let producer = crate::producer::Producer::new(&settings, 100_000, &link, &std::sync::Arc::default());
                assert!(producer.is_ok(), "{mechanism}, {compression:?}");
            }
        }
    }

    #[test]
    fn a_secret_that_cannot_be_read_is_named_with_its_file() {
        let settings = with(|config| {
            config.sasl =
                Sasl { mechanism: "PLAIN".into(), user: "galen".into(), password_file: "/nowhere/password".into() };
        });
        let error = settings.unwrap().unwrap().client("test").unwrap_err().to_string();
        assert!(error.contains("/nowhere/password") && error.contains("kafka.sasl.password_file"), "{error}");
    }
}
