//! Who a certificate says its bearer is.
//!
//! The name is a URI among the subject's alternative names, in the form of SPIFFE: `spiffe://<trust domain>/<kind>/<name>`.
//! A certificate has one such name or none that counts: with two its bearer could choose. It is read by what verified the
//! certificate, so that both see the same.

use tokio_rustls::rustls::pki_types::CertificateDer;
use webpki::EndEntityCert;

/// The bearer of a certificate that a believed authority signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// `spiffe://<trust domain>/node/<name>`: the agent of that node.
    Node(String),
    /// `spiffe://<trust domain>/user/<name>`: a person, or a program that asks.
    User(String),
    /// None of these.
    Unnamed,
}

impl Identity {
    pub fn of(certificate: &CertificateDer<'_>, trust_domain: &str) -> Self {
        Self::named(certificate, trust_domain).unwrap_or(Self::Unnamed)
    }

    fn named(certificate: &CertificateDer<'_>, trust_domain: &str) -> Option<Self> {
        let certificate = EndEntityCert::try_from(certificate).ok()?;
        let mut uris = certificate.valid_uri_names();
        let (uri, None) = (uris.next()?, uris.next()) else { return None };
        let path = uri.strip_prefix("spiffe://")?.strip_prefix(trust_domain)?.strip_prefix('/')?;
        let (kind, name) = path.split_once('/')?;
        let is_name = !name.is_empty() && !name.contains(['/', '?', '#', '%']);
        match kind {
            "node" if is_name => Some(Self::Node(name.to_owned())),
            "user" if is_name => Some(Self::User(name.to_owned())),
            _ => None,
        }
    }
}

/// Whether it is what SPIFFE takes for a trust domain.
pub fn is_trust_domain(text: &str) -> bool {
    let allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'_');
    (1..=255).contains(&text.len()) && text.bytes().all(allowed)
}
