//! What the binaries of Galen share, so that each behaves like the other: how tasks live and end, how settings are
//! read, how logs look, how an address is judged, what users are known by, how a file is replaced.
//!
//! Nothing here knows about events, tracers or queries.

pub mod access;
pub mod atomic_file;
mod backoff;
pub mod config;
pub mod endpoint;
mod one_or_more;
mod report;
pub mod signal;
mod supervisor;
pub mod telemetry;
mod text;
pub mod tls;

pub use backoff::Backoff;
pub use one_or_more::OneOrMore;
pub use report::Chain;
pub use supervisor::{BoxError, Drained, Ended, OnEnd, Outcome, Stats, Supervisor};
pub use text::{ParseSizeError, ParseSpanError, Size, Span};
