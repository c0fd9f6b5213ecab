//! Connections: accepted, bounded, served, and ended with the process.
//!
//! Beyond the cap a connection is closed at once and counted. A head has to come in time and within its size; a
//! client that takes nothing of an answer is cut off by the kernel. With TLS a connection has its place from the end of
//! its handshake on; handshakes have places of their own, and their time.

use std::{future::pending, net::SocketAddr, sync::Arc, time::Duration};

use axum::{Router, body::Body, extract::ConnectInfo};
use galen_runtime::{BoxError, OnEnd, Supervisor};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus::IntCounter;
use rustix::net::sockopt::set_tcp_user_timeout;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::{
    caller::Caller,
    metrics::Registry,
    tls::{self, Handshakes, Listener, Place, Tls},
};

/// Largest head, in bytes.
const MAX_HEAD: usize = 16 << 10;
/// Most headers.
const MAX_HEADERS: usize = 64;
/// How long to wait after a failed accept: most likely there are no file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Handshakes at a time.
const HANDSHAKES: usize = 256;

/// What clients may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections at a time.
    pub connections: usize,
    /// Longest time for a request's head, from when the connection is free for one, in which it may also be idle.
    pub head: Duration,
    /// Longest time that a client may leave an answer untaken.
    pub stall: Duration,
    /// Longest time for a handshake, with TLS.
    pub handshake: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 256,
            head: Duration::from_secs(30),
            stall: Duration::from_secs(120),
            handshake: Duration::from_secs(10),
        }
    }
}

/// Figures of the HTTP server.
#[derive(Debug, Clone)]
pub struct Metrics {
    pub requests: IntCounter,
    pub connections_refused: IntCounter,
}

impl Metrics {
    /// # Errors
    /// A name is registered already.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        Ok(Self {
            requests: registry.counter("http_requests_total", "HTTP requests.")?,
            connections_refused: registry
                .counter("http_refused_connections_total", "HTTP connections beyond the limit, closed at once.")?,
        })
    }
}

/// Serves `router` on `listener`, with `tls` if there is to be any, under `supervisor`, until its shutdown.
pub fn serve(
    supervisor: &Supervisor,
    listener: TcpListener,
    tls: Option<Tls>,
    router: Router,
    limits: Limits,
    metrics: Metrics,
) {
    let shutdown = supervisor.token();
    supervisor.spawn("http", OnEnd::Shutdown, async move {
        let places = Arc::new(Semaphore::new(limits.connections));
        let mut handshakes = Handshakes::of(HANDSHAKES);
        let mut connections = JoinSet::new();
        while let Some(accepted) = shutdown.run_until_cancelled(listener.accept()).await {
            while connections.try_join_next().is_some() {}
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "failed to accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let stall = u32::try_from(limits.stall.as_millis()).unwrap_or(u32::MAX);
            let prepared = stream.set_nodelay(true).and_then(|()| Ok(set_tcp_user_timeout(&stream, stall)?));
            if let Err(error) = prepared {
                tracing::debug!(%error, "failed to prepare a connection");
            }
            let served = Served {
                peer,
                places: Arc::clone(&places),
                router: router.clone(),
                limits,
                metrics: metrics.clone(),
                shutdown: shutdown.clone(),
            };
            match &tls {
                None => {
                    connections.spawn(served.serve(stream, Caller::Local, pending()));
                }
                Some(tls) => {
                    let Some(place) = shutdown.run_until_cancelled(handshakes.begin()).await else { break };
                    connections.spawn(served.secured(stream, tls.clone(), place));
                }
            }
        }
        while connections.join_next().await.is_some() {}
        Ok::<(), BoxError>(())
    });
}

/// What a connection is served with.
struct Served {
    peer: SocketAddr,
    places: Arc<Semaphore>,
    router: Router,
    limits: Limits,
    metrics: Metrics,
    shutdown: CancellationToken,
}

impl Served {
    /// From its handshake on.
    async fn secured(self, stream: TcpStream, tls: Tls, place: Place) {
        let peer = Some(self.peer);
        let handshake = place.accept(stream, || tls.http(), self.limits.handshake);
        match self.shutdown.run_until_cancelled(handshake).await {
            None => {}
            Some(Ok(mut stream)) => {
                let caller = tls.caller(stream.get_mut().1);
                let Ok(_place) = tls.stranger(Listener::Http, &caller) else {
                    self.metrics.connections_refused.inc();
                    return;
                };
                let certificate = tls::shown(stream.get_ref().1).cloned();
                self.serve(stream, caller, async move { tls.lapses(peer, certificate).await }).await;
            }
            Some(Err(failure)) => tls.failed(peer, &failure),
        }
    }

    /// Until the other end has had enough, the process ends, or `lapses` does.
    async fn serve(
        self,
        stream: impl AsyncRead + AsyncWrite + Unpin,
        caller: Caller,
        lapses: impl Future<Output = ()>,
    ) {
        let Self { peer, places, router, limits, metrics, shutdown } = self;
        let Ok(_place) = places.try_acquire_owned() else {
            metrics.connections_refused.inc();
            return;
        };
        let service = service_fn(move |mut request: hyper::Request<Incoming>| {
            metrics.requests.inc();
            request.extensions_mut().insert(caller.clone());
            request.extensions_mut().insert(ConnectInfo(peer));
            let router = router.clone();
            // Its error type has no value.
            async move { router.oneshot(request.map(Body::new)).await }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.head)
            .max_buf_size(MAX_HEAD)
            .max_headers(MAX_HEADERS)
            .serve_connection(TokioIo::new(stream), service);
        tokio::pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = lapses => return,
            () = shutdown.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "a connection ended");
        }
    }
}

#[cfg(test)]
mod tests;
