//! Which addresses may be listened on and dialled.
//!
//! Plaintext is for loopback only, where no other machine can listen in or pretend. Everything else needs TLS: this is
//! decided here, in one place.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    str::FromStr,
};

/// Why an address is not used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error(
        "`{0}` is not a loopback address: plaintext is allowed on loopback only, use 127.0.0.1 or [::1], or TLS (docs/security.md)"
    )]
    PlaintextBeyondLoopback(String),
    #[error("`{url}` is not the address of a server: {why}, write it as https://host:7400, or http://127.0.0.1:7400")]
    NotAnEndpoint { url: String, why: &'static str },
}

/// How a connection is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Security {
    /// Not at all: loopback only.
    Plaintext,
    /// Each side shows a certificate.
    Tls,
}

/// A server that may be dialled, from a URL such as `https://aggregator:7400`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    security: Security,
    authority: String,
}

/// Whether a listener may bind to `address`.
pub fn may_listen(address: &SocketAddr, security: Security) -> Result<(), Error> {
    match security {
        Security::Plaintext if !is_loopback(address.ip()) => Err(Error::PlaintextBeyondLoopback(address.to_string())),
        Security::Plaintext | Security::Tls => Ok(()),
    }
}

/// Whether only this machine reaches it.
pub fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

impl Endpoint {
    pub fn security(&self) -> Security {
        self.security
    }

    /// Host and port.
    pub fn authority(&self) -> &str {
        &self.authority
    }
}

impl FromStr for Endpoint {
    type Err = Error;

    fn from_str(url: &str) -> Result<Self, Error> {
        let wrong = |why| Error::NotAnEndpoint { url: url.to_owned(), why };
        let (scheme, rest) = url.split_once("://").ok_or_else(|| wrong("the scheme is missing"))?;
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        let security = match scheme {
            "http" => Security::Plaintext,
            "https" => Security::Tls,
            _ => return Err(wrong("the scheme is neither https nor http")),
        };
        let (host, port) = authority.rsplit_once(':').ok_or_else(|| wrong("the port is missing"))?;
        if port.parse::<u16>().ok().filter(|port| *port > 0).is_none() {
            return Err(wrong("the port is not a number from 1 to 65535"));
        }
        // `localhost` is loopback by RFC 6761; any other name may resolve to anything, at any time.
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if bare.is_empty() || bare.contains(['/', '@', '?', '#']) {
            return Err(wrong("the host is missing or malformed"));
        }
        let loopback = bare.eq_ignore_ascii_case("localhost") || bare.parse().is_ok_and(is_loopback);
        if security == Security::Plaintext && !loopback {
            return Err(Error::PlaintextBeyondLoopback(url.to_owned()));
        }
        Ok(Self { security, authority: authority.to_owned() })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.security {
            Security::Plaintext => write!(f, "http://{}", self.authority),
            Security::Tls => write!(f, "https://{}", self.authority),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_allowed_in_plaintext() {
        for address in ["127.0.0.1:0", "127.8.9.10:80", "[::1]:7400", "[::ffff:127.0.0.1]:1"] {
            assert_eq!(may_listen(&address.parse().unwrap(), Security::Plaintext), Ok(()), "{address}");
        }
        for url in ["http://127.0.0.1:7400", "http://[::1]:7400/", "http://localhost:1"] {
            assert_eq!(url.parse::<Endpoint>().unwrap().to_string(), url.trim_end_matches('/'));
        }
    }

    #[test]
    fn plaintext_beyond_loopback_is_refused_and_says_what_to_use() {
        for address in ["0.0.0.0:7400", "10.0.0.1:7400", "[::]:7400", "[2001:db8::1]:7400", "[::ffff:10.0.0.1]:1"] {
            let error = may_listen(&address.parse().unwrap(), Security::Plaintext).unwrap_err().to_string();
            assert!(error.contains(address) && error.contains("or TLS"), "{error}");
        }
        for url in ["http://10.0.0.1:7400", "http://example.org:7400", "http://localhost.example.org:7400"] {
            assert_eq!(url.parse::<Endpoint>(), Err(Error::PlaintextBeyondLoopback(url.into())));
        }
    }

    #[test]
    fn with_tls_any_address_will_do() {
        assert_eq!(may_listen(&"0.0.0.0:7400".parse().unwrap(), Security::Tls), Ok(()));
        for url in ["https://10.0.0.1:7400", "https://aggregator.example:7400", "https://[2001:db8::1]:7400"] {
            let endpoint: Endpoint = url.parse().unwrap();
            assert_eq!((endpoint.security(), endpoint.to_string().as_str()), (Security::Tls, url));
        }
    }

    #[test]
    fn what_is_not_a_server_is_refused() {
        for url in [
            "",
            "127.0.0.1:7400",
            "ftp://127.0.0.1:1",
            "http://127.0.0.1",
            "http://127.0.0.1:0",
            "https://127.0.0.1",
            "http://127.0.0.1:99999",
            "http://:80",
            "http://127.0.0.1:80/path",
            "http://a@127.0.0.1:80",
        ] {
            assert!(matches!(url.parse::<Endpoint>(), Err(Error::NotAnEndpoint { .. })), "{url}");
        }
    }
}
