//! Whether a certificate that a handshake believed is still to be believed: for connections that last.
//!
//! A handshake looks at everything; what can change after it is the time, and what the authorities took back. So this
//! looks at these alone, and without a signature: the lists are those that handshakes hold to.

use std::time::SystemTime;

use tokio_rustls::rustls::pki_types::CertificateDer;
use webpki::{CertRevocationList, EndEntityCert};

use super::{Material, Validity};

/// What the authorities took back.
pub struct Revoked(Vec<CertRevocationList<'static>>);

/// Why a certificate is not believed any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lapsed {
    Expired,
    Revoked,
}

impl Revoked {
    pub fn of(material: &Material) -> Self {
        Self(material.lists.iter().cloned().map(CertRevocationList::from).collect())
    }

    /// # Errors
    /// It has ended, or was taken back.
    pub fn stands(&self, certificate: &CertificateDer<'_>, at: SystemTime) -> Result<(), Lapsed> {
        if Validity::of(certificate).is_none_or(|validity| !validity.holds(at)) {
            return Err(Lapsed::Expired);
        }
        let Ok(certificate) = EndEntityCert::try_from(certificate) else { return Err(Lapsed::Expired) };
        let of_issuer = self.0.iter().filter(|list| list.issuer() == certificate.issuer());
        // What is found of a list whose entries cannot be read is as good as an entry.
        let taken_back = |list: &CertRevocationList<'_>| !matches!(list.find_serial(certificate.serial()), Ok(None));
        if of_issuer.into_iter().any(taken_back) { Err(Lapsed::Revoked) } else { Ok(()) }
    }
}
