//! From when until when a certificate holds.

use std::{
    fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio_rustls::rustls::pki_types::{CertificateDer, UnixTime};
use webpki::{EndEntityCert, Error, KeyUsage};

/// Both ends included, in seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    pub not_before: i64,
    pub not_after: i64,
}

impl Validity {
    /// `None` if it is no certificate.
    pub(super) fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let certificate = EndEntityCert::try_from(certificate).ok()?;
        // The verifier looks at the time before it looks at anything else, and says what is wrong with it.
        let at = |seconds| {
            let time = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
            certificate.verify_for_usage(&[], &[], &[], time, KeyUsage::client_auth(), None, None).err()
        };
        let seconds = |time: UnixTime| i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
        let not_before = match at(0)? {
            Error::CertNotValidYet { not_before, .. } => seconds(not_before),
            _ => 0,
        };
        match at(u64::MAX)? {
            Error::CertExpired { not_after, .. } => Some(Self { not_before, not_after: seconds(not_after) }),
            _ => None,
        }
    }

    pub(super) fn holds(self, at: SystemTime) -> bool {
        let seconds = at.duration_since(UNIX_EPOCH).as_ref().map_or(0, Duration::as_secs);
        (self.not_before..=self.not_after).contains(&i64::try_from(seconds).unwrap_or(i64::MAX))
    }
}

impl fmt::Display for Validity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let moment = |seconds: i64| {
            let since = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
            humantime::format_rfc3339_seconds(UNIX_EPOCH + since).to_string()
        };
        write!(f, "from {} to {}", moment(self.not_before), moment(self.not_after))
    }
}
