//! What the aggregator is told of OpenSearch. Everything was checked where it was read.

use std::{path::PathBuf, time::Duration};

use url::Url;

/// Where OpenSearch is, and how it is used.
#[derive(Debug, Clone)]
pub struct Settings {
    /// At least one.
    pub urls: Vec<Url>,
    /// Of every index and template; see [`crate::is_prefix`].
    pub prefix: String,
    pub shards: u32,
    pub replicas: u32,
    pub user: Option<String>,
    pub password_file: Option<PathBuf>,
    /// Authorities that sign the servers' certificates, PEM; the system's if absent.
    pub ca_file: Option<PathBuf>,
    /// Our own certificate and its key, PEM.
    pub certificate_file: Option<PathBuf>,
    pub key_file: Option<PathBuf>,
    /// Size of a request at the most, but for a single document that is larger.
    pub bulk_bytes: usize,
    pub bulk_events: usize,
    /// Requests at a time at the most.
    pub concurrency: usize,
    /// Longest time for an answer.
    pub timeout: Duration,
    /// Age at which a day is deleted.
    pub retention: Duration,
}
