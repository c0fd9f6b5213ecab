//! The commands that ask an aggregator, one file each; those that change something are one file. `certs` and
//! `token` need none.

pub(crate) mod certs;
pub(crate) mod control;
pub(crate) mod event;
pub(crate) mod events;
pub(crate) mod flame;
pub(crate) mod incidents;
pub(crate) mod ledger;
pub(crate) mod nodes;
pub(crate) mod status;
pub(crate) mod token;
pub(crate) mod tracers;
