//! An error with its causes on one line, as logs and command lines show it.

use std::{error::Error, fmt};

/// Displays an error and its sources, joined by `: `. A source whose text the text before it already ends with is left
/// out, because some libraries repeat theirs.
pub struct Chain<'a>(pub &'a (dyn Error + 'a));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = self.0.to_string();
        f.write_str(&shown)?;
        let mut source = self.0.source();
        while let Some(error) = source {
            let text = error.to_string();
            if !shown.ends_with(&text) {
                write!(f, ": {text}")?;
                shown = text;
            }
            source = error.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("failed to open segment")]
    struct Outer(#[source] std::io::Error);

    #[derive(Debug, thiserror::Error)]
    #[error("outer: {0}")]
    struct Repeating(#[source] std::io::Error);

    #[test]
    fn causes_follow_on_the_same_line() {
        assert_eq!(
            Chain(&Outer(std::io::Error::other("disk on fire"))).to_string(),
            "failed to open segment: disk on fire"
        );
    }

    #[test]
    fn a_cause_that_was_shown_is_not_repeated() {
        assert_eq!(Chain(&Repeating(std::io::Error::other("disk on fire"))).to_string(), "outer: disk on fire");
    }
}
