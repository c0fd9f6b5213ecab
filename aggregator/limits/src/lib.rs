//! Cluster-wide limits: how many full events a second the cluster takes, and whose.
//!
//! ```text
//!  hot path                     every PERIOD, in the background
//!  Limiter::ask ── counts ──►  demands ──► Redis: one script ──► lease, demands of the other replicas
//!      ▲                                                                     │
//!      └───── lease of tokens, ceilings of groups and nodes ◄── fair shares ─┘
//! ```
//!
//! Capacity is shared out along cluster → tracer → tenant → replica → node, each level weighted max-min fair ([`fair`]).
//! All replicas compute the same shares from the same demands. What a replica may spend is its [`Lease`], and only that:
//! the ceilings decide whose events it is spent on. Every decision is a pure function of what is handed in, the time too.
//!
//! Bound: with a chunk of capacity × [`PERIOD`], the events that all replicas let pass in any time `t` are at most
//! capacity × `t` + 3 chunks, and one for each replica: the script gives at most capacity × `t` and one chunk that had
//! gathered, and a lease is spent at most two periods after it was asked for. A Redis that forgets begins with one chunk
//! more. Who cannot reach Redis spends its safe share, capacity / the most replicas known lately; Redis keeps that back
//! from the others for [`FORGET`], and only behind that it is on top.
//!
//! Meant for the log's thread, for the events of a batch that are new: behind the deduplication, so that what is sent again
//! is not asked about again, and before the append, so that what does not pass is declared left out in the batch's own
//! record and is as durable as the events. Of an event it takes the tracer and the tenant, the first of its fields. What is
//! declared lost is never asked about.
//!
//! Bounded: [`MAX_GROUPS`] groups and [`MAX_NODES`] nodes; what is beyond is one group, or one node, named [`OTHER`], and
//! counted.

pub mod fair;
mod gcra;
mod keeper;
mod lease;
mod limiter;
mod redis;
mod refill;
mod shares;
mod table;

use std::time::Duration;

pub use self::redis::{Error, Redis, Target};
pub use keeper::{Keeper, Shared};
pub use lease::Lease;
pub use limiter::{Figures, Level, Limiter, Verdict};
pub use table::{Invalid, Limit, Table};

/// A lease is asked for this often, and is worth so much of the capacity.
pub const PERIOD: Duration = Duration::from_millis(250);
/// From the question: the answer of one question may fail, and the last lease holds until that of the next.
pub const LIFETIME: Duration = PERIOD.saturating_mul(2);
/// A replica that did not ask for so long is silent: its safe share is kept back.
pub const SILENT: Duration = Duration::from_secs(2);
/// A silent replica is forgotten, and its share given to the others.
pub const FORGET: Duration = Duration::from_secs(60);
/// One part of so many of each lease is kept for who has had little of it, and not shared out.
pub const KEPT: u64 = 10;
/// Pairs of tracer and tenant that a replica tells apart.
pub const MAX_GROUPS: usize = 256;
/// Nodes that a replica tells apart, in all groups together.
pub const MAX_NODES: usize = 65_536;
/// The name of what is beyond these.
pub const OTHER: &str = "__other__";
