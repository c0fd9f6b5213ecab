//! Both doors over real connections: what an agent sent is found, shown, followed and drawn, and stays text.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod client;
mod doors;
mod events;
mod follow;
mod incidents;
mod operate;
mod profiles;
mod requests;
#[path = "../support/mod.rs"]
mod support;
