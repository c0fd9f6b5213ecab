//! Real servers for tests: Kafka, OpenSearch, Redis and Prometheus, started by `scripts/services/services.sh`.
//!
//! Each value is one server, or one cluster of three Kafka brokers, in a directory and on ports of its own. It ends with
//! its value, also when a test fails, and may be stopped, killed, paused and started again on its data meanwhile.

#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "a test fails by panicking")]

mod ports;
mod server;

use std::{path::Path, process::Command};

pub use server::Server;

/// The largest number of ports that a server takes: those of three Kafka brokers.
const PORTS: u16 = 6;

/// One Kafka broker.
pub fn kafka() -> Server {
    Server::start("kafka", &[])
}

/// One Kafka broker, all of whose files are in `place`.
pub fn kafka_in(place: &Path) -> Server {
    Server::start_in(place, "kafka", &[])
}

/// One Kafka broker that asks for TLS, a certificate of the client and a password. Its directory has `ca.pem`,
/// `client.pem`, `client.key`, and `password`, which is that of the user `galen`.
pub fn kafka_tls() -> Server {
    Server::start("kafka_tls", &[])
}

/// Three Kafka brokers, on ports that follow each other: replication of three, two in sync.
pub fn kafka3() -> Server {
    Server::start("kafka3", &[])
}

/// OpenSearch 2.
pub fn opensearch() -> Server {
    Server::start("opensearch", &[])
}

/// OpenSearch 3.
pub fn opensearch3() -> Server {
    Server::start("opensearch3", &[])
}

pub fn redis() -> Server {
    Server::start("redis", &[])
}

/// Redis that asks for TLS, a certificate of the client and a password. Its directory has the same files as that of
/// [`kafka_tls`]; the user `operator`, with the same password, may change users.
pub fn redis_tls() -> Server {
    Server::start("redis_tls", &[])
}

/// Prometheus, which scrapes `targets`: hosts with ports.
pub fn prometheus(targets: &[&str]) -> Server {
    Server::start("prometheus", targets)
}

/// Makes a Kafka topic. `options` are those of `kafka-topics`, such as `["--config", "min.insync.replicas=2"]`.
pub fn topic(kafka: &Server, name: &str, partitions: u32, options: &[&str]) {
    let (port, partitions) = (kafka.port().to_string(), partitions.to_string());
    let mut arguments = vec!["topic", &port, name, &partitions];
    arguments.extend(options);
    script(&arguments);
}

/// Runs the script; its standard output.
fn script(arguments: &[&str]) -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../scripts/services/services.sh");
    let output = Command::new(path).args(arguments).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "services.sh {}: {errors}", arguments.join(" "));
    String::from_utf8(output.stdout).unwrap()
}
