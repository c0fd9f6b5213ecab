//! Anomalies that really happen, for the demo and the tests: loads, each in a process of its own, in cgroups and on
//! disks that are made for them.
//!
//! A program that has [`Arguments`] for some of its own starts itself to be such a load. A load ends with the thread
//! that started it, cgroups and disks go with their handles.

mod block;
mod cgroup;
mod crowd;
mod disk;
mod error;
mod grow;
mod io;
mod spin;

use std::{
    ffi::OsString,
    fs,
    path::PathBuf,
    process::{self, Command},
    thread,
    time::Duration,
};

use clap::{Parser, Subcommand};
use galen_runtime::Span;
use rustix::process::{Signal, set_parent_process_death_signal};

pub use cgroup::Cgroup;
pub use disk::{Disk, Shape};
pub use error::Error;
pub use spin::HOT_FUNCTION;

use error::Context;

#[derive(Debug, Parser)]
#[command(name = "galen-fault", about = "Provokes one anomaly for real")]
pub struct Arguments {
    /// Folders of cgroups to join first.
    #[arg(long)]
    cgroup: Vec<PathBuf>,
    /// How long it lasts.
    #[arg(long, default_value = "60s")]
    lasts: Span,
    #[command(subcommand)]
    load: Load,
}

#[derive(Debug, Subcommand)]
enum Load {
    /// Use CPU time.
    Spin(spin::Spin),
    /// Take memory.
    Grow(grow::Grow),
    /// Wait uninterruptibly: state D.
    Block(block::Block),
    /// Many threads that sleep.
    Crowd(crowd::Crowd),
    /// Read or write a disk.
    Io(io::Io),
}

/// This program once more, to be a load itself.
struct Again<'a> {
    /// What comes before its [`Arguments`].
    words: &'a [&'a str],
}

impl Arguments {
    /// `words`: the arguments of this program that come before these.
    ///
    /// # Errors
    /// What the machine refused.
    pub fn run(self, words: &[&str]) -> Result<(), Error> {
        // What is started ends with who started it, also if that is killed.
        set_parent_process_death_signal(Some(Signal::KILL)).to(|| "tie a load to its parent".into())?;
        for cgroup in &self.cgroup {
            fs::write(cgroup.join("cgroup.procs"), process::id().to_string())
                .to(|| format!("join the cgroup {}", cgroup.display()))?;
        }
        let (lasts, again): (Duration, _) = (self.lasts.0, Again { words });
        match self.load {
            Load::Spin(load) => load.run(lasts, &again),
            Load::Grow(load) => load.run(lasts),
            Load::Block(load) => load.run(lasts, &again),
            Load::Crowd(load) => load.run(lasts),
            Load::Io(load) => load.run(lasts),
        }
    }
}

impl Again<'_> {
    fn command(&self, lasts: Duration, load: &[&str]) -> Result<Command, Error> {
        let own = std::env::current_exe().to(|| "find this program's own file".into())?;
        let mut command = Command::new(own);
        command.args(self.words).arg(OsString::from(format!("--lasts={}", Span(lasts)))).args(load);
        Ok(command)
    }
}

/// Each gets its place, from 0.
fn in_threads(count: usize, work: impl Fn(usize) -> Result<(), Error> + Sync) -> Result<(), Error> {
    let work = &work;
    thread::scope(|scope| {
        let threads: Vec<_> = (0..count).map(|place| scope.spawn(move || work(place))).collect();
        // A thread that panicked ends all, as the scope does too.
        threads.into_iter().filter_map(|thread| thread.join().ok()).collect()
    })
}
