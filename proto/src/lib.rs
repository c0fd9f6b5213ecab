//! The wire contract of Galen, generated from `galen/v1/*.proto`, and the pprof profile format.
//!
//! `bytes` fields of a batch are slices of the message that they came in: whoever keeps one beyond the batch copies it,
//! or the whole message stays in memory.

/// `galen.v1`: the agent's stream, the event, the query and the control service, and what the log keeps.
#[allow(
    missing_docs,
    unreachable_pub,
    clippy::allow_attributes_without_reason,
    clippy::large_enum_variant,
    reason = "generated code"
)]
pub mod v1 {
    tonic::include_proto!("galen.v1");
}

/// `perftools.profiles`: the pprof profile format.
#[allow(unreachable_pub, clippy::allow_attributes_without_reason, reason = "generated code")]
pub mod pprof {
    tonic::include_proto!("perftools.profiles");
}

pub mod cloudevent;
mod codec;
mod id;
mod ledger;
pub use id::ParseEventIdError;
pub use ledger::Term;

/// The version of the stream's protocol that this crate describes.
pub const PROTOCOL: u32 = 1;
/// Longest name of a node, in bytes: that of a DNS name.
pub const MAX_NODE_NAME: usize = 253;
/// In the trailers of a refused call: not to come again before so many milliseconds. gRPC's own name for it.
pub const RETRY_AFTER: &str = "grpc-retry-pushback-ms";
/// Media type of a pprof profile (its `Attachment` is `gzip` encoded).
pub const PPROF_MEDIA_TYPE: &str = "application/vnd.google.protobuf; proto=perftools.profiles.Profile";
/// Name of the attachment that has the profile of the seconds before a trigger.
pub const PROFILE_BEFORE: &str = "before.pb.gz";
/// Name of the attachment that has the profile of the seconds after a trigger.
pub const PROFILE_AFTER: &str = "after.pb.gz";
/// Every message and service of this crate as an encoded `google.protobuf.FileDescriptorSet`.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
