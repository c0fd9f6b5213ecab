//! Who may ask what, over real connections: every call of both doors, tokens that are wrong, and what is written down.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod audit;
mod bounds;
#[path = "../tls/certificates.rs"]
mod certificates;
mod guarded;
#[path = "../support/mod.rs"]
mod support;
mod table;
mod tokens;
