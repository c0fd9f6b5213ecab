//! A CPU burst for real: a child process that spins in a function with a known name, in a cgroup of its own.

use std::time::Duration;

use anyhow::Result;

use crate::{
    cgroup::Cgroup,
    process::{Process, program},
};

/// The function in which the child spins.
pub const HOT_FUNCTION: &str = "galen_test_hot_function";

pub struct Burst {
    // Before the cgroup, which can be removed only when it is empty.
    _process: Process,
    pub cgroup: Cgroup,
}

impl Burst {
    /// Begins to spin on `threads` threads in the new CPU cgroup `path`, for `length` at most.
    pub fn start(path: &str, threads: usize, length: Duration, log: std::path::PathBuf) -> Result<Self> {
        let cgroup = Cgroup::cpu(path)?;
        let mut arguments = vec![format!("--threads={threads}"), format!("--seconds={}", length.as_secs_f64())];
        arguments.extend(cgroup.folders.iter().map(|folder| format!("--cgroup={}", folder.display())));
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let process = Process::start(&program("galen-test-burst")?, &arguments, log)?;
        Ok(Self { _process: process, cgroup })
    }
}
