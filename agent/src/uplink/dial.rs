//! A connection to an aggregator, in plaintext or with TLS, as its address says.

use std::time::Duration;

use galen_runtime::endpoint::{Endpoint, Security};
use hyper_util::rt::TokioIo;
use tonic::{
    codegen::http::Uri,
    transport::{self, Channel},
};
use tower::service_fn;

use crate::tls::Newest;

/// With TLS, the handshake is in it.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// TCP and HTTP/2 probes find a peer that has vanished, also while nothing is sent.
const KEEPALIVE: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// What the aggregator may send before the agent reads it: acknowledgements are small.
const WINDOW: u32 = 64 << 10;

/// With what `tls` holds now, which the settings have if an address asks for it.
pub(super) async fn dial(endpoint: &Endpoint, tls: Option<&Newest>) -> Result<Channel, transport::Error> {
    let connection = transport::Endpoint::new(endpoint.to_string())?
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_keepalive(Some(KEEPALIVE))
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW);
    match tls.filter(|_| endpoint.security() == Security::Tls) {
        None => connection.connect().await,
        Some(newest) => {
            let (dialler, authority) = (newest.current(), endpoint.authority().to_owned());
            let connect = service_fn(move |_: Uri| {
                let (dialler, authority) = (dialler.clone(), authority.clone());
                async move { dialler.dial(&authority).await.map(TokioIo::new) }
            });
            connection.connect_with_connector(connect).await
        }
    }
}
