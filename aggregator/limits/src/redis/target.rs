//! Where Redis is, and what it takes to be let in.
//!
//! Files are read whenever a connection is made, so a password or a certificate is replaced without a restart: what is
//! connected stays so until Redis ends it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use redis::{Client, ClientTlsConfig, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, TlsCertificates};
use rustls::crypto::{CryptoProvider, aws_lc_rs};

use super::Error;

/// All files but the password's are PEM.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Target {
    /// Such as `rediss://redis-1:6379`, or `redis://127.0.0.1:6379`, or `unix:///run/redis.sock`.
    pub url: String,
    /// The default one, if there is none.
    pub user: Option<String>,
    pub password_file: Option<PathBuf>,
    /// Authorities that sign the server's certificate; the system's if there is none.
    pub ca_file: Option<PathBuf>,
    /// Our own certificate, and its key.
    pub certificate_files: Option<(PathBuf, PathBuf)>,
}

impl Target {
    /// Without a password, and with what the system trusts.
    pub fn at(url: impl Into<String>) -> Self {
        Self { url: url.into(), ..Self::default() }
    }

    /// Looks at no file.
    ///
    /// # Errors
    /// The address cannot be used, or not with the rest.
    pub fn check(&self) -> Result<(), Error> {
        self.address().map(drop)
    }

    /// # Errors
    /// As of [`Target::check`], or a file that cannot be read or is not what it should be.
    pub(super) fn client(&self) -> Result<Client, Error> {
        let address = self.address()?;
        let mut login = address.redis_settings().clone();
        if let Some(user) = &self.user {
            login = login.set_username(user);
        }
        if let Some(path) = &self.password_file {
            let password = read(path)?;
            login = login.set_password(String::from_utf8_lossy(&password).trim_end_matches(['\r', '\n']));
        }
        let address = address.set_redis_settings(login);
        if !is_tls(&address) {
            return Client::open(address).map_err(Error::Certificates);
        }
        if CryptoProvider::get_default().is_none() {
            // The client takes that of the process. Somebody else was faster: as good.
            let _ = aws_lc_rs::default_provider().install_default();
        }
        let own = |(certificate, key): &(PathBuf, PathBuf)| {
            Ok::<_, Error>(ClientTlsConfig { client_cert: read(certificate)?, client_key: read(key)? })
        };
        let client_tls = self.certificate_files.as_ref().map(own).transpose()?;
        let root_cert = self.ca_file.as_deref().map(read).transpose()?;
        Client::build_with_tls(address, TlsCertificates { client_tls, root_cert }).map_err(Error::Certificates)
    }

    fn address(&self) -> Result<ConnectionInfo, Error> {
        // A password that stands there against all advice is not shown.
        let shown = || self.url.rsplit('@').next().unwrap_or_default().to_owned();
        let address = self.url.as_str().into_connection_info().map_err(|source| Error::Url { url: shown(), source })?;
        let login = address.redis_settings();
        if login.username().is_some() || login.password().is_some() {
            return Err(Error::Login { url: shown() });
        }
        match address.addr() {
            ConnectionAddr::Tcp(host, _) if !is_here(host) => Err(Error::Exposed { url: shown() }),
            ConnectionAddr::TcpTls { insecure: true, .. } => Err(Error::Unchecked { url: shown() }),
            _ if !is_tls(&address) && (self.ca_file.is_some() || self.certificate_files.is_some()) => {
                Err(Error::InClear { url: shown() })
            }
            _ => Ok(address),
        }
    }
}

fn is_tls(address: &ConnectionInfo) -> bool {
    matches!(address.addr(), ConnectionAddr::TcpTls { .. })
}

fn is_here(host: &str) -> bool {
    host == "localhost" || host.parse().is_ok_and(galen_runtime::endpoint::is_loopback)
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    fs::read(path).map_err(|source| Error::Read { path: path.to_owned(), source })
}
