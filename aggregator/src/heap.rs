//! The heap of whatever contains an aggregator.
//!
//! Thousands of connections that come and go leave holes of all sizes. jemalloc keeps sizes apart, and gives pages of
//! what was freed back within seconds, so that a large buffer of which little is used takes little.
#![allow(unsafe_code, reason = "jemalloc looks for its settings by the name of a symbol")]

use tikv_jemallocator::Jemalloc;

#[global_allocator]
static HEAP: Jemalloc = Jemalloc;

/// Freed pages go back after a second, and at once where the kernel would only take them if it needed them; a burst
/// does not ask the kernel for each page anew.
// SAFETY: jemalloc reads a pointer to a text with a zero at its end from this symbol; nothing else has its name.
#[unsafe(export_name = "_rjem_malloc_conf")]
static SETTINGS: &[u8; 37] = b"dirty_decay_ms:1000,muzzy_decay_ms:0\0";
