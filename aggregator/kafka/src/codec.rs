//! What a record in Kafka is.
//!
//! The topic `<prefix>.events` holds one record for each event, its key the node, so that a node's events are in one
//! partition in the order in which they were taken. The headers are those of the CloudEvents 1.0 binding to Kafka, in
//! binary mode:
//!
//! | Header | Value |
//! |---|---|
//! | `ce_specversion` | `1.0` |
//! | `ce_id` | `node/epoch/seq`: the event's identity, the epoch as 16 hex digits |
//! | `ce_source` | `/nodes/<node>` |
//! | `ce_type` | `io.galen.event.<tracer>.<kind>` |
//! | `ce_time` | when it was observed, RFC 3339 |
//! | `ce_subject` | the container, if there is one |
//! | `content-type` | [`PROTOBUF`] or `application/json` |
//! | `galen_event` | with JSON alone: the event as it came, in protobuf |
//! | `galen_told` | with some events: what the node told of its queue, for the ledger |
//!
//! Of a name of tracer or container that is longer than 256 bytes, headers have the begin.
//!
//! The value is the event as its agent sent it: a `galen.v1.Event` without its identity, or with `kafka.payload` set to
//! `json` what the API gives for it. The record's time is when the aggregator received the event.
//!
//! - Parts: what is larger than a record may be is sent without its attachments (without `data` too, if that is not
//!   enough), with the headers `galen_parts`, how many parts follow, and `galen_cut`, the place in the event where they
//!   were. Each part is a record of the same key and of the type `io.galen.event.<tracer>.attachment`, with the id of
//!   its event, `#` and its number, and `galen_part` with number and count, such as `2/5`. The parts joined are a
//!   `galen.v1.Event` with what was left out; as protobuf merges messages, value and parts joined are the whole event.
//! - Losses: declared losses and counters are records of the type [`LOSSES`]. Their value is a `galen.v1.LogRecord`
//!   without events.
//!
//! Records of other types are passed over: new ones may come.
//!
//! An event that cannot be decoded, or is too large for parts or for a record of the log that a replica copies it to,
//! goes to `<prefix>.dead-letters` as it came, with the headers of an event as far as they are known, and
//! `galen_reason` in words; what is larger than a record goes there piece by piece, with `galen_part`. Its number is told
//! as a loss among the events, so that their readers do not wait for it.

mod cut;
mod decode;
mod encode;
mod head;

pub(crate) use decode::Joiner;
pub use decode::Stats as JoinStats;
pub(crate) use encode::Encoder;
pub use encode::Render;

/// Type of the records that tell losses.
pub const LOSSES: &str = "io.galen.losses";
/// Media type of an event as it came.
pub const PROTOBUF: &str = "application/vnd.google.protobuf; proto=galen.v1.Event";
/// Media type of losses.
const LOSSES_MEDIA_TYPE: &str = "application/vnd.google.protobuf; proto=galen.v1.LogRecord";
const JSON: &str = "application/json";
const BYTES: &str = "application/octet-stream";

const SPEC_VERSION: &str = "ce_specversion";
pub(crate) const ID: &str = "ce_id";
const SOURCE: &str = "ce_source";
const TYPE: &str = "ce_type";
const TIME: &str = "ce_time";
const SUBJECT: &str = "ce_subject";
const CONTENT_TYPE: &str = "content-type";
/// The event as it came, where the value is JSON.
const EVENT: &str = "galen_event";
/// What the node told of its queue with the events: an encoded `LogRecord` with that alone.
const TOLD: &str = "galen_told";
const PARTS: &str = "galen_parts";
const CUT: &str = "galen_cut";
pub(crate) const PART: &str = "galen_part";
pub(crate) const REASON: &str = "galen_reason";
/// Most parts of an event.
const MAX_PARTS: usize = 4096;

#[cfg(test)]
mod tests;
