//! The way from the buffer to the aggregator: one stream, dialled by the agent, resumed where it broke.
//!
//! Nothing here holds an event that the buffer does not hold, so the aggregator may be away for as long as the buffer's
//! cap allows, and the agent may die at any moment. No failure here reaches a tracer.
//!
//! - `session`: hello, welcome, batches, acknowledgements.
//! - `compare`: whether the buffer is an older copy of itself.
//! - `plan`: what to send next, fresh events and backlog in turns, within the credit.

mod compare;
mod error;
mod figures;
mod plan;
mod session;

use std::{sync::Arc, time::Duration};

use galen_buffer::Buffer;
use galen_proto::v1::TracerStatus;
use galen_runtime::{Backoff, endpoint::Endpoint};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tracing::{debug, warn};

use crate::{budget::Budget, control::Control, figures::Registry};
use error::Error;

pub use figures::Figures;

/// The reconnect back-off: full jitter between zero and a bound that doubles from the base up to the cap.
const BACKOFF_BASE: Duration = Duration::from_millis(500);
const BACKOFF_CAP: Duration = Duration::from_secs(30);
/// Wait after a refusal that will not change by itself.
const REFUSED_WAIT: Duration = Duration::from_secs(60);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// TCP and HTTP/2 probes find a peer that has vanished, also while nothing is sent.
const KEEPALIVE: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// What the aggregator may send before the agent reads it: acknowledgements are small.
const WINDOW: u32 = 64 << 10;

/// Who speaks, and for which tracers.
#[derive(Clone)]
pub struct Node {
    pub name: String,
    /// The tracers' state at the time of the call.
    pub tracers: Arc<dyn Fn() -> Vec<TracerStatus> + Send + Sync>,
    /// All figures of the agent, and those of the uplink among them.
    pub registry: Registry,
    pub figures: Figures,
    /// Does what the aggregator asks.
    pub control: Control,
}

pub struct Uplink {
    node: Node,
    endpoint: Endpoint,
    buffer: Buffer,
    budget: Budget,
}

impl Uplink {
    pub fn new(node: Node, endpoint: Endpoint, buffer: Buffer, budget: Budget) -> Self {
        Self { node, endpoint, buffer, budget }
    }

    /// Delivers until `stop` is cancelled; then, if it is connected, what the buffer holds at that time.
    pub async fn run(self, stop: CancellationToken) {
        let mut backoff = Backoff::new(BACKOFF_BASE, BACKOFF_CAP);
        // A cause is told once, not at each try.
        let mut told = String::new();
        loop {
            let (mut progressed, begun) = (false, Instant::now());
            let error = match self.session(&stop, &mut progressed).await {
                Ok(()) => return,
                Err(error) => error,
            };
            if stop.is_cancelled() {
                return;
            }
            self.node.figures.failed.inc();
            if progressed || begun.elapsed() > BACKOFF_CAP {
                backoff.reset();
            }
            let wait = match error {
                // Nothing is wrong: the next hello announces it.
                Error::NewQueue => continue,
                _ if error.is_permanent() => REFUSED_WAIT.mul_f64(0.5 + fastrand::f64() / 2.0),
                _ => backoff.next(),
            };
            let cause = galen_runtime::Chain(&error).to_string();
            if progressed || cause != told {
                warn!(
                    endpoint = %self.endpoint,
                    error = cause,
                    "no session with the aggregator; events stay in the buffer, and it is tried again"
                );
                told = cause;
            }
            debug!(retry_in = ?wait, "no session with the aggregator");
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    async fn session(&self, stop: &CancellationToken, progressed: &mut bool) -> Result<(), Error> {
        let opening = async {
            let channel = connect(&self.endpoint).await?;
            session::open(channel, &self.node, &self.buffer, &self.budget).await
        };
        let (mut session, inbound) = tokio::select! {
            opened = opening => opened?,
            () = stop.cancelled() => return Ok(()),
        };
        let ended = session.run(inbound, stop).await;
        *progressed = session.progressed;
        ended
    }
}

async fn connect(endpoint: &Endpoint) -> Result<Channel, tonic::transport::Error> {
    tonic::transport::Endpoint::new(endpoint.to_string())?
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_keepalive(Some(KEEPALIVE))
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .connect()
        .await
}
