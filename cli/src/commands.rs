//! The commands that ask an aggregator, one file each.

pub(crate) mod event;
pub(crate) mod events;
pub(crate) mod flame;
pub(crate) mod nodes;
pub(crate) mod status;
pub(crate) mod tracers;
