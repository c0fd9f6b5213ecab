//! The aggregator's embedded search store: one index a day, filled from the log by a single writer.
//!
//! Invariants:
//! - Every event of the log is in the store exactly once, byte for byte, whatever happens between two commits: the
//!   position in the log is committed with the documents.
//! - An event that is wrong is kept with the reason. It never stops the ones behind it.
//! - Disk and memory are bounded: days are dropped whole by age and by size, at most three indexes are written at a
//!   time, an answer has a limit in events and bytes, a search has a deadline.
//! - A damaged index is put aside and counted, and what the log still has of it is indexed again.
//!
//! Calls block: run them on a thread that may.

mod batch;
mod catalog;
mod counts;
mod day;
mod document;
mod error;
mod evidence;
mod hit;
mod json;
pub mod limits;
mod page;
mod partition;
mod prepare;
pub mod query;
mod room;
mod sample;
mod schema;
mod search;
mod store;
pub mod walk;
mod writer;

#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use catalog::Settings;
pub use counts::{MAX_VALUES, Tally, countable};
pub use error::{Class, Error};
pub use hit::{Hit, unreadable};
pub use page::{Key, Order};
pub use prepare::severity_name;
pub use query::Query;
pub use sample::Sample;
pub use search::{DEADLINE, Found, MAX_BYTES, MAX_COUNTS, MAX_LIMIT, Search};
pub use store::{Stats, Store};
pub use walk::is_key;
pub use writer::Writer;
