//! Why certificate files cannot be used: always with the setting and the file.

use std::{io, path::PathBuf};

use tokio_rustls::rustls::{self, pki_types::pem};

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error("`{setting}`: failed to read `{}`", path.display())]
    Read {
        setting: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("`{setting}`: `{}` is larger than {limit} bytes", path.display())]
    TooLarge { setting: &'static str, path: PathBuf, limit: u64 },
    #[error("`{setting}`: `{}` cannot be read as {what} in PEM", path.display())]
    Pem {
        setting: &'static str,
        path: PathBuf,
        what: &'static str,
        #[source]
        source: pem::Error,
    },
    #[error("`{setting}`: `{}` holds no {what} in PEM", path.display())]
    Empty { setting: &'static str, path: PathBuf, what: &'static str },
    #[error("`{setting}`: a certificate in `{}` is malformed", path.display())]
    Malformed { setting: &'static str, path: PathBuf },
    #[error("`{setting}`: a list of revoked certificates in `{}` cannot be used", path.display())]
    RevocationList {
        setting: &'static str,
        path: PathBuf,
        #[source]
        source: webpki::Error,
    },
    #[error("`{setting}`: what `{}` holds cannot be used", path.display())]
    Unusable {
        setting: &'static str,
        path: PathBuf,
        #[source]
        source: rustls::Error,
    },
    #[error("`{setting}`: what `{}` holds cannot be used", path.display())]
    Verifier {
        setting: &'static str,
        path: PathBuf,
        #[source]
        source: rustls::server::VerifierBuilderError,
    },
    #[error("`{setting}`: the certificate in `{}` is not valid now, but {validity}", path.display())]
    NotValidNow { setting: &'static str, path: PathBuf, validity: super::Validity },
    #[error("`{0}` is not the name of a server")]
    ServerName(String),
}
