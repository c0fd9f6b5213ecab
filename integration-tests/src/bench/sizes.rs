//! Sizes of the stripped binaries.

use anyhow::Result;

use super::{Figure, mib};
use crate::process::program;

pub(super) fn measure() -> Result<Vec<Figure>> {
    [("galen-agent", "≤12 MiB"), ("galen-aggregator", ""), ("galen", "")]
        .into_iter()
        .map(|(name, reach)| {
            let bytes = program(name)?.metadata()?.len();
            Ok(Figure { name, measured: format!("{:.1} MiB", mib(bytes)), reach })
        })
        .collect()
}
