//! One server, or one cluster.

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::{ports::Block, script};

/// How often it is looked whether a process has ended, and how long.
const LOOK: (Duration, u32) = (Duration::from_millis(20), 1500);

/// A running server.
#[derive(Debug)]
pub struct Server {
    kind: &'static str,
    ports: Block,
    more: Vec<String>,
    directory: TempDir,
}

impl Server {
    pub(crate) fn start(kind: &'static str, more: &[&str]) -> Self {
        Self::start_in(&std::env::temp_dir(), kind, more)
    }

    /// With its directory in this one.
    pub(crate) fn start_in(place: &Path, kind: &'static str, more: &[&str]) -> Self {
        let directory = tempfile::Builder::new().prefix(&format!("galen-{kind}-")).tempdir_in(place).unwrap();
        let more = more.iter().map(|&text| text.to_owned()).collect();
        let server = Self { kind, ports: Block::take(), more, directory };
        server.restart();
        server
    }

    /// Of the first broker, where there are several.
    pub fn port(&self) -> u16 {
        self.ports.first
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port())
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address())
    }

    /// The addresses of all brokers, the way Kafka's clients take them.
    pub fn brokers(&self) -> String {
        let count = if self.kind == "kafka3" { 3 } else { 1 };
        let addresses: Vec<_> = (0..count).map(|broker| format!("127.0.0.1:{}", self.port() + broker)).collect();
        addresses.join(",")
    }

    /// Where its data, its configuration and its log lie.
    pub fn directory(&self) -> PathBuf {
        self.directory.path().to_owned()
    }

    /// Starts it again on its data, after [`Server::stop`] or [`Server::kill`].
    pub fn restart(&self) {
        let (directory, port) = (self.directory(), self.port().to_string());
        let mut arguments = vec!["start", self.kind, directory.to_str().unwrap(), &port];
        arguments.extend(self.more.iter().map(String::as_str));
        script(&arguments);
    }

    /// SIGTERM, and waits for its end.
    pub fn stop(&self) {
        script(&["stop", self.directory().to_str().unwrap()]);
    }

    /// SIGKILL, and waits for its end; all brokers of a cluster.
    pub fn kill(&self) {
        self.directories().iter().for_each(|directory| end(directory));
    }

    /// SIGKILL for one broker of a cluster, counted from one.
    pub fn kill_broker(&self, broker: u16) {
        end(&self.directory().join(broker.to_string()));
    }

    /// Starts one broker of a cluster again, counted from one.
    pub fn restart_broker(&self, broker: u16) {
        let directory = self.directory().join(broker.to_string());
        script(&["start", "kafka", directory.to_str().unwrap(), &(self.port() + broker - 1).to_string()]);
    }

    /// Lets it hang, its connections open, until [`Server::resume`].
    pub fn pause(&self) {
        for pid in self.pids() {
            kill_process(pid, Signal::STOP).unwrap();
            // On a busy machine the signal takes a while to reach all threads.
            for _ in 0..LOOK.1 {
                if is_stopped(pid) {
                    break;
                }
                thread::sleep(LOOK.0);
            }
        }
    }

    pub fn resume(&self) {
        self.pids().into_iter().for_each(|pid| kill_process(pid, Signal::CONT).unwrap());
    }

    fn pids(&self) -> Vec<Pid> {
        self.directories().iter().filter_map(|directory| pid(directory)).collect()
    }

    /// Where a `pid` may lie: of the one server, or of each broker.
    fn directories(&self) -> Vec<PathBuf> {
        let directory = self.directory();
        let brokers = (1..=3).map(|broker| directory.join(broker.to_string()));
        std::iter::once(directory.clone()).chain(brokers).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

fn pid(directory: &Path) -> Option<Pid> {
    let text = fs::read_to_string(directory.join("pid")).ok()?;
    Pid::from_raw(text.trim().parse().ok()?)
}

/// Whether all threads of a process are stopped.
fn is_stopped(pid: Pid) -> bool {
    let tasks = fs::read_dir(format!("/proc/{}/task", pid.as_raw_nonzero())).unwrap();
    // A thread that has ended meanwhile runs no more.
    let states = tasks.flatten().filter_map(|task| fs::read_to_string(task.path().join("stat")).ok());
    states.into_iter().all(|stat| stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(['T', 't'])))
}

/// SIGKILL, and waits until the process is gone.
fn end(directory: &Path) {
    let Some(pid) = pid(directory) else { return };
    // It may have ended by itself.
    let _ = kill_process(pid, Signal::KILL);
    // Somebody else may get the number.
    let _ = fs::remove_file(directory.join("pid"));
    for _ in 0..LOOK.1 {
        if has_ended(pid) {
            return;
        }
        thread::sleep(LOOK.0);
    }
}

/// Whether a process is gone, or waits for its parent to ask how it ended: not every first process of a container asks.
fn has_ended(pid: Pid) -> bool {
    let process = PathBuf::from(format!("/proc/{}", pid.as_raw_nonzero()));
    let Ok(stat) = fs::read_to_string(process.join("stat")) else { return true };
    // Its first thread may have ended before the others.
    let threads = fs::read_dir(process.join("task")).map_or(0, Iterator::count);
    threads <= 1 && stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(['Z', 'X']))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_process_that_nobody_has_waited_for_has_ended() {
        let directory = tempfile::tempdir().unwrap();
        let endings: [fn(&Path); 2] = [end, |directory| drop(script(&["stop", directory.to_str().unwrap()]))];
        for ending in endings {
            let mut child = Command::new("sleep").arg("600").spawn().unwrap();
            let pid = Pid::from_child(&child);
            fs::write(directory.path().join("pid"), child.id().to_string()).unwrap();
            let before = has_ended(pid);
            ending(directory.path());
            let then = has_ended(pid);
            child.wait().unwrap();
            assert_eq!([before, then, has_ended(pid)], [false, true, true]);
        }
    }
}
