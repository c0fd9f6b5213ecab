//! `[limits]`: how many full events a second the cluster takes, and whose.

use std::{collections::BTreeMap, path::PathBuf};

use galen_limits::{Table, Target};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Invalid;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Full events a second that all aggregators together take. What is over it is counted in the ledger as
    /// `rate_limited`, and not kept. Zero: no limit, and the rest of this table says nothing.
    pub events_per_second: u32,
    /// What the aggregators share the limits by.
    pub redis: Redis,
    /// Aggregators that there may be. While Redis does not answer, each takes at most such a part of the limits.
    pub replicas: u32,
    /// Label of containers that names their tenant. Empty: their Kubernetes namespace does.
    pub tenant_label: String,
    /// By name of the tracer.
    pub tracers: BTreeMap<String, Limit>,
    /// By name of the tenant: within each tracer.
    pub tenants: BTreeMap<String, Limit>,
}

/// What the aggregators share the limits by.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Redis {
    /// Such as `rediss://redis-1:6379`, which is with TLS, or on loopback `redis://127.0.0.1:6379` or
    /// `unix:///run/redis.sock`. Empty: each aggregator has all of the limits for itself.
    pub url: String,
    /// What the names of all keys begin with.
    pub prefix: String,
    /// Name of the user. Empty: the default one.
    pub user: String,
    /// File with the user's password. Read again with each connection, as are those that follow.
    pub password_file: PathBuf,
    /// Certificates of the authorities that sign the server's certificate, PEM. Empty: those of the system.
    pub ca_file: PathBuf,
    /// The aggregator's own certificate, PEM. Empty: none.
    pub certificate_file: PathBuf,
    /// The key of that certificate, PEM.
    pub key_file: PathBuf,
}

/// Of the tracer, or of the tenant within each tracer, with this name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limit {
    /// Of what is shared, against others that want more than there is.
    pub weight: f64,
    /// Full events a second, also while others leave some. Zero: no limit of its own.
    pub events_per_second: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            events_per_second: 0,
            redis: Redis::default(),
            replicas: 1,
            tenant_label: String::new(),
            tracers: BTreeMap::new(),
            tenants: BTreeMap::new(),
        }
    }
}

impl Default for Redis {
    fn default() -> Self {
        Self {
            url: String::new(),
            prefix: "galen".into(),
            user: String::new(),
            password_file: PathBuf::new(),
            ca_file: PathBuf::new(),
            certificate_file: PathBuf::new(),
            key_file: PathBuf::new(),
        }
    }
}

impl Default for Limit {
    fn default() -> Self {
        Self { weight: 1.0, events_per_second: 0 }
    }
}

/// Limits that are set.
#[derive(Debug, Clone)]
pub struct LimitSettings {
    pub table: Table,
    pub redis: Option<Target>,
    /// Of the keys in Redis.
    pub prefix: String,
    pub tenant_label: Option<String>,
}

impl LimitSettings {
    /// Nothing, if there is no limit.
    pub(super) fn new(config: Limits) -> Result<Option<Self>, Invalid> {
        if config.events_per_second == 0 {
            return Ok(None);
        }
        let given = |text: String| Some(text).filter(|text| !text.is_empty());
        let limits = |limits: BTreeMap<String, Limit>| limits.into_iter().map(|(name, limit)| (name, limit.into()));
        let table = Table {
            tracers: limits(config.tracers).collect(),
            tenants: limits(config.tenants).collect(),
            ..Table::new(config.events_per_second.into(), config.replicas)
        };
        let prefix = config.redis.prefix.clone();
        Ok(Some(Self {
            table: table.check()?,
            redis: target(config.redis)?,
            prefix,
            tenant_label: given(config.tenant_label),
        }))
    }
}

/// Nothing, if no server is named.
fn target(config: Redis) -> Result<Option<Target>, Invalid> {
    if config.url.is_empty() {
        return Ok(None);
    }
    let require = |met: bool, key, must| if met { Ok(()) } else { Err(Invalid::Range { key, must }) };
    let file = |path: PathBuf| Some(path).filter(|path| !path.as_os_str().is_empty());
    let (user, password_file) = (Some(config.user).filter(|user| !user.is_empty()), file(config.password_file));
    require(
        user.is_none() || password_file.is_some(),
        "limits.redis.password_file",
        "be set together with limits.redis.user",
    )?;
    let (certificate_file, key_file) = (file(config.certificate_file), file(config.key_file));
    require(
        certificate_file.is_some() == key_file.is_some(),
        "limits.redis.key_file",
        "be set together with limits.redis.certificate_file",
    )?;
    let certificate_files = certificate_file.zip(key_file);
    let target = Target { url: config.url, user, password_file, ca_file: file(config.ca_file), certificate_files };
    target.check()?;
    Ok(Some(target))
}

impl From<Limit> for galen_limits::Limit {
    fn from(limit: Limit) -> Self {
        let cap = if limit.events_per_second == 0 { f64::INFINITY } else { limit.events_per_second.into() };
        Self { weight: limit.weight, cap }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<Option<LimitSettings>, String> {
        let config = serde_json::from_str(text).unwrap();
        LimitSettings::new(config).map_err(|error| galen_runtime::Chain(&error).to_string())
    }

    #[test]
    fn there_is_no_limit_unless_one_is_set() {
        assert!(of("{}").unwrap().is_none());
        let settings = of(r#"{"events_per_second": 100, "tracers": {"oom": {"weight": 4, "events_per_second": 10}}}"#);
        let settings = settings.unwrap().unwrap();
        assert_eq!((settings.table.capacity, settings.table.replicas, settings.redis), (100.0, 1, None));
        assert_eq!(settings.table.tracers["oom"], galen_limits::Limit { weight: 4.0, cap: 10.0 });
    }

    #[test]
    fn limits_that_make_no_sense_are_refused() {
        for (text, why) in [
            (r#"{"events_per_second": 1, "replicas": 0}"#, "replicas"),
            (r#"{"events_per_second": 1, "tenants": {"prod": {"weight": 0}}}"#, "`prod`"),
            (r#"{"events_per_second": 1, "redis": {"url": "redis://10.0.0.1"}}"#, "loopback"),
            (r#"{"events_per_second": 1, "redis": {"url": "rediss://10.0.0.1", "user": "a"}}"#, "password_file"),
            (r#"{"events_per_second": 1, "redis": {"url": "rediss://10.0.0.1", "key_file": "a"}}"#, "certificate_file"),
        ] {
            let error = of(text).unwrap_err();
            assert!(error.contains("limits") && error.contains(why), "{error}");
        }
    }
}
