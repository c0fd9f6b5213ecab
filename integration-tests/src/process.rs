//! A program of ours as a child process, its output in a file.

use std::{
    fs::{self, File},
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::wait;

/// Path of a program that the workspace's build has made.
pub fn program(name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    // Programs lie in the profile's folder, tests in `deps` below it.
    let folders = own.ancestors().skip(1).take(2);
    let found = folders.map(|folder| folder.join(name)).find(|path| path.is_file());
    found.with_context(|| format!("`{name}` is not built: run `cargo build --workspace` with the same profile"))
}

pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `program` with its output appended to `log`.
    pub fn start(program: &Path, arguments: &[&str], log: PathBuf) -> Result<Self> {
        let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let output = File::options().create(true).append(true).open(&log)?;
        let child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("failed to start {}", program.display()))?;
        Ok(Self { name, child, log })
    }

    /// Takes over a child that writes to `log`.
    pub fn adopt(child: Child, log: PathBuf) -> Self {
        Self { name: format!("process {}", child.id()), child, log }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// SIGKILL: nothing in it gets to run again.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        let status = self.child.wait()?;
        ensure!(status.signal() == Some(9), "{} had ended before it was killed: {status}\n{}", self.name, self.tail());
        Ok(())
    }

    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_raw(i32::try_from(self.pid())?).context("a pid is not zero")?;
        Ok(kill_process(pid, signal)?)
    }

    /// SIGTERM, and the exit status.
    pub async fn terminate(&mut self, limit: Duration) -> Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        let name = format!("{} to end", self.name);
        let child = &mut self.child;
        let status = wait::until(&name, limit, || std::future::ready(child.try_wait().map_err(Into::into))).await;
        status.with_context(|| self.tail())
    }

    /// The last lines that it wrote.
    pub fn tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        format!("last output of {}:\n{}", self.name, lines[lines.len().saturating_sub(15)..].join("\n"))
    }

    /// Whether it has a file open whose path contains `part`.
    pub fn has_open(&self, part: &str) -> bool {
        let Ok(files) = fs::read_dir(format!("/proc/{}/fd", self.pid())) else { return false };
        let mut paths = files.flatten().filter_map(|file| fs::read_link(file.path()).ok());
        paths.any(|path| path.to_string_lossy().contains(part))
    }

    /// CPU time so far and resident memory now.
    pub fn usage(&self) -> Result<Usage> {
        Usage::of(self.pid())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a process has taken.
#[derive(Debug, Clone, Copy)]
pub struct Usage {
    pub cpu: Duration,
    pub resident_bytes: u64,
    pub peak_resident_bytes: u64,
}

impl Usage {
    pub fn of(pid: u32) -> Result<Self> {
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let kib = |key: &str| -> Result<u64> {
            let line = status.lines().find_map(|line| line.strip_prefix(key)).context("a line of /proc/PID/status")?;
            Ok(line.split_whitespace().next().context("a number")?.parse::<u64>()? << 10)
        };
        // Of all threads, in nanoseconds, unlike the ticks of /proc/PID/stat.
        let mut cpu = Duration::ZERO;
        for task in fs::read_dir(format!("/proc/{pid}/task"))? {
            let Ok(text) = fs::read_to_string(task?.path().join("schedstat")) else { continue };
            cpu += Duration::from_nanos(text.split_whitespace().next().context("a number")?.parse()?);
        }
        Ok(Self { cpu, resident_bytes: kib("VmRSS:")?, peak_resident_bytes: kib("VmHWM:")? })
    }
}
