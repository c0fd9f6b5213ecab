//! TLS to the aggregators: settings, and what is dialled with, read again when the files change.
//!
//! The next dial takes the new certificate; a stream that runs goes on with the one it began with.

use std::{path::PathBuf, sync::Arc};

use galen_runtime::tls::{self, Dialler, Error, Files, Reloaded};
use prometheus::{
    IntCounter, IntGauge,
    core::{Collector, Desc},
    proto::MetricFamily,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::Invalid;

#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// This node's certificate, and those between it and the authority; PEM, as all of these files. It names the node as
    /// `spiffe://galen/node/<name>`, with the aggregators' trust domain for `galen`.
    pub certificate_file: PathBuf,
    /// The key of that certificate.
    pub key_file: PathBuf,
    /// Certificates of the authorities that sign those of the aggregators.
    pub ca_file: PathBuf,
    /// Lists of the certificates that the authorities took back.
    pub crl_files: Vec<PathBuf>,
    /// The name that the aggregators' certificates are for. Empty: the host of the address that is dialled.
    pub server_name: String,
}

/// Settings that were checked.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    files: Files,
    server_name: String,
}

/// The newest.
pub(crate) type Newest = Arc<Reloaded<Dialler>>;

/// Figures of the certificate.
pub(crate) struct Figures {
    /// `None`: they are only described.
    newest: Option<Newest>,
    expiry: IntGauge,
    errors: IntCounter,
}

impl Config {
    /// Nothing, if no file is named.
    pub(crate) fn check(self) -> Result<Option<Settings>, Invalid> {
        let files = Files::named(self.certificate_file, self.key_file, self.ca_file, self.crl_files)
            .map_err(|key| Invalid::TlsFile { key })?;
        Ok(files.map(|files| Settings { files, server_name: self.server_name }))
    }
}

impl Settings {
    pub(crate) fn load(self) -> Result<Newest, Error> {
        let Self { files, server_name } = self;
        let newest = Reloaded::load(files, move |material| {
            let name = Some(server_name.as_str()).filter(|name| !name.is_empty());
            Dialler::new(tls::client(material, tls::HTTP_2)?, name)
        })?;
        Ok(Arc::new(newest))
    }
}

impl Figures {
    pub(crate) fn of(newest: Option<Newest>) -> Result<Self, prometheus::Error> {
        Ok(Self {
            newest,
            expiry: IntGauge::new(
                "galen_agent_tls_certificate_expiry_timestamp_seconds",
                "Seconds since 1970 at which the node's certificate ends.",
            )?,
            errors: IntCounter::new(
                "galen_agent_tls_reload_errors_total",
                "Looks at the certificate files that found something which cannot be used; what was before holds on.",
            )?,
        })
    }
}

impl Collector for Figures {
    fn desc(&self) -> Vec<&Desc> {
        [self.expiry.desc(), self.errors.desc()].concat()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        if let Some(newest) = &self.newest {
            self.expiry.set(newest.expiry());
            self.errors.inc_by(newest.errors().saturating_sub(self.errors.get()));
        }
        [self.expiry.collect(), self.errors.collect()].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tls_is_all_of_its_files_or_none() {
        assert!(Config::default().check().unwrap().is_none());
        let error = Config { key_file: "node.key".into(), ..Config::default() }.check().unwrap_err().to_string();
        assert!(error.contains("tls.certificate_file"), "{error}");
        let error = Config { crl_files: vec!["crl.pem".into()], ..Config::default() }.check().unwrap_err().to_string();
        assert!(error.contains("tls.certificate_file"), "{error}");
    }
}
