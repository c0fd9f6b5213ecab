//! A fleet on one machine, made of the real programs: what the tests and the benchmarks start, ask and kill.
//!
//! Everything started here ends with its handle, also when a test fails.

pub mod bench;
pub mod burst;
pub mod faults;
pub mod fleet;
pub mod flood;
pub mod load;
pub mod oracle;
pub mod process;
pub mod query;
pub mod wait;
