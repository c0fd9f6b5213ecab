//! The catalogue of faults: anomalies that really happen, each with its ground truth.
//!
//! A case is a file in `integration-tests/faults/`: what is done, in which cgroups, and what must be told of it. A case
//! without truth must raise nothing. `cargo xtask faults` runs them and scores recall, the culprit that is ranked
//! first, latency and false alarms; `make test` runs those that are marked `core`.

mod run;
mod score;
mod stage;

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context, Result, ensure};
use galen_runtime::{Size, Span};
use serde::Deserialize;

pub use run::{Runner, quiet, run};
pub use score::{Outcome, Score};

/// Where the cases are.
pub const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/faults");

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    #[serde(skip)]
    pub name: String,
    /// One line for people.
    pub about: String,
    /// Whether `make test` runs it.
    #[serde(default)]
    pub core: bool,
    /// Whether it concerns the whole machine, so that no other case may run beside it.
    #[serde(default)]
    pub alone: bool,
    /// Skipped, and said so, unless so much of the machine's memory is available.
    #[serde(default)]
    pub needs_available_percent: u8,
    /// Settings of the agent that differ from the runner's, as for `--set`: the case gets an agent of its own.
    #[serde(default)]
    pub settings: Vec<String>,
    /// By name: a path below the case's own cgroup.
    #[serde(default)]
    pub cgroups: BTreeMap<String, Limits>,
    /// By name.
    #[serde(default)]
    pub disks: BTreeMap<String, Medium>,
    pub loads: Vec<Load>,
    /// How long it is looked at. With a truth it ends when all of it was told, unless `to_the_end`.
    pub lasts: Span,
    #[serde(default)]
    pub to_the_end: bool,
    /// What must be told. Empty: nothing.
    #[serde(default)]
    pub truth: Vec<Truth>,
    /// Tracers that may tell something of it too.
    #[serde(default)]
    pub also: Vec<String>,
}

/// Limits of a cgroup.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    pub cpus: Option<f64>,
    pub memory: Option<Size>,
    /// Remove it as soon as its loads have ended.
    pub vanishes: bool,
}

/// A disk of the case's own.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Medium {
    #[serde(default = "Medium::default_bytes")]
    pub bytes: Size,
    /// Bytes that each cgroup may read and write on it in a second.
    pub bytes_a_second: Option<Size>,
    /// With an ext4 on it.
    #[serde(default)]
    pub filesystem: bool,
    /// With an ext4 on it that nobody may write to now.
    #[serde(default)]
    pub frozen: bool,
}

impl Medium {
    const fn default_bytes() -> Size {
        Size::mib(64)
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Load {
    /// Name of the cgroup; none: where the runner is.
    pub cgroup: Option<String>,
    /// Arguments of `galen-fault`. `{dir}` is a directory of the case, `{NAME}` a disk: its device, or where its
    /// filesystem is.
    pub does: Vec<String>,
    /// Since the case began.
    #[serde(default)]
    pub after: Span,
    /// How long; by default as long as the case.
    pub lasts: Option<Span>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Truth {
    pub tracer: String,
    /// Name of the cgroup that the event must name; none: the host.
    pub cgroup: Option<String>,
    /// Name of the disk that the event must name.
    pub disk: Option<String>,
    /// The load that is the anomaly: latency counts from its begin.
    #[serde(default)]
    pub load: usize,
    /// Who must be ranked first.
    pub culprit: Option<Culprit>,
}

impl Case {
    /// Why it cannot happen here.
    fn impossible(&self) -> Option<String> {
        let Self { name, needs_available_percent: needed, .. } = self;
        let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let kilobytes = |key: &str| -> u64 {
            let line = text.lines().find_map(|line| line.strip_prefix(key));
            line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok()).unwrap_or(0)
        };
        let available = kilobytes("MemAvailable:") * 100 / kilobytes("MemTotal:").max(1);
        (available < u64::from(*needed))
            .then(|| format!("{name}: {available} % of the memory are available, {needed} % are needed"))
    }
}

impl Truth {
    fn is_of_host(&self) -> bool {
        self.cgroup.is_none() && self.disk.is_none()
    }
}

/// A value in the data of the run's last event.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Culprit {
    /// JSON pointer: `/hottest_functions/0/name`.
    pub at: String,
    /// What the text there contains. `{root}` is the path of the case's cgroup.
    pub is: String,
}

/// All cases, by name.
///
/// # Errors
/// A file that is not a case, by its name and line.
pub fn catalogue() -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    for file in fs::read_dir(FOLDER)? {
        let path = file?.path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            cases.push(read(&path).with_context(|| path.display().to_string())?);
        }
    }
    cases.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(cases)
}

fn read(path: &Path) -> Result<Case> {
    let mut case: Case = toml::from_str(&fs::read_to_string(path)?)?;
    case.name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let named = case.loads.iter().filter_map(|load| load.cgroup.as_ref());
    for cgroup in named.chain(case.truth.iter().filter_map(|truth| truth.cgroup.as_ref())) {
        ensure!(case.cgroups.contains_key(cgroup), "there is no cgroup `{cgroup}`");
    }
    for disk in case.truth.iter().filter_map(|truth| truth.disk.as_ref()) {
        ensure!(case.disks.contains_key(disk), "there is no disk `{disk}`");
    }
    ensure!(case.truth.iter().all(|truth| truth.load < case.loads.len()), "a truth names a load that is not there");
    Ok(case)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_can_be_read() {
        assert!(!catalogue().unwrap().is_empty());
    }
}
