//! The figures of `docs/benchmarks.md`, measured on the real programs as a release builds them.

mod agents;
mod backlog;
mod burst;
mod idle;
mod short;
mod sizes;

use std::path::Path;

use anyhow::Result;

/// A measured figure beside what it should reach.
pub struct Figure {
    pub name: &'static str,
    pub measured: String,
    pub reach: &'static str,
}

/// Measures what is named in `only`, or everything.
pub async fn run(scratch: &Path, only: &[String]) -> Result<Vec<Figure>> {
    let wanted = |name: &str| only.is_empty() || only.iter().any(|one| one == name);
    let mut figures = Vec::new();
    if wanted("sizes") {
        figures.extend(sizes::measure()?);
    }
    if wanted("idle") {
        figures.extend(idle::measure(&scratch.join("idle")).await?);
    }
    if wanted("burst") {
        figures.extend(burst::measure(&scratch.join("burst")).await?);
    }
    if wanted("short") {
        figures.extend(short::measure(&scratch.join("short")).await?);
    }
    if wanted("backlog") {
        figures.extend(backlog::measure(&scratch.join("backlog")).await?);
    }
    if wanted("agents") {
        figures.extend(agents::connected(&scratch.join("agents")).await?);
    }
    if wanted("reconnect") {
        figures.extend(agents::reconnect(&scratch.join("reconnect")).await?);
    }
    Ok(figures)
}

/// The value below which `share` of the values lie.
fn percentile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let at = ((values.len() as f64 * share).ceil() as usize).clamp(1, values.len().max(1)) - 1;
    values.get(at).copied().unwrap_or(f64::NAN)
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
