//! The way from the buffer to the aggregator: one stream, dialled by the agent, resumed where it broke.
//!
//! Nothing here holds an event that the buffer does not hold, so the aggregator may be away for as long as the buffer's
//! cap allows, and the agent may die at any moment. No failure here reaches a tracer.
//!
//! - `addresses`: which of several aggregators is dialled; `dial`: how.
//! - `session`: hello, welcome, batches, acknowledgements.
//! - `compare`: whether the buffer is an older copy of itself.
//! - `plan`: what to send next, fresh events and backlog in turns, within the credit.

mod addresses;
mod compare;
mod dial;
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
use tracing::{debug, info, warn};

use crate::{budget::Budget, control::Control, figures::Registry, tls::Newest};
use addresses::Addresses;
use error::{Again, Error};

pub use figures::Figures;

/// The reconnect back-off: full jitter between zero and a bound that doubles from the base up to the cap, each time that
/// all aggregators were tried in vain.
const BACKOFF_BASE: Duration = Duration::from_millis(500);
const BACKOFF_CAP: Duration = Duration::from_secs(30);

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
    endpoints: Vec<Endpoint>,
    tls: Option<Newest>,
    buffer: Buffer,
    budget: Budget,
}

impl Uplink {
    /// To one of `endpoints`, of which there is at least one.
    pub(crate) fn new(
        node: Node,
        endpoints: Vec<Endpoint>,
        tls: Option<Newest>,
        buffer: Buffer,
        budget: Budget,
    ) -> Self {
        Self { node, endpoints, tls, buffer, budget }
    }

    /// Delivers until `stop` is cancelled; then, if it is connected, what the buffer holds at that time.
    pub async fn run(self, stop: CancellationToken) {
        let mut addresses = Addresses::new(&self.endpoints);
        let mut backoff = Backoff::new(BACKOFF_BASE, BACKOFF_CAP);
        // A cause is told once, not at each try.
        let mut told = String::new();
        let mut wait = Duration::ZERO;
        loop {
            let (endpoint, free) = addresses.next();
            let moment = free.max(Instant::now() + wait);
            tokio::select! {
                () = tokio::time::sleep_until(moment) => {}
                () = stop.cancelled() => return,
            }
            let (mut progressed, begun) = (false, Instant::now());
            let error = match self.session(&endpoint, &stop, &mut progressed).await {
                Ok(()) => return,
                Err(error) => error,
            };
            if stop.is_cancelled() {
                return;
            }
            if progressed || begun.elapsed() > BACKOFF_CAP {
                backoff.reset();
            }
            let again = error.again();
            wait = match again {
                Again::AtOnce => {
                    addresses.same_again();
                    Duration::ZERO
                }
                Again::Elsewhere(away) => {
                    addresses.leave_alone(away);
                    Duration::ZERO
                }
                Again::Later(away) | Again::Refused(away) => {
                    addresses.leave_alone(away);
                    BACKOFF_BASE.mul_f64(fastrand::f64())
                }
                Again::BackOff if addresses.all_tried() => backoff.next(),
                Again::BackOff => BACKOFF_BASE.mul_f64(fastrand::f64()),
            };
            match again {
                Again::AtOnce => continue,
                Again::Elsewhere(_) => {
                    info!(%endpoint, "the aggregator said goodbye");
                    continue;
                }
                Again::Later(_) | Again::Refused(_) | Again::BackOff => self.node.figures.failed.inc(),
            }
            let cause = galen_runtime::Chain(&error).to_string();
            if matches!(again, Again::Later(_)) {
                info!(%endpoint, cause, "the aggregator asks to come later");
            } else if progressed || cause != told {
                warn!(
                    %endpoint,
                    error = cause,
                    "no session with the aggregator; events stay in the buffer, and it is tried again"
                );
                told = cause;
            }
            debug!(retry_in = ?wait, "no session with the aggregator");
        }
    }

    async fn session(&self, endpoint: &Endpoint, stop: &CancellationToken, progressed: &mut bool) -> Result<(), Error> {
        let opening = async {
            let channel = dial::dial(endpoint, self.tls.as_ref()).await?;
            session::open(channel, &self.node, &self.buffer, &self.budget).await
        };
        let (mut session, inbound) = tokio::select! {
            opened = opening => opened?,
            () = stop.cancelled() => return Ok(()),
        };
        let ended = session.run(inbound, stop).await;
        *progressed = session.progressed;
        // Whatever came after it.
        ended.map_err(|error| session.goodbye.map_or(error, |away| Error::Goodbye { away }))
    }
}
