//! TLS between the parts of a fleet: what both programs and the command make of certificate files.
//!
//! - [`Files`] names the files and the settings that name them; [`Material`] is what they held, checked.
//! - [`server`] and [`client`] make configurations of it: TLS 1.3 only, nothing kept of a session that has ended, so that
//!   each connection proves anew who is there, and none costs memory for a resumption that is not made.
//! - [`Reloaded`] reads the files again while the process runs. Handshakes take what is newest, connections keep what
//!   they began with; files that are wrong are refused as a whole.
//! - [`Identity`] is who a certificate says its bearer is; [`Revoked`] knows whether a connection's still stands.

mod config;
mod dial;
mod error;
mod files;
mod identity;
mod reload;
mod standing;
mod validity;

pub use config::{Clients, client, server, uncertified_client};
pub use dial::{Dialler, Stream};
pub use error::Error;
pub use files::{File, Files, Material};
pub use identity::{Identity, is_trust_domain};
pub use reload::Reloaded;
pub use standing::{Lapsed, Revoked};
pub use validity::Validity;

/// What is spoken within TLS, as it is agreed on in the handshake.
pub const HTTP_2: &[u8] = b"h2";
pub const HTTP_1_1: &[u8] = b"http/1.1";

#[cfg(test)]
mod tests;
