//! Makes certificates: an authority, and what it signs for the parts of a fleet. For trials and for tests; a fleet that has
//! an authority of its own needs nothing of this but the form of the names.
//!
//! An aggregator's certificate is for its hosts and serves a server alone. A node's or a user's is for one URI,
//! `spiffe://<trust domain>/<kind>/<name>`, and serves a client alone: a key that is taken from a node lets nobody pass for
//! an aggregator. Keys are ECDSA on P-256.

use std::net::IpAddr;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType, SerialNumber,
};
use time::{Duration, OffsetDateTime};

/// Clocks may be apart by so much.
const BEFOREHAND: Duration = Duration::hours(1);
/// Bytes of a serial number, from the key, which no other has.
const SERIAL: usize = 16;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("`{name}` is no name for a {kind}: letters, digits, `.`, `_` and `-` are allowed, 1 to 253 of them")]
    Name { kind: &'static str, name: String },
    #[error("`{0}` is no name of a host")]
    Host(String),
    #[error("failed to make a certificate")]
    Make(#[from] rcgen::Error),
}

/// From when until when a certificate holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    pub from: OffsetDateTime,
    pub until: OffsetDateTime,
}

/// Whom a certificate is for.
#[derive(Debug, Clone, Copy)]
pub enum Subject<'a> {
    /// Under these names and addresses.
    Aggregator(&'a [String]),
    Node(&'a str),
    User(&'a str),
}

/// What signs certificates.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
    trust_domain: String,
}

/// A certificate with its key, both PEM.
#[derive(Debug, Clone)]
pub struct Issued {
    pub certificate: String,
    pub key: String,
    serial: SerialNumber,
}

impl Validity {
    /// From about now on.
    pub fn days(days: u32) -> Self {
        let now = OffsetDateTime::now_utc();
        Self { from: now - BEFOREHAND, until: now + Duration::days(days.into()) }
    }
}

impl Authority {
    /// # Errors
    /// The trust domain is none.
    pub fn new(trust_domain: &str, validity: Validity) -> Result<Self, Error> {
        if !is_name(trust_domain) {
            return Err(Error::Name { kind: "trust domain", name: trust_domain.to_owned() });
        }
        let key = KeyPair::generate()?;
        let serial = serial(&key);
        // Two authorities of one name would be taken for each other.
        let mark: String = serial.to_bytes().iter().take(4).map(|byte| format!("{byte:02x}")).collect();
        let mut params = params(&format!("Galen authority {mark}"), validity, serial);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key)?.pem();
        Ok(Self { issuer: Issuer::new(params, key), certificate, trust_domain: trust_domain.to_owned() })
    }

    /// PEM.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// PEM.
    pub fn key(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// # Errors
    /// The subject has a name that cannot stand in a certificate.
    pub fn issue(&self, subject: Subject<'_>, validity: Validity) -> Result<Issued, Error> {
        let key = KeyPair::generate()?;
        let serial = serial(&key);
        let (title, names, usage) = match subject {
            Subject::Aggregator(hosts) => {
                let names = hosts.iter().map(|host| host_name(host)).collect::<Result<_, _>>()?;
                ("Galen aggregator", names, ExtendedKeyUsagePurpose::ServerAuth)
            }
            Subject::Node(name) => ("Galen node", self.uri("node", name)?, ExtendedKeyUsagePurpose::ClientAuth),
            Subject::User(name) => ("Galen user", self.uri("user", name)?, ExtendedKeyUsagePurpose::ClientAuth),
        };
        let mut params = params(title, validity, serial.clone());
        params.subject_alt_names = names;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![usage];
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &self.issuer)?.pem();
        Ok(Issued { certificate, key: key.serialize_pem(), serial })
    }

    /// The list of those that are taken back, PEM.
    ///
    /// # Errors
    /// It cannot be signed.
    pub fn revoke(&self, issued: &[&Issued]) -> Result<String, Error> {
        let now = OffsetDateTime::now_utc() - BEFOREHAND;
        let revoked = |issued: &&Issued| RevokedCertParams {
            serial_number: issued.serial.clone(),
            revocation_time: now,
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: now,
            next_update: now + Duration::days(365),
            crl_number: SerialNumber::from(now.unix_timestamp().unsigned_abs()),
            issuing_distribution_point: None,
            revoked_certs: issued.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        Ok(list.signed_by(&self.issuer)?.pem()?)
    }

    fn uri(&self, kind: &'static str, name: &str) -> Result<Vec<SanType>, Error> {
        if !is_name(name) {
            return Err(Error::Name { kind, name: name.to_owned() });
        }
        let uri = format!("spiffe://{}/{kind}/{name}", self.trust_domain);
        Ok(vec![SanType::URI(uri.try_into()?)])
    }
}

fn params(title: &str, validity: Validity, serial: SerialNumber) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, title);
    (params.not_before, params.not_after) = (validity.from, validity.until);
    params.serial_number = Some(serial);
    params
}

fn host_name(host: &str) -> Result<SanType, Error> {
    match host.parse::<IpAddr>() {
        Ok(address) => Ok(SanType::IpAddress(address)),
        Err(_) if is_name(host) => Ok(SanType::DnsName(host.try_into()?)),
        Err(_) => Err(Error::Host(host.to_owned())),
    }
}

fn serial(key: &KeyPair) -> SerialNumber {
    let point = key.public_key_raw();
    // The first byte says how the point is written; the serial's own sign is none.
    let mut serial: Vec<u8> = point.iter().skip(1).take(SERIAL).copied().collect();
    if let Some(first) = serial.first_mut() {
        *first = *first & 0x7f | 0x40;
    }
    SerialNumber::from(serial)
}

/// What needs no escape within a URI.
fn is_name(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (1..=253).contains(&text.len()) && text.bytes().all(allowed)
}
