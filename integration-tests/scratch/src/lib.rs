//! File systems of a test's own, which go with their value: one that can be filled, one whose disk fails.
//!
//! Mounting takes root. Without it the constructors say so, past the test harness, and give nothing: a test ends there,
//! and `make test` counts it among those that were skipped. Anything else that goes wrong is a failure of the test.

#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "a test fails by panicking")]

mod failing_disk;
mod tmpfs;

use std::io::Write;

pub use failing_disk::FailingDisk;
pub use tmpfs::Tmpfs;

/// Whether the process is root. If not, what needs it is said to be skipped.
pub fn has_root(what: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        skip(&format!("{what} needs root"));
    }
    root
}

/// Says why a test, or part of one, is not run. The harness keeps what is printed by macros to itself.
pub fn skip(why: &str) {
    let _ = writeln!(std::io::stderr(), "skipped: {why}");
}
