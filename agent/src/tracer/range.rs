//! The check that most settings need: whether a value lies between two others.

/// A setting that does not.
#[derive(Debug, thiserror::Error)]
#[error("`{key}` is {value}: it must be from {least} to {most}")]
pub struct OutOfRange {
    key: &'static str,
    value: String,
    least: String,
    most: String,
}

/// Both bounds are allowed. A number that is none (NaN) is not.
pub fn within<T: PartialOrd + ToString>(key: &'static str, value: T, least: T, most: T) -> Result<(), OutOfRange> {
    if value >= least && value <= most {
        return Ok(());
    }
    Err(OutOfRange { key, value: value.to_string(), least: least.to_string(), most: most.to_string() })
}
