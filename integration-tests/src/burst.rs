//! A CPU burst for real: a child process that spins in a function with a known name, in a cgroup of its own.

use std::time::Duration;

use anyhow::Result;
use galen_provoke::Cgroup;
pub use galen_provoke::HOT_FUNCTION;
use galen_runtime::Span;

use crate::process::{Process, program};

pub struct Burst {
    // Before the cgroup, which can be removed only when it is empty.
    _process: Process,
    pub cgroup: Cgroup,
}

impl Burst {
    /// Begins to spin on `threads` threads in the new CPU cgroup `path`, for `length` at most.
    pub fn start(path: &str, threads: usize, length: Duration, log: std::path::PathBuf) -> Result<Self> {
        Self::in_cgroup(Cgroup::cpu(path)?, threads, length, log)
    }

    /// The same in a cgroup that may use `cpus` CPUs.
    pub fn start_limited(
        path: &str,
        threads: usize,
        cpus: f64,
        length: Duration,
        log: std::path::PathBuf,
    ) -> Result<Self> {
        let cgroup = Cgroup::cpu(path)?;
        cgroup.limit_cpus(cpus)?;
        cgroup.prefer()?;
        Self::in_cgroup(cgroup, threads, length, log)
    }

    fn in_cgroup(cgroup: Cgroup, threads: usize, length: Duration, log: std::path::PathBuf) -> Result<Self> {
        let mut arguments = vec![format!("--lasts={}", Span(length))];
        arguments.extend(cgroup.folders.iter().map(|folder| format!("--cgroup={}", folder.display())));
        arguments.extend(["spin".to_owned(), format!("--threads={threads}")]);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let process = Process::start(&program("galen-fault")?, &arguments, log)?;
        Ok(Self { _process: process, cgroup })
    }
}
