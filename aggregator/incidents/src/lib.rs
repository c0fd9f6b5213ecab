//! Incidents: events with one cause, joined across nodes.
//!
//! ```text
//! log ─► Observation (workload, evidence, fingerprint) ─► Table (joins, bounds) ─► a file, with its offset
//! ```
//!
//! # Why counts are exact
//!
//! The state is a function of the log's records up to an offset, and is stored with that offset in one file that is
//! replaced as a whole ([`Kept`]). Whatever dies, and whenever: the file has the state of some offset, and the records
//! behind it are counted from there, each once. Records reach the log exactly once, under the identity of their event,
//! and are acknowledged only then; so what a node sent is counted once, and nothing that was acknowledged is left out.
//! No clock but the receipt in the record decides where an event belongs, and memory is counted from content alone, so
//! counting twice from the same offset leads to the same state, bit by bit.
//!
//! # More than one replica
//!
//! With Kafka each replica copies the whole topic into its embedded log, and counts all of it by itself: there is
//! nothing to merge, nothing to lock, and no replica whose death loses a count. A node's records are in one partition,
//! in order, and a run is of one node; the order *between* partitions differs from copy to copy. What does not depend on
//! that order is the same on all replicas once they have copied as much: for each fingerprint the runs that told their
//! cause, their events, nodes and containers, since sums and unions do not care. What does depend on it may differ, and
//! is told apart: which incident a run without a cause is *presumed* to be part of, which events are exemplars, and, of
//! incidents that end and come again about then, where one ends and the next begins. So whoever compares replicas
//! compares fingerprints.
//!
//! Should a replica ever read a part of the partitions only, the state falls into one [`Table`] for each partition,
//! each guarded by that partition's offset and moved, or counted anew, with it; an answer then adds up the tallies and
//! unites the sets of one fingerprint, which are all of a kind that can be added. No count would ever be written by two.

mod distinct;
mod error;
mod evidence;
mod fingerprint;
mod frame;
mod incident;
mod kept;
mod observation;
mod profile;
mod runs;
mod snapshot;
mod stack;
mod stored;
mod table;
mod workload;

pub use error::Error;
pub use fingerprint::Fingerprint;
pub use incident::{Exemplar, Incident, Silence, State, Tally};
pub use kept::{Kept, Seen, save};
pub use observation::Observation;
pub use table::{Gone, Limits, Table, Totals};
