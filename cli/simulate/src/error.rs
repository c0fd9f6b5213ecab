//! What can go wrong with a fleet as a whole. What happens to single nodes is counted, and tried again.

use std::time::Duration;

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error("no aggregator to connect to")]
    NoAggregator,
    #[error("more nodes than there are addresses on this machine for them")]
    TooMany,
    #[error("waited {limit:?} for {what}; of {nodes} nodes {state}")]
    NotInTime { what: &'static str, limit: Duration, nodes: u64, state: String },
}
