//! Nodes that are none: the sessions of many agents, on real connections from one process.
//!
//! - `node`: one of them. It speaks as a real agent does, keeps its events until they are acknowledged and sends them
//!   again after a reconnection, but has neither tracers nor a disk: what it records is its [`Source`]'s.
//! - `fleet`: all of them, and what happened to them.
//! - `budget`: what they may capture.
//!
//! So at the end all that was recorded must be acknowledged, and the log must have it once.

mod budget;
mod error;
mod fleet;
mod node;

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use galen_proto::v1::{Measure, TracerStatus};
use galen_runtime::tls::Dialler;

pub use budget::Budget;
pub use error::Error;
pub use fleet::Fleet;

/// What all nodes of a fleet have in common.
#[derive(Debug, Clone)]
pub struct Habits {
    /// Where they connect to: the first, and the next one whenever a connection failed or ended.
    pub aggregators: Vec<SocketAddr>,
    /// What the settings of each allow.
    pub captures_per_hour: u32,
    /// From one attempt to connect to the next, at least and at most.
    pub backoff: (Duration, Duration),
}

impl Habits {
    /// Those of real agents.
    pub fn of_agents(aggregator: SocketAddr) -> Self {
        Self {
            aggregators: vec![aggregator],
            captures_per_hour: 120,
            backoff: (Duration::from_millis(500), Duration::from_secs(30)),
        }
    }
}

/// Who a node is.
pub struct Identity {
    pub name: String,
    /// What it proves that with. Without one it speaks plaintext.
    pub dialler: Option<Dialler>,
}

/// What a node has to tell.
pub trait Source: Send + Sync + 'static {
    /// Of its tracers: in the hello, and in each heartbeat.
    fn tracers(&self) -> Vec<TracerStatus>;

    /// Its figures: in each heartbeat.
    fn measures(&self) -> Vec<Measure> {
        Vec::new()
    }

    /// What it records when it is its turn: encoded events, in their order.
    fn record(&mut self, budget: &mut Budget) -> Vec<Bytes>;
}
