//! What the bytes of a connection go through: nothing, or TLS, whose handshake is made by whoever reads first.
//!
//! That is the task of the connection itself, so a handshake that takes its time holds up nobody else; and a connection
//! is one task with one set of buffers from its beginning.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::OwnedSemaphorePermit,
};
use tokio_rustls::server::TlsStream;

use super::calls::{Peer, Waits};
use crate::{
    caller::Caller,
    tls::{self, Failure, Listener, Place, Tls},
};

/// Boxed where it is large, because most connections of a fleet are alike, and this is part of each.
pub(super) enum Transport {
    Plain(TcpStream),
    Handshake(Box<Handshake>),
    Tls(Box<Secured>),
    /// After a handshake that failed.
    Failed,
}

pub(super) struct Secured {
    stream: TlsStream<TcpStream>,
    tls: Tls,
    /// Without a certificate.
    _place: Option<OwnedSemaphorePermit>,
}

pub(super) struct Handshake {
    made: Made,
    tls: Tls,
    peer: Peer,
}

type Made = Pin<Box<dyn Future<Output = Result<TlsStream<TcpStream>, Failure>> + Send>>;

impl Transport {
    /// Begins a handshake.
    pub(super) fn handshake(stream: TcpStream, tls: Tls, peer: Peer, place: Place, waits: Waits) -> Self {
        peer.becomes(Caller::Anonymous);
        let newest = tls.clone();
        let made = Box::pin(place.accept(stream, move || newest.grpc(), waits.handshake));
        Self::Handshake(Box::new(Handshake { made, tls, peer }))
    }

    /// Whether the certificate that it began with still stands, if there is one.
    pub(super) fn stands(&self, peer: &Peer) -> bool {
        let Self::Tls(secured) = self else { return true };
        tls::shown(secured.stream.get_ref().1).is_none_or(|shown| secured.tls.stands(peer.address(), shown))
    }

    /// Ready when bytes can go through, or never will.
    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self::Handshake(handshake) = self else { return Poll::Ready(Ok(())) };
        match ready!(handshake.made.as_mut().poll(cx)).and_then(|stream| handshake.done(stream)) {
            Ok(secured) => {
                *self = Self::Tls(Box::new(secured));
                Poll::Ready(Ok(()))
            }
            Err(failure) => {
                handshake.tls.failed(handshake.peer.address(), &failure);
                *self = Self::Failed;
                Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()))
            }
        }
    }
}

impl Handshake {
    fn done(&self, mut stream: TlsStream<TcpStream>) -> Result<Secured, Failure> {
        let caller = self.tls.caller(stream.get_mut().1);
        let place = self.tls.stranger(Listener::Grpc, &caller).map_err(|_| Failure::Strangers)?;
        self.peer.becomes(caller);
        Ok(Secured { stream, tls: self.tls.clone(), _place: place })
    }
}

impl AsyncRead for Transport {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_open(cx))?;
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(secured) => Pin::new(&mut secured.stream).poll_read(cx, buf),
            Self::Handshake(_) | Self::Failed => Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into())),
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_open(cx))?;
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(secured) => Pin::new(&mut secured.stream).poll_write(cx, buf),
            Self::Handshake(_) | Self::Failed => Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into())),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(secured) => Pin::new(&mut secured.stream).poll_flush(cx),
            // Nothing was taken that could be flushed.
            Self::Handshake(_) | Self::Failed => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(secured) => Pin::new(&mut secured.stream).poll_shutdown(cx),
            Self::Handshake(_) | Self::Failed => Poll::Ready(Ok(())),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_open(cx))?;
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::Tls(secured) => Pin::new(&mut secured.stream).poll_write_vectored(cx, bufs),
            Self::Handshake(_) | Self::Failed => Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into())),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }
}
