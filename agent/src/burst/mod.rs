//! When CPU usage is a burst: its level over a sliding window, and the rise against the window before.

mod rule;
mod window;

pub(crate) use rule::{Reading, Rule, Threshold, Thresholds, Verdict, judge};
pub(crate) use window::{History, Tick};
