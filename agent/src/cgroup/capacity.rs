//! How many CPUs a cgroup may use: the smallest of the CPUs of its cpuset, its own quota, and the quota of any ancestor.
//!
//! A file or directory that is missing sets no limit: the controller is off there, or the cgroup exists in another
//! hierarchy only.

use std::path::Path;

use super::{Hierarchies, Version, ancestry, directory};

/// CPUs that a cgroup may use, more than zero; fractions by quota.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Capacity(f64);

impl Capacity {
    /// `online` if there is no limit.
    pub fn read(hierarchies: &Hierarchies, version: Version, path: &str, online: u32) -> Self {
        let online = f64::from(online.max(1));
        let (cpuset, quota) = match version {
            Version::V1 => {
                let cpuset = hierarchies.cpuset.as_deref().and_then(|root| {
                    nearest(root, path, "cpuset.effective_cpus").or_else(|| nearest(root, path, "cpuset.cpus"))
                });
                let quota = hierarchies.cpu.as_deref().and_then(|root| smallest(root, path, quota_v1));
                (cpuset, quota)
            }
            Version::V2 => {
                let root = hierarchies.unified.as_deref();
                let cpuset = root.and_then(|root| nearest(root, path, "cpuset.cpus.effective"));
                (cpuset, root.and_then(|root| smallest(root, path, quota_v2)))
            }
        };
        Self(online.min(cpuset.unwrap_or(online)).min(quota.unwrap_or(online)))
    }

    pub fn new(cpus: f64) -> Option<Self> {
        (cpus.is_finite() && cpus > 0.0).then_some(Self(cpus))
    }

    pub fn cpus(self) -> f64 {
        self.0
    }
}

/// The CPUs in a list such as `0-3,8`; `None` if it is empty or malformed.
pub fn parse_cpu_list(text: &str) -> Option<u32> {
    let mut count = 0u32;
    for part in text.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        count = count.checked_add(last.checked_sub(first)?.checked_add(1)?)?;
    }
    Some(count)
}

/// The CPUs in the list file of the cgroup or, where it is missing or empty, of its nearest ancestor.
fn nearest(root: &Path, path: &str, file: &str) -> Option<f64> {
    ancestry(path)
        .find_map(|path| read(&directory(root, path), file).and_then(|text| parse_cpu_list(&text)))
        .map(f64::from)
}

fn smallest(root: &Path, path: &str, quota: impl Fn(&Path) -> Option<f64>) -> Option<f64> {
    ancestry(path).filter_map(|path| quota(&directory(root, path))).min_by(f64::total_cmp)
}

fn quota_v1(cgroup: &Path) -> Option<f64> {
    ratio(&read(cgroup, "cpu.cfs_quota_us")?, &read(cgroup, "cpu.cfs_period_us")?)
}

fn quota_v2(cgroup: &Path) -> Option<f64> {
    let text = read(cgroup, "cpu.max")?;
    let (quota, period) = text.trim().split_once(' ')?;
    ratio(quota, period)
}

/// `None` for no quota: -1 in version 1, `max` in version 2.
fn ratio(quota: &str, period: &str) -> Option<f64> {
    let quota: f64 = quota.trim().parse().ok()?;
    let period: f64 = period.trim().parse().ok()?;
    (quota > 0.0 && period > 0.0).then(|| quota / period)
}

fn read(cgroup: &Path, file: &str) -> Option<String> {
    std::fs::read_to_string(cgroup.join(file)).ok()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn write(root: &Path, path: &str, files: &[(&str, &str)]) {
        let cgroup = directory(root, path);
        fs::create_dir_all(&cgroup).unwrap();
        for (name, text) in files {
            fs::write(cgroup.join(name), text).unwrap();
        }
    }

    #[test]
    fn the_tightest_limit_of_all_ancestors_holds() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), "/a", &[("cpu.max", "150000 100000\n"), ("cpuset.cpus.effective", "0-3,8\n")]);
        write(root.path(), "/a/b", &[("cpu.max", "max 100000\n"), ("cpuset.cpus.effective", "\n")]);
        let hierarchies = Hierarchies { unified: Some(root.path().into()), ..Default::default() };
        assert_eq!(Capacity::read(&hierarchies, Version::V2, "/a/b", 16).cpus(), 1.5);
        assert_eq!(Capacity::read(&hierarchies, Version::V2, "/", 16).cpus(), 16.0);
        write(root.path(), "/a", &[("cpu.max", "max 100000\n")]);
        assert_eq!(Capacity::read(&hierarchies, Version::V2, "/a/b", 16).cpus(), 5.0);
    }

    #[test]
    fn version_1_takes_quota_and_cpuset_from_their_own_hierarchies() {
        let (cpu, cpuset) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        write(cpu.path(), "/a", &[("cpu.cfs_quota_us", "50000\n"), ("cpu.cfs_period_us", "100000\n")]);
        write(cpuset.path(), "/b", &[("cpuset.effective_cpus", "1\n")]);
        let hierarchies =
            Hierarchies { cpu: Some(cpu.path().into()), cpuset: Some(cpuset.path().into()), ..Default::default() };
        assert_eq!(Capacity::read(&hierarchies, Version::V1, "/a", 4).cpus(), 0.5);
        assert_eq!(Capacity::read(&hierarchies, Version::V1, "/b", 4).cpus(), 1.0);
        assert_eq!(Capacity::read(&hierarchies, Version::V1, "/only-in-cpuacct", 4).cpus(), 4.0);
        write(cpu.path(), "/a", &[("cpu.cfs_quota_us", "-1\n")]);
        assert_eq!(Capacity::read(&hierarchies, Version::V1, "/a", 4).cpus(), 4.0);
    }

    #[test]
    fn cpu_lists_are_counted_or_refused() {
        for (text, count) in [("0\n", Some(1)), ("0-3,8\n", Some(5)), ("", None), ("3-1", None), ("a", None)] {
            assert_eq!(parse_cpu_list(text), count, "{text:?}");
        }
    }
}
