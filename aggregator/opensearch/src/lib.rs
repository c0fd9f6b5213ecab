//! OpenSearch as the place where a fleet's events are found: filled from the log, and asked as the embedded store is.
//!
//! - An event is a document whose `_id` is the event's identity, in an index that is a function of the event's bytes
//!   alone. It is only ever created, so whatever is written twice is there once.
//! - Every item of an answer is judged by itself: done, to be tried again, poison, or a halt of the sink. A place in
//!   the log is committed when all before it is done, so nothing is left out.
//! - Poison goes aside to `<prefix>-dead-letters`, once, with its reason and its bytes.
//! - Agents never wait for any of this: the log stands between.
//!
//! Indices: `<prefix>-events-<tracer>-<day>`, `<prefix>-attachments-<day>`, `<prefix>-dead-letters`.

mod archive;
mod bulk;
mod client;
mod dead_letters;
mod document;
mod error;
mod fields;
mod flat;
mod indexer;
mod judge;
mod names;
mod pace;
mod query;
mod retention;
mod settings;
mod stats;
mod template;
mod tracers;
mod words;
mod writer;

pub use archive::{Archive, Aside, Found, Search, Size};
pub use client::Client;
pub use dead_letters::{DeadLetter, DeadLetters, Replayed};
pub use error::{Class, Error};
pub use indexer::Indexer;
pub use names::is_prefix;
pub use settings::Settings;
pub use stats::{Counters, Stats};
