//! Accepts connections, and not more than are allowed: those beyond are closed, and counted, unless another ends in a
//! moment. So are those that hold a place without using it ([`calls`]). With TLS a connection begins with a handshake
//! ([`transport`]), of which there are not too many at a time either, and ends with its certificate.

mod calls;
mod prefix;
mod transport;

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use prometheus::{IntCounter, IntCounterVec};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpSocket},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, Sleep, sleep_until, timeout_at},
};
use tokio_stream::Stream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::Connected;

use transport::Transport;

use crate::tls::{Handshakes, Tls};

pub use calls::Waits;
pub(crate) use calls::{Peer, track};

/// Connections that may wait to be accepted: all agents may come at once. The kernel has a bound of its own.
const BACKLOG: u32 = 16 << 10;
/// Handshakes at a time, besides the connections that are allowed.
const HANDSHAKES: usize = 1024;
/// How long connections wait for another to end, once there are as many as may be.
const FOR_A_PLACE: Duration = Duration::from_millis(200);
/// Before another connection is accepted.
const AFTER_ERROR: Duration = Duration::from_millis(100);

/// A connection, which holds its place among those that are allowed.
pub(crate) struct Connection {
    stream: Transport,
    peer: Peer,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    /// When to look whether it has a call, and whether its certificate stands.
    look: Pin<Box<Sleep>>,
    idle: Duration,
    certificate: Duration,
    /// Whether it ever sent anything.
    heard: bool,
    unused: IntCounterVec,
    _place: OwnedSemaphorePermit,
}

/// Figures of the connections.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    /// Beyond the limit.
    pub(crate) refused: IntCounter,
    /// Closed for want of a call, by what came before.
    pub(crate) unused: IntCounterVec,
}

/// The connections to `listener`, at most `limit` at a time, with `tls` if there is to be any. One without a call for too
/// long is closed. All of them end when `cut` is cancelled.
pub(crate) fn connections(
    listener: TcpListener,
    limit: usize,
    waits: Waits,
    tls: Option<Tls>,
    metrics: Metrics,
    cut: CancellationToken,
) -> impl Stream<Item = io::Result<Box<Connection>>> {
    let limit = limit + if tls.is_some() { HANDSHAKES } else { 0 };
    let places = Arc::new(Semaphore::new(limit.min(Semaphore::MAX_PERMITS)));
    async_stream::stream! {
        let mut full_since = None;
        let mut handshakes = Handshakes::of(HANDSHAKES);
        loop {
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                // Of one connection, or too many open files: that lasts, so do not spin.
                Err(error) => {
                    tracing::warn!(%error, "failed to accept a connection");
                    tokio::time::sleep(AFTER_ERROR).await;
                    continue;
                }
            };
            // When all agents come back at once, the ends of their former connections come with them.
            if places.available_permits() > 0 {
                full_since = None;
            }
            let until = *full_since.get_or_insert_with(Instant::now) + FOR_A_PLACE;
            match timeout_at(until, Arc::clone(&places).acquire_owned()).await {
                Ok(Ok(place)) => {
                    full_since = None;
                    if let Err(error) = stream.set_nodelay(true) {
                        tracing::debug!(%error, "failed to set TCP_NODELAY");
                    }
                    let cut = cut.child_token();
                    let peer = Peer::new(cut.clone(), stream.connect_info());
                    let stream = match &tls {
                        None => Transport::Plain(stream),
                        Some(tls) => {
                            let place = handshakes.begin().await;
                            Transport::handshake(stream, tls.clone(), peer.clone(), place, waits)
                        }
                    };
                    yield Ok(Box::new(Connection {
                        peer,
                        stream,
                        cut: Box::pin(cut.cancelled_owned()),
                        look: Box::pin(sleep_until(Instant::now() + waits.idle.min(waits.certificate))),
                        idle: waits.idle,
                        certificate: waits.certificate,
                        heard: false,
                        unused: metrics.unused.clone(),
                        _place: place,
                    }));
                }
                _ => metrics.refused.inc(),
            }
        }
    }
}

/// Binds, with an error that names the address.
pub(crate) fn bind(address: SocketAddr) -> Result<TcpListener, crate::Error> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
    socket
        .and_then(|socket| {
            socket.set_reuseaddr(true)?;
            socket.bind(address)?;
            socket.listen(BACKLOG)
        })
        .map_err(|source| crate::Error::Bind { address, source })
}

/// Boxed, because each future around it would have room for it of its own.
impl Connected for Box<Connection> {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl Connection {
    /// Ready when it has had no call for too long, or its certificate has ended.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<io::ErrorKind> {
        while self.look.as_mut().poll(cx).is_ready() {
            if !self.stream.stands(&self.peer) {
                return Poll::Ready(io::ErrorKind::PermissionDenied);
            }
            let now = Instant::now();
            let until = self.peer.idle_since().unwrap_or(now) + self.idle;
            if until <= now {
                let (peer, reason) = (self.peer.address().map(tracing::field::display), self.reason());
                tracing::info!(peer, reason, "closed a connection that has had no call for {:?}", self.idle);
                self.unused.with_label_values(&[reason]).inc();
                return Poll::Ready(io::ErrorKind::TimedOut);
            }
            self.look.as_mut().reset(until.min(now + self.certificate));
        }
        Poll::Pending
    }

    /// What came of it.
    fn reason(&self) -> &'static str {
        match (self.heard, self.peer.ever_called()) {
            (_, true) => "idle",
            (true, false) => "no_call",
            (false, false) => "silent",
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.cut.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        if let Poll::Ready(end) = self.poll_end(cx) {
            return Poll::Ready(Err(end.into()));
        }
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.heard |= buf.filled().len() > before;
        read
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
