//! The figures of `docs/benchmarks.md`, measured on the real programs as a release builds them.

mod agents;
mod away;
mod backlog;
mod burst;
mod idle;
mod short;
mod sizes;

use std::path::Path;

use anyhow::{Context, Result};
use galen_runtime::Span;

/// A measured figure beside what it should reach.
pub struct Figure {
    pub name: &'static str,
    pub measured: String,
    pub reach: &'static str,
}

/// Measures what is named in `only`, or everything that takes minutes. `away` takes longer, and may be `away=DURATION`.
pub async fn run(scratch: &Path, only: &[String]) -> Result<Vec<Figure>> {
    let wanted = |name: &str| only.is_empty() || only.iter().any(|one| one == name);
    let away = only.iter().find_map(|one| one.strip_prefix("away"));
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
    if let Some(away) = away {
        let away = match away.strip_prefix('=') {
            Some(time) => time.parse::<Span>().with_context(|| format!("`{time}` is no duration"))?.0,
            None => away::AWAY,
        };
        figures.extend(away::measure(&scratch.join("away"), away).await?);
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
