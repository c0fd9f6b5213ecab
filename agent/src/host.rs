//! The machine as its events describe it, and what of the kernel's facilities it offers to tracers.
//!
//! Each facility that is missing is told in one line at the start, with what it takes away and what still works; the
//! agent goes on with the rest.

use std::{io, path::Path};

use galen_proto::v1;
use rustix::{process::geteuid, system::uname};

use crate::cgroup::{Hierarchies, parse_cpu_list};

const BTF: &str = "/sys/kernel/btf/vmlinux";
const TRACEFS: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];
const BPFFS: &str = "/sys/fs/bpf";

/// The description that every event carries.
pub fn describe(region: &str) -> v1::Host {
    let system = uname();
    let text = |part: &std::ffi::CStr| part.to_string_lossy().into_owned();
    v1::Host {
        name: text(system.nodename()),
        kernel: text(system.release()),
        arch: text(system.machine()),
        boot_id: std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned(),
        cpus: online_cpus(),
        region: region.to_owned(),
    }
}

/// CPUs online, at least 1.
pub fn online_cpus() -> u32 {
    let list = std::fs::read_to_string("/sys/devices/system/cpu/online").ok();
    list.and_then(|text| parse_cpu_list(&text)).unwrap_or(1).max(1)
}

/// What tracers may build on.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    /// Whether the process is root, as loading BPF programs needs.
    pub root: bool,
    /// Whether the kernel describes its types, as BPF programs that fit every kernel need.
    pub btf: bool,
    /// Whether tracepoints can be looked up.
    pub tracefs: bool,
    /// Whether there is a file system for pinned BPF objects. Nothing is pinned today.
    pub bpffs: bool,
    pub hierarchies: Hierarchies,
    pub cpus: u32,
}

impl Environment {
    pub fn detect() -> Self {
        let hierarchies = Hierarchies::detect().unwrap_or_else(|error| {
            tracing::warn!(%error, "failed to read /proc/self/mountinfo: cgroups are not watched");
            Hierarchies::default()
        });
        Self {
            root: geteuid().is_root(),
            btf: Path::new(BTF).exists(),
            tracefs: TRACEFS.iter().any(|mount| Path::new(mount).join("events").exists()),
            bpffs: is_bpffs(BPFFS).unwrap_or(false),
            hierarchies,
            cpus: online_cpus(),
        }
    }

    /// What is missing: one line each.
    pub fn missing(&self) -> Vec<&'static str> {
        let lines = [
            (
                self.root,
                "not root: no BPF programs (no CPU profiles, no OOM kills); bursts of CPU and memory are still detected",
            ),
            (
                self.btf,
                "no BTF at /sys/kernel/btf/vmlinux: no BPF programs (no CPU profiles, no OOM kills); bursts of CPU and memory are still detected",
            ),
            (
                self.tracefs,
                "no tracefs at /sys/kernel/tracing: tracepoints that need it cannot be attached; tracers on BTF tracepoints, perf events, cgroups and procfs still work",
            ),
            (
                self.bpffs,
                "no bpffs at /sys/fs/bpf: BPF objects cannot be pinned; nothing pins any, so every tracer still works",
            ),
        ];
        lines.into_iter().filter(|(there, _)| !there).map(|(_, line)| line).collect()
    }

    /// Why no BPF program can be loaded; `None` if nothing speaks against it.
    pub fn without_bpf(&self) -> Option<&'static str> {
        match (self.root, self.btf) {
            (false, _) => Some("not root, so no BPF program can be loaded"),
            (_, false) => Some("the kernel has no BTF, so no BPF program can be loaded"),
            _ => None,
        }
    }
}

fn is_bpffs(path: &str) -> io::Result<bool> {
    const BPF_FS_MAGIC: i64 = 0xcafe_4a11;
    let stat = rustix::fs::statfs(path)?;
    #[allow(clippy::unnecessary_cast, reason = "the type of f_type differs by architecture")]
    Ok(stat.f_type as i64 == BPF_FS_MAGIC)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_thing_that_is_missing_is_told_in_a_line_with_what_still_works() {
        let nothing = Environment::default();
        let lines = nothing.missing();
        assert_eq!(lines.len(), 4);
        for (line, what) in lines.iter().zip(["not root", "BTF", "tracefs", "bpffs"]) {
            assert!(line.contains(what) && line.contains("still"), "{line}");
        }
        let all = Environment { root: true, btf: true, tracefs: true, bpffs: true, ..Default::default() };
        assert!(all.missing().is_empty());
        assert_eq!(all.without_bpf(), None);
    }

    #[test]
    fn the_host_is_described() {
        let host = describe("eu-1");
        assert!(!host.name.is_empty() && !host.kernel.is_empty() && host.boot_id.len() == 36);
        assert!(host.cpus >= 1);
        assert_eq!(host.region, "eu-1");
    }
}
