//! A connection of TLS to a server: what the agent and the command dial with.

use std::{io, sync::Arc, time::Duration};

use rustix::net::sockopt::{set_socket_keepalive, set_tcp_keepidle};
use tokio::net::TcpStream;
use tokio_rustls::{
    TlsConnector,
    rustls::{ClientConfig, pki_types::ServerName},
};

use super::Error;

/// Silence after which the kernel asks whether the server is still there.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// What a dialled connection is.
pub type Stream = tokio_rustls::client::TlsStream<TcpStream>;

/// How a server is dialled.
#[derive(Debug, Clone)]
pub struct Dialler {
    config: Arc<ClientConfig>,
    /// What the server's certificate must be for; the host that is dialled, if none.
    server_name: Option<ServerName<'static>>,
}

impl Dialler {
    /// # Errors
    /// `server_name` is none.
    pub fn new(config: Arc<ClientConfig>, server_name: Option<&str>) -> Result<Self, Error> {
        Ok(Self { config, server_name: server_name.map(name).transpose()? })
    }

    /// Dials `authority`, which is host and port, and ends when the handshake does.
    pub async fn dial(self, authority: &str) -> io::Result<Stream> {
        let stream = TcpStream::connect(authority).await?;
        stream.set_nodelay(true)?;
        set_socket_keepalive(&stream, true)?;
        set_tcp_keepidle(&stream, KEEPALIVE)?;
        self.secure(stream, authority).await
    }

    /// Makes the handshake on a connection to `authority`.
    pub async fn secure(self, stream: TcpStream, authority: &str) -> io::Result<Stream> {
        let server_name = match self.server_name {
            Some(name) => name,
            None => {
                let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
                let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
                name(bare).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?
            }
        };
        TlsConnector::from(self.config).connect(server_name, stream).await
    }
}

fn name(text: &str) -> Result<ServerName<'static>, Error> {
    ServerName::try_from(text.to_owned()).map_err(|_| Error::ServerName(text.to_owned()))
}
