//! Which connection has a call underway, and how long it has had none.
//!
//! A place among the connections is for who uses it. One on which no call comes within [`Waits::idle`] is closed, from
//! its first moment on: it may have sent nothing, or no call, or its calls have ended. A call whose question does not
//! come is ended after [`Waits::call`]; the stream of an agent looks after itself (`session`).

use std::{
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::{body::Body, extract::Request, middleware::Next, response::Response};
use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use parking_lot::Mutex;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tonic::{Status, transport::server::TcpConnectInfo};

use crate::{access::Access, caller::Caller, listener::prefix::PrefixApart};

/// How long the aggregator waits for what a peer owes it.
#[derive(Debug, Clone, Copy)]
pub struct Waits {
    /// For the end of a handshake, with TLS.
    pub handshake: Duration,
    /// For a call, on a connection that has none.
    pub idle: Duration,
    /// For the hello of a stream.
    pub hello: Duration,
    /// From the beginning of a call to the beginning of its answer.
    pub call: Duration,
    /// From one look at the certificate of a connection to the next.
    pub certificate: Duration,
}

impl Default for Waits {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(10),
            idle: Duration::from_secs(30),
            hello: Duration::from_secs(10),
            call: Duration::from_secs(60),
            certificate: Duration::from_secs(30),
        }
    }
}

/// The other end of a connection, known to its calls. Clones are of the same.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    calls: Arc<Mutex<Calls>>,
    cut: CancellationToken,
    addresses: TcpConnectInfo,
}

#[derive(Debug)]
struct Calls {
    underway: usize,
    /// Whether there ever was one.
    any: bool,
    /// Since when there is none.
    since: Instant,
    caller: Caller,
}

/// A call that is underway, until it is dropped.
#[derive(Debug)]
struct Call(Arc<Mutex<Calls>>);

impl Peer {
    pub(super) fn new(cut: CancellationToken, addresses: TcpConnectInfo) -> Self {
        let calls = Calls { underway: 0, any: false, since: Instant::now(), caller: Caller::Local };
        Self { calls: Arc::new(Mutex::new(calls)), cut, addresses }
    }

    pub(super) fn address(&self) -> Option<SocketAddr> {
        self.addresses.remote_addr()
    }

    /// What a handshake found, before there is a call.
    pub(super) fn becomes(&self, caller: Caller) {
        self.calls.lock().caller = caller;
    }

    pub(crate) fn caller(&self) -> Caller {
        self.calls.lock().caller.clone()
    }

    /// Since when it has no call, if it has none.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        let calls = self.calls.lock();
        (calls.underway == 0).then_some(calls.since)
    }

    pub(super) fn ever_called(&self) -> bool {
        self.calls.lock().any
    }

    /// Cancelled, it ends the connection: for one that takes nothing of what it is sent, not even an end.
    pub(crate) fn cut(&self) -> CancellationToken {
        self.cut.clone()
    }

    fn call(&self) -> Call {
        let mut calls = self.calls.lock();
        calls.underway += 1;
        calls.any = true;
        Call(Arc::clone(&self.calls))
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let mut calls = self.0.lock();
        calls.underway -= 1;
        calls.since = Instant::now();
    }
}

/// Counts a call of its connection until the last of its answer is taken, if it is for the caller to make.
pub(crate) async fn track(patience: Duration, access: Access, mut request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<Peer>().cloned();
    let caller = peer.as_ref().map_or(Caller::Anonymous, Peer::caller);
    let address = peer.as_ref().and_then(Peer::address).map(|address| address.ip());
    match access.admit(&caller, address, request.uri().path(), &request) {
        Ok(user) => {
            if let Some(user) = user {
                request.extensions_mut().insert(user);
            }
        }
        Err(refusal) => return Status::new(refusal.grpc(), refusal.to_string()).into_http(),
    }
    request.extensions_mut().insert(caller);
    let call = peer.map(|peer| {
        let call = peer.call();
        // Where tonic looks for who called.
        request.extensions_mut().insert(peer.addresses);
        call
    });
    let request = request.map(|body| Body::new(PrefixApart::new(body)));
    match timeout(patience, next.run(request)).await {
        Ok(answer) => answer.map(|body| Body::new(Answer { body, _call: call })),
        Err(_) => {
            Status::deadline_exceeded(format!("no answer within {patience:?}: did the question come?")).into_http()
        }
    }
}

/// The body of an answer, with its call.
struct Answer {
    body: Body,
    _call: Option<Call>,
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
