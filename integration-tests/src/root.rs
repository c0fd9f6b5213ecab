//! Tests that need root say so and end when they do not have it.

use anyhow::Result;

pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Says that `test` was not run; `make test` counts these lines.
#[allow(clippy::print_stderr, reason = "what is skipped is told to the person who runs the tests")]
pub fn skip(test: &str) -> Result<()> {
    eprintln!("skipped: {test}: needs root");
    Ok(())
}
