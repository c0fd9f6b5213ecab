//! The durable queue of a node's events, on sled.
//!
//! [`Buffer::append`] takes an encoded event and never blocks; its receipt resolves once the event is on the disk, with
//! the number that is its identity. Numbers are given once: an epoch (a random instance of the queue) goes on after a
//! clean end and is followed by a new one after any other. What was appended is offered by [`Buffer::read`] until it is
//! acknowledged; what cannot be offered is declared, as a range of numbers or, where none was given, by a counter.
//!
//! A disk that refuses keeps nobody from opening a buffer: until it can be used, events are rejected and counted, in an
//! epoch that is in memory alone and goes once its counters are settled.
//!
//! # On disk
//!
//! | Path | What |
//! |---|---|
//! | `lock` | locked with `flock` by the process that has the buffer open |
//! | `state` | epochs, acknowledgements, losses: the format is described in the module `state` |
//! | `reserve` | room on the disk for when it is full: module `reserve` |
//! | `<epoch, 16 hex digits>/<first number, 20 digits>/` | a segment: a sled 0.34 database, never opened again for writing |
//! | … `/end` | its end mark, a hint for damage: module `mark` |
//! | `quarantine/<unix seconds>-<epoch>-<first>/` | a segment that could not be read, with `reason.txt` |
//!
//! In a segment's default tree the key is an event's number (u64 big-endian) and the index of a chunk (u16 big-endian);
//! the value of chunk 0 is length and crc32c of the whole event (u32 little-endian each) and its first bytes, that of the
//! others their share of the bytes. Chunks are of 6 KiB: module `record` says why.

mod contain;
mod epoch;
mod error;
mod handle;
mod index;
mod loss;
mod mark;
mod quarantine;
mod queue;
mod read;
mod receipt;
mod record;
mod recover;
mod reserve;
mod segment;
mod settings;
mod shared;
mod state;
mod status;
mod writer;

pub use error::{Error, Rejected};
pub use handle::Buffer;
pub use loss::{Loss, LossCounter, LossReasonCode};
pub use receipt::{EventPosition, Receipt};
pub use settings::Settings;
pub use status::{Durable, Queue, Stats};
