//! TLS of both listeners: settings, what their handshakes begin with, and why handshakes fail.
//!
//! One certificate serves both. Agents have to show one of their own, and so has whoever asks by gRPC, as long as there are
//! no tokens to ask with. Others may leave it out, and say who they are in each request; of them there are few at a time,
//! so that they are in nobody's way. A connection ends with the
//! certificate that it began with: each is looked at now and then, which costs nothing a message.

mod failure;
mod handshakes;

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use galen_runtime::{
    OnEnd, Supervisor,
    tls::{self, Clients, Files, Identity, Lapsed, Reloaded, Revoked},
};
use prometheus::IntCounterVec;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError};
use tokio_rustls::rustls::{ServerConfig, ServerConnection, pki_types::CertificateDer};

use crate::{
    caller::Caller,
    config::Invalid,
    metrics::{Family, Registry},
};

pub(crate) use failure::Failure;
pub(crate) use handshakes::{Handshakes, Place};

/// Connections without a certificate, at each listener.
const STRANGERS: usize = 128;
/// Most bytes of records that wait for a client to take them: beyond it the client is waited for.
const UNTAKEN: usize = 16 << 10;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The aggregator's certificate, and those between it and the authority; PEM, as all of these files. Empty: no TLS,
    /// and both listeners are for loopback only.
    pub certificate_file: PathBuf,
    /// The key of that certificate.
    pub key_file: PathBuf,
    /// Certificates of the authorities that sign those of agents and users.
    pub ca_file: PathBuf,
    /// Lists of the certificates that the authorities took back.
    pub crl_files: Vec<PathBuf>,
    /// Trust domain of agents and users: what their names, such as `spiffe://galen/node/web-1`, begin with.
    pub trust_domain: String,
}

/// Settings that were checked.
#[derive(Debug, Clone)]
pub struct Settings {
    files: Files,
    trust_domain: String,
}

/// What handshakes begin with. Clones are the same.
#[derive(Clone)]
pub struct Tls {
    doors: Arc<Reloaded<Doors>>,
    trust_domain: Arc<str>,
    /// How often a connection's certificate is looked at.
    look_every: Duration,
    counts: Counts,
    /// Places for connections without a certificate, of each listener.
    strangers: [Arc<Semaphore>; 2],
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Listener {
    Grpc,
    Http,
}

#[derive(Clone)]
struct Doors {
    grpc: Arc<ServerConfig>,
    http: Arc<ServerConfig>,
    revoked: Arc<Revoked>,
}

/// Figures of both listeners.
#[derive(Clone)]
pub(crate) struct Counts {
    failed: IntCounterVec,
    lapsed: IntCounterVec,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            certificate_file: PathBuf::new(),
            key_file: PathBuf::new(),
            ca_file: PathBuf::new(),
            crl_files: Vec::new(),
            trust_domain: "galen".into(),
        }
    }
}

impl Config {
    /// Nothing, if no file is named.
    pub(crate) fn check(self) -> Result<Option<Settings>, Invalid> {
        let must = "be set with the other files of `[tls]`";
        let Some(files) = Files::named(self.certificate_file, self.key_file, self.ca_file, self.crl_files)
            .map_err(|key| Invalid::Range { key, must })?
        else {
            return Ok(None);
        };
        if !tls::is_trust_domain(&self.trust_domain) {
            let must = "be of lower case letters, digits, `.`, `-` and `_`";
            return Err(Invalid::Range { key: "tls.trust_domain", must });
        }
        Ok(Some(Settings { files, trust_domain: self.trust_domain }))
    }
}

impl Tls {
    /// Reads the files, and reads them again when they change.
    pub(crate) fn start(
        settings: &crate::Settings,
        registry: &Registry,
        supervisor: &Supervisor,
    ) -> Result<Option<Self>, crate::Error> {
        let counts = Counts::register(registry)?;
        let (clients, look_every) = (at_grpc(settings.access.tokens_file.is_some()), settings.waits.certificate);
        let Some(settings) = settings.tls.clone() else { return Ok(None) };
        let doors = Reloaded::load(settings.files, move |material| {
            Ok(Doors {
                grpc: tls::server(material, clients, tls::HTTP_2)?,
                http: tls::server(material, Clients::Any, tls::HTTP_1_1)?,
                revoked: Arc::new(Revoked::of(material)),
            })
        })?;
        let doors = Arc::new(doors);
        let told = Arc::clone(&doors);
        registry.sampled(move || families(told.expiry(), told.errors()))?;
        watch(supervisor, Arc::clone(&doors));
        let strangers = [STRANGERS; 2].map(|places| Arc::new(Semaphore::new(places)));
        Ok(Some(Self { doors, trust_domain: settings.trust_domain.into(), look_every, counts, strangers }))
    }

    pub(crate) fn grpc(&self) -> Arc<ServerConfig> {
        self.doors.current().grpc
    }

    pub(crate) fn http(&self) -> Arc<ServerConfig> {
        self.doors.current().http
    }

    /// Who is at the other end, once the handshake is done.
    pub(crate) fn caller(&self, connection: &mut ServerConnection) -> Caller {
        connection.set_buffer_limit(Some(UNTAKEN));
        shown(connection).map_or(Caller::Anonymous, |shown| Caller::Certified(Identity::of(shown, &self.trust_domain)))
    }

    /// A place for `caller`, if one is needed, for as long as the connection lasts.
    ///
    /// # Errors
    /// There are as many without a certificate as may be.
    pub(crate) fn stranger(
        &self,
        listener: Listener,
        caller: &Caller,
    ) -> Result<Option<OwnedSemaphorePermit>, TryAcquireError> {
        let places = &self.strangers[listener as usize];
        (*caller == Caller::Anonymous).then(|| Arc::clone(places).try_acquire_owned()).transpose()
    }

    pub(crate) fn failed(&self, peer: Option<SocketAddr>, failure: &Failure) {
        self.counts.failed.with_label_values(&[failure.reason()]).inc();
        let (peer, reason) = (peer.map(tracing::field::display), failure.reason());
        // Whoever comes without a certificate must not fill the log.
        if failure.is_of_a_certificate() {
            tracing::info!(peer, reason, error = %failure, "a handshake failed");
        } else {
            tracing::debug!(peer, reason, error = %failure, "a handshake failed");
        }
    }

    /// Whether the certificate that was shown still stands; one that has to end because of it is counted.
    pub(crate) fn stands(&self, peer: Option<SocketAddr>, certificate: &CertificateDer<'_>) -> bool {
        let Err(lapsed) = self.doors.current().revoked.stands(certificate, SystemTime::now()) else { return true };
        let reason = match lapsed {
            Lapsed::Expired => "expired",
            Lapsed::Revoked => "revoked",
        };
        self.counts.lapsed.with_label_values(&[reason]).inc();
        tracing::info!(peer = peer.map(tracing::field::display), reason, "a connection ends with its certificate");
        false
    }

    /// Ends when the certificate does.
    pub(crate) async fn lapses(&self, peer: Option<SocketAddr>, certificate: Option<CertificateDer<'static>>) {
        let Some(certificate) = certificate else { return std::future::pending().await };
        loop {
            tokio::time::sleep(self.look_every).await;
            if !self.stands(peer, &certificate) {
                return;
            }
        }
    }
}

/// The certificate of the other end, if it showed one.
pub(crate) fn shown(connection: &ServerConnection) -> Option<&CertificateDer<'static>> {
    connection.peer_certificates().and_then(|chain| chain.first())
}

impl Counts {
    pub(crate) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        Ok(Self {
            failed: registry.counters(
                "tls_failed_handshakes_total",
                "Handshakes of both listeners that failed, by reason.",
                "reason",
            )?,
            lapsed: registry.counters(
                "tls_lapsed_connections_total",
                "Connections that were ended because their certificate had ended or was taken back, by reason.",
                "reason",
            )?,
        })
    }
}

/// Figures that there are with TLS.
pub(crate) fn families(expiry: i64, errors: u64) -> Vec<Family> {
    vec![
        Family::gauge(
            "tls_certificate_expiry_timestamp_seconds",
            "Seconds since 1970 at which the aggregator's certificate ends.",
            u64::try_from(expiry).unwrap_or(0),
        ),
        Family::counter(
            "tls_reload_errors_total",
            "Looks at the certificate files that found something which cannot be used; what was before holds on.",
            errors,
        ),
    ]
}

/// Where there are no tokens, whoever has no certificate has nothing to ask with.
fn at_grpc(has_tokens: bool) -> Clients {
    if has_tokens { Clients::Any } else { Clients::Certified }
}

fn watch(supervisor: &Supervisor, doors: Arc<Reloaded<Doors>>) {
    let stop = supervisor.token();
    supervisor.spawn("certificates", OnEnd::Ignore, async move {
        doors.watch(stop).await;
        Ok(())
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tls_is_all_of_its_files_or_none() {
        assert!(Config::default().check().unwrap().is_none());
        let all = Config {
            certificate_file: "aggregator.pem".into(),
            key_file: "aggregator.key".into(),
            ca_file: "ca.pem".into(),
            ..Config::default()
        };
        assert!(all.clone().check().unwrap().is_some());
        for (config, key) in [
            (Config { key_file: PathBuf::new(), ..all.clone() }, "tls.key_file"),
            (Config { ca_file: PathBuf::new(), ..all.clone() }, "tls.ca_file"),
            (Config { crl_files: vec!["crl.pem".into()], ..Config::default() }, "tls.certificate_file"),
            (Config { trust_domain: "Galen/".into(), ..all }, "tls.trust_domain"),
        ] {
            let error = config.check().unwrap_err().to_string();
            assert!(error.contains(key), "{error}");
        }
    }
}
