//! Why a handshake failed, in few words for metrics and in full for the log.

use std::{fmt, io};

use tokio_rustls::rustls::{CertificateError, Error};

/// Of one handshake.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It was not done in time.
    Timeout,
    /// It took long, and others wait for its place.
    CrowdedOut,
    /// There are as many without a certificate as may be.
    Strangers,
    Error(io::Error),
}

impl Failure {
    /// Whether a certificate was looked at, or one is missed; else nothing is known of who came.
    pub(crate) fn is_of_a_certificate(&self) -> bool {
        !matches!(self.reason(), "timeout" | "crowded_out" | "strangers" | "gone" | "not_tls")
    }

    pub(crate) fn reason(&self) -> &'static str {
        let error = match self {
            Self::Timeout => return "timeout",
            Self::CrowdedOut => return "crowded_out",
            Self::Strangers => return "strangers",
            Self::Error(error) => error.get_ref().and_then(|error| error.downcast_ref::<Error>()),
        };
        match error {
            // The connection ended.
            None => "gone",
            Some(Error::NoCertificatesPresented) => "no_certificate",
            Some(Error::InvalidCertificate(error)) => match error {
                CertificateError::Expired | CertificateError::ExpiredContext { .. } => "expired",
                CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => "not_yet_valid",
                CertificateError::Revoked => "revoked",
                CertificateError::UnknownIssuer => "unknown_authority",
                _ => "bad_certificate",
            },
            Some(Error::InvalidMessage(_)) => "not_tls",
            // The other side does not believe this aggregator's certificate, most often.
            Some(Error::AlertReceived(_)) => "turned_away",
            Some(_) => "other",
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout => f.write_str("it was not done in time"),
            Self::Strangers => f.write_str("too many are here without a certificate"),
            Self::CrowdedOut => f.write_str("it took long, and others waited"),
            Self::Error(error) => error.fmt(f),
        }
    }
}
