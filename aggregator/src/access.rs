//! Who may ask what: the gate that every request of both doors goes through, before anything of it but its head is read.
//!
//! - [`CALLS`]: each call and what it needs.
//! - Who asks is known by a token in the header `authorization`, or by the certificate of a user. A token that is shown
//!   decides alone, and one that is wrong is not made good by a certificate. As long as neither tokens nor certificates are
//!   configured, both doors are on loopback only and whoever is there may do all.
//! - An address whose requests are refused too often is not listened to for the rest of the minute. Whoever has a
//!   certificate is, and so are agents, and who asks for health.

mod attempts;
mod credentials;
mod metrics;
mod refusal;
mod table;
mod tokens;
mod user;

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    sync::Arc,
};

use axum::extract::Request;
use galen_runtime::{Supervisor, access::Role, tls::Identity};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use attempts::Attempts;
use tokens::Tokens;

pub(crate) use metrics::Metrics;
pub(crate) use refusal::Refusal;
pub use table::{CALLS, Call, Need};
pub use tokens::Error;
pub use user::{By, User};

use crate::{caller::Caller, config::Invalid};

/// Refused requests of an address in a minute, after which it waits.
const REFUSED_A_MINUTE: u32 = 60;
/// Certified users that settings may name.
const MAX_USERS: usize = 1000;

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// File of the tokens: a name, a role and a SHA-256 a line, as `galen token create` prints them. It is read again when
    /// it changes, and on SIGHUP. Empty: there are no tokens.
    pub tokens_file: PathBuf,
    /// Roles of users with certificates, by name: `read`, `operate` or `admin`. Others may read.
    pub users: BTreeMap<String, Role>,
    /// Whether `/metrics` and `/metrics/nodes` are for everybody.
    pub open_metrics: bool,
}

/// Settings that were checked.
#[derive(Debug, Clone)]
pub struct Settings {
    pub tokens_file: Option<PathBuf>,
    pub users: BTreeMap<String, Role>,
    pub open_metrics: bool,
    /// Only tests change it.
    pub refused_a_minute: u32,
}

/// The gate. Clones are the same.
#[derive(Clone)]
pub struct Access(Arc<Gate>);

struct Gate {
    /// Whether anybody has to say who they are.
    asks: bool,
    tokens: Option<Arc<Tokens>>,
    users: BTreeMap<String, Role>,
    open_metrics: bool,
    attempts: Attempts,
    metrics: Metrics,
}

impl Config {
    pub(crate) fn check(self, is_certified: bool) -> Result<Settings, Invalid> {
        let Self { tokens_file, users, open_metrics } = self;
        let tokens_file = Some(tokens_file).filter(|path| !path.as_os_str().is_empty());
        let require = |met: bool, key, must| if met { Ok(()) } else { Err(Invalid::Range { key, must }) };
        require(
            users.is_empty() || is_certified,
            "access.users",
            "be empty without `[tls]`: they are known by certificates",
        )?;
        require(users.len() <= MAX_USERS, "access.users", "name at most 1000 users")?;
        Ok(Settings { tokens_file, users, open_metrics, refused_a_minute: REFUSED_A_MINUTE })
    }
}

impl Access {
    /// Reads the tokens, and reads them again when they change.
    pub(crate) fn start(
        settings: &crate::Settings,
        metrics: Metrics,
        supervisor: &Supervisor,
    ) -> Result<Self, crate::Error> {
        let Settings { tokens_file, users, open_metrics, refused_a_minute } = settings.access.clone();
        let tokens = tokens_file.map(|path| Tokens::load(path, metrics.reload_errors.clone())).transpose()?;
        let tokens = tokens.map(Arc::new);
        if let Some(tokens) = &tokens {
            tokens.watch(supervisor);
        }
        let attempts = Attempts::new(refused_a_minute, metrics.untracked.clone());
        let asks = tokens.is_some() || settings.tls.is_some();
        Ok(Self(Arc::new(Gate { asks, tokens, users, open_metrics, attempts, metrics })))
    }

    /// Whether `request`, which is for `path` of the table, may go on; and from whom it is, where that matters.
    pub(crate) fn admit(
        &self,
        caller: &Caller,
        address: Option<IpAddr>,
        path: &str,
        request: &Request,
    ) -> Result<Option<User>, Refusal> {
        let address = address.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let decided = self.0.decide(caller, address, path, request);
        decided.inspect_err(|refusal| self.0.told(refusal, address, path))
    }
}

impl Gate {
    /// Who it is, where a user is needed.
    fn decide(&self, caller: &Caller, address: IpAddr, path: &str, request: &Request) -> Result<Option<User>, Refusal> {
        let takes = match table::need(request.method().as_str(), path).ok_or(Refusal::Unknown)? {
            Need::Nothing => return Ok(None),
            Need::Metrics if self.open_metrics => return Ok(None),
            Need::Metrics => Role::Read,
            Need::Role(role) => role,
            Need::Node => {
                return match caller {
                    Caller::Local | Caller::Certified(Identity::Node(_)) => Ok(None),
                    Caller::Certified(_) => Err(Refusal::NotANode),
                    Caller::Anonymous => Err(Refusal::NoCredentials),
                };
            }
        };
        let user = self.user(caller, address, request)?;
        if user.role < takes {
            return Err(Refusal::TooLow { name: user.name, has: user.role, takes });
        }
        Ok(Some(user))
    }

    fn user(&self, caller: &Caller, address: IpAddr, request: &Request) -> Result<User, Refusal> {
        if !self.asks {
            return Ok(User::local());
        }
        if !matches!(caller, Caller::Certified(_)) {
            self.attempts.check(address).map_err(Refusal::TooMany)?;
        }
        let token = credentials::token(request.headers(), request.uri().query())?;
        match (caller, token) {
            // Whatever is found on a node is good for nothing but its stream.
            (Caller::Certified(Identity::Node(_)), _) => Err(Refusal::NotAUser),
            (_, Some(token)) => {
                self.tokens.as_ref().and_then(|tokens| tokens.user(&token)).ok_or(Refusal::UnknownToken)
            }
            (Caller::Certified(Identity::User(name)), None) => {
                let role = self.users.get(name).copied().unwrap_or(Role::Read);
                Ok(User { name: name.clone(), role, by: By::Certificate })
            }
            (Caller::Certified(Identity::Unnamed), None) => Err(Refusal::NotAUser),
            (Caller::Local | Caller::Anonymous, None) => Err(Refusal::NoCredentials),
        }
    }

    fn told(&self, refusal: &Refusal, address: IpAddr, path: &str) {
        let Some(reason) = refusal.reason() else { return };
        self.metrics.refused.with_label_values(&[reason]).inc();
        if self.attempts.refused(address) {
            tracing::info!(%address, path, reason, "refused a request: {refusal}");
        }
    }
}

#[cfg(test)]
mod tests;
