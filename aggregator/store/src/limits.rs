//! How much of an event is searchable. Every store keeps to it, so that all give the same answers.

/// Most values of one event's data that are indexed.
pub const MAX_VALUES: u32 = 512;
/// Deepest nesting that is indexed.
pub const MAX_DEPTH: u32 = 12;
/// Longest text that is indexed, in bytes. The rest of a longer one is not searchable.
pub const MAX_TEXT: usize = 8 << 10;
/// Longest key, in bytes.
pub const MAX_KEY: usize = 256;
/// Most labels of a container that are indexed.
pub const MAX_LABELS: usize = 512;
/// Most attachments whose names are indexed.
pub const MAX_ATTACHMENTS: usize = 64;
