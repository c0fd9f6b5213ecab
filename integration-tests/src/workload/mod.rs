//! What the anomalies are made of: loads that really happen, each in a process of its own.

mod block;
mod crowd;
mod grow;
mod io;
mod spin;

use std::{fs, path::PathBuf, thread, time::Duration};

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use galen_runtime::Span;
use rustix::process::{Signal, set_parent_process_death_signal};

pub use spin::HOT_FUNCTION;

#[derive(Parser)]
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

#[derive(Subcommand)]
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

impl Arguments {
    pub fn run(self) -> Result<()> {
        // What is started ends with who started it, also if that is killed.
        set_parent_process_death_signal(Some(Signal::KILL))?;
        for cgroup in &self.cgroup {
            fs::write(cgroup.join("cgroup.procs"), std::process::id().to_string())
                .with_context(|| format!("failed to join {}", cgroup.display()))?;
        }
        let lasts: Duration = self.lasts.0;
        match self.load {
            Load::Spin(load) => load.run(lasts),
            Load::Grow(load) => load.run(lasts),
            Load::Block(load) => load.run(lasts),
            Load::Crowd(load) => load.run(lasts),
            Load::Io(load) => load.run(lasts),
        }
    }
}

/// Each gets its place, from 0.
fn in_threads(count: usize, work: impl Fn(usize) -> Result<()> + Sync) -> Result<()> {
    let work = &work;
    thread::scope(|scope| {
        let threads: Vec<_> = (0..count).map(|place| scope.spawn(move || work(place))).collect();
        threads.into_iter().try_for_each(|thread| thread.join().map_err(|_| anyhow::anyhow!("a thread panicked"))?)
    })
}
