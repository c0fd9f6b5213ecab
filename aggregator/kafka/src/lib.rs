//! Kafka as the aggregator's log.
//!
//! - [`Writer`] makes durable what ingest admits: `galen_log::Append` over an idempotent producer.
//! - [`Mirror`] copies all partitions into the log on this machine's disk, each event once, so that what stands behind
//!   that log works on every replica as it does without Kafka.
//! - [`Reader`] is a `galen_log::Consumer`: one group across the replicas, which share its work; [`FreshFirst`] is one
//!   that hands out the newest first after a gap.
//!
//! The records are described in [`codec`]. An event may be in the topic twice, under one identity: when a replica ends,
//! or gives up, between Kafka's acknowledgement and its own, and the agent sends again; when an agent moves faster than
//! its watermarks; when a replica that hung wakes up. It is never missing once it was acknowledged, and whoever reads
//! for us shows it once.

pub mod codec;
mod config;
mod dead_letters;
mod ends;
mod error;
mod fresh;
mod known;
mod lag;
mod link;
mod mirror;
mod producer;
mod reader;
mod rebalance;
mod standings;
mod topics;
mod writer;

pub use codec::{JoinStats, Render};
pub use config::{Compression, Config, Payload, Sasl, Settings, Tls};
pub use dead_letters::{DeadLetter, Replayed};
pub use error::{Error, Refusal};
pub use fresh::FreshFirst;
pub use lag::Lag;
pub use link::Link;
pub use mirror::{Copied, Mirror, MirrorStats};
pub use reader::Reader;
pub use standings::{Standings, Word};
pub use writer::{Gauge, Opened, Stats, Writer};
