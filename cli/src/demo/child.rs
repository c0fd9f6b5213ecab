//! Children that end with the demo, whatever becomes of it: they are started through [`exec_tethered`], which asks the
//! kernel to end them with their parent, and have a process group of their own, so that Ctrl-C reaches the demo alone.

use std::{
    env,
    ffi::OsString,
    fs::{self, File},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{self, ExitStatus, Stdio},
    time::Duration,
};

use clap::Args;
use rustix::process::{Pid, Signal, getppid, kill_process, set_parent_process_death_signal};
use tokio::{process::Command, time::timeout};

use super::Error;
use crate::{arguments, error, output::plain};

/// A daemon drains this long at most after SIGTERM; then it is killed.
const DRAIN: Duration = Duration::from_secs(12);

/// Begins the names of environment variables that are settings.
const SETTINGS: &[u8] = b"GALEN_";

/// A program to run for as long as the parent lives.
#[derive(Debug, Args)]
pub(crate) struct Tethered {
    #[arg(long)]
    parent: i32,
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    command: Vec<OsString>,
}

/// A running child.
pub(super) struct Child {
    pub(super) name: &'static str,
    process: tokio::process::Child,
    log: PathBuf,
}

/// Becomes the program. Returns only if it cannot.
pub(crate) fn exec_tethered(arguments: Tethered) -> Result<(), error::Error> {
    let machine = |what: &str, source| Error::Machine { what: what.to_owned(), source };
    set_parent_process_death_signal(Some(Signal::TERM))
        .map_err(|errno| machine("tie a child to its parent", errno.into()))?;
    // The parent may have ended before that.
    if getppid().map(Pid::as_raw_pid) != Some(arguments.parent) {
        return Ok(());
    }
    let mut command = arguments.command.into_iter();
    let program = command.next().unwrap_or_default();
    let source = process::Command::new(&program).args(command).exec();
    Err(machine(&format!("run {}", Path::new(&program).display()), source).into())
}

impl Child {
    /// Starts `program`, with its output in `dir`.
    pub(super) fn start(name: &'static str, program: &Path, words: &[OsString], dir: &Path) -> Result<Self, Error> {
        let machine = |source| Error::Machine { what: format!("start {name}"), source };
        let log = dir.join(format!("{name}.log"));
        let output = File::create(&log).map_err(machine)?;
        let mut command = Command::new(env::current_exe().map_err(machine)?);
        // Settings of a real installation are not meant for the demo.
        for (name, _) in env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(SETTINGS)) {
            command.env_remove(name);
        }
        let process = command
            .args([arguments::CHILD, "tethered", "--parent", &process::id().to_string(), "--"])
            .arg(program)
            .args(words)
            .stdin(Stdio::null())
            .stdout(output.try_clone().map_err(machine)?)
            .stderr(output)
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(machine)?;
        Ok(Self { name, process, log })
    }

    /// Of its process, as long as it has not ended.
    pub(super) fn id(&self) -> u32 {
        self.process.id().unwrap_or_default()
    }

    /// Its exit status, if it has ended.
    pub(super) fn ended(&mut self) -> Option<ExitStatus> {
        self.process.try_wait().ok().flatten()
    }

    /// Asks it to end, waits, and kills it if that takes too long.
    pub(super) async fn end(mut self) {
        if let Some(pid) = self.process.id().and_then(|pid| Pid::from_raw(pid.cast_signed())) {
            // Not waited for yet, so the id is still its own.
            let _ = kill_process(pid, Signal::TERM);
        }
        if timeout(DRAIN, self.process.wait()).await.is_err() {
            let _ = self.process.kill().await;
        }
    }

    /// The last lines of what it said, fit for a terminal.
    pub(super) fn log_tail(&self, lines: usize) -> Vec<String> {
        let text = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines_in_all = text.lines().count();
        text.lines().skip(lines_in_all.saturating_sub(lines)).map(|line| plain(line).into_owned()).collect()
    }
}
