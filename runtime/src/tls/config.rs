//! Configurations of both sides, from what the files held.

use std::sync::Arc;

use tokio_rustls::rustls::{
    self, ClientConfig, ServerConfig,
    client::{Resumption, WebPkiServerVerifier},
    crypto::{CryptoProvider, aws_lc_rs},
    server::{NoServerSessionStorage, VerifierBuilderError, WebPkiClientVerifier},
    version::TLS13,
};

use super::{Error, File, Material};

/// What a server asks of its clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clients {
    /// Who has no certificate is turned away in the handshake.
    Certified,
    /// Who has one shows it, and it must be good.
    Any,
}

/// For a server that speaks `protocol`. What an authority took back is refused; authorities without a list took nothing
/// back.
///
/// # Errors
/// The key is not that of the certificate.
pub fn server(material: &Material, clients: Clients, protocol: &[u8]) -> Result<Arc<ServerConfig>, Error> {
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::clone(&material.authorities), provider())
        .with_crls(material.revoked.iter().cloned())
        .allow_unknown_revocation_status();
    let verifier = match clients {
        Clients::Certified => verifier,
        Clients::Any => verifier.allow_unauthenticated(),
    };
    let verifier = verifier.build().map_err(|source| not_verified(material, source))?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(|source| material.files.certificate.unusable(source))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(material.chain.clone(), material.key.clone_key())
        .map_err(|source| own_certificate(material, source))?;
    config.alpn_protocols = vec![protocol.to_vec()];
    // A session that is resumed is one whose certificate nobody looks at, and remembering it costs memory.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// For a client that speaks `protocol`.
///
/// # Errors
/// As of [`server`].
pub fn client(material: &Material, protocol: &[u8]) -> Result<Arc<ClientConfig>, Error> {
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::clone(&material.authorities), provider())
        .with_crls(material.revoked.iter().cloned())
        .allow_unknown_revocation_status()
        .build()
        .map_err(|source| not_verified(material, source))?;
    let config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(|source| material.files.certificate.unusable(source))?
        .with_webpki_verifier(verifier)
        .with_client_auth_cert(material.chain.clone(), material.key.clone_key())
        .map_err(|source| own_certificate(material, source))?;
    Ok(speaking(protocol, config))
}

/// For a client that speaks `protocol` and shows no certificate: who it is, it says within.
///
/// # Errors
/// There are no authorities in the file.
pub fn uncertified_client(authorities: &File, protocol: &[u8]) -> Result<Arc<ClientConfig>, Error> {
    let config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(|source| authorities.unusable(source))?
        .with_root_certificates(authorities.roots()?)
        .with_no_client_auth();
    Ok(speaking(protocol, config))
}

fn speaking(protocol: &[u8], mut config: ClientConfig) -> Arc<ClientConfig> {
    config.alpn_protocols = vec![protocol.to_vec()];
    config.resumption = Resumption::disabled();
    Arc::new(config)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// What is wrong with the pair lies with the key, most often one that is another's.
fn own_certificate(material: &Material, source: rustls::Error) -> Error {
    material.files.key.unusable(source)
}

fn not_verified(material: &Material, source: VerifierBuilderError) -> Error {
    // The lists of what was taken back were read before.
    let file = &material.files.authorities;
    Error::Verifier { setting: file.setting, path: file.path.clone(), source }
}
