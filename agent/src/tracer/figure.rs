//! Numbers as events tell them.

/// In percent; 0 of nothing.
pub(crate) fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { round(100.0 * part as f64 / whole as f64) }
}

/// Two decimals are more than the counters are worth.
pub(crate) fn round(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}
