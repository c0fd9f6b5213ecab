//! `galen demo`: the whole way of an event on this machine, from a CPU burst to the flame graph; with `--all`, from an
//! anomaly for each tracer to what it tells of it; with `--storm`, from a thousand nodes to two incidents.
//!
//! The two daemons beside this executable run as children in a temporary directory; other children provoke what is to be
//! caught, in cgroups and on a disk of their own. However the demo ends, all of that goes with it.

mod all;
mod anomalies;
mod child;
mod storm;
mod story;
mod summary;

pub(crate) use child::{Tethered, exec_tethered};

use std::{
    env,
    io::{self, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use galen_provoke::{Cgroup, Disk};
use galen_runtime::signal;
use galen_simulate::Fleet;
use tokio::time::{Instant, sleep_until, timeout_at};

use self::{child::Child, story::Story};
use crate::{
    arguments::{self, CHILD},
    error,
};

const DAEMONS: [&str; 2] = ["galen-aggregator", "galen-agent"];
/// What comes before the arguments of a load, when this program is one.
pub(crate) const LOAD: [&str; 2] = [CHILD, "load"];
/// Without `--for`, the burst must have been caught after this time, and with `--all` everything.
const PATIENCE: Duration = Duration::from_secs(120);
const PATIENCE_WITH_ALL: Duration = Duration::from_secs(900);
/// A storm takes so much longer than the nodes tell.
const PATIENCE_WITH_STORM: Duration = Duration::from_secs(600);
/// Lines of each daemon's log that are shown after a failure.
const LOG_TAIL: usize = 15;

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("the demo loads BPF programs and makes a cgroup, which needs root: try `sudo {0}`")]
    NotRoot(String),
    #[error("`{0}` is not beside this program; `make release` builds all three")]
    NoDaemon(PathBuf),
    #[error("{0} ended: {1}; the last lines of its log are above")]
    DaemonEnded(&'static str, std::process::ExitStatus),
    #[error("cpuidle does not work on this machine: {0}")]
    Unsupported(String),
    #[error("failed to {what}")]
    Machine {
        what: String,
        #[source]
        source: io::Error,
    },
    #[error("not caught within {0:?}: it ended at \"{1}\"; the last lines of the daemons' logs are above")]
    NotCaught(Duration, String),
    #[error("the capture has no frame `{0}`")]
    WrongProfile(&'static str),
    #[error(transparent)]
    Provoke(#[from] galen_provoke::Error),
    #[error("the kernel limits no memory of cgroups here")]
    NoLimit,
    #[error("not caught: {0}; the last lines of the daemons' logs are above")]
    Missed(String),
    #[error("not what the nodes told: {0}")]
    Inexact(String),
    #[error("the recorded evidence cannot be read")]
    Recorded(#[from] prost::DecodeError),
    #[error(transparent)]
    Simulate(#[from] galen_simulate::Error),
    #[error("interrupted before it was caught")]
    Interrupted,
}

/// What is on this machine for the time of the demo. Dropped in this order.
struct Stage {
    fleets: Vec<Fleet>,
    /// Before the loads, which do not end while they wait for it.
    disk: Option<Disk>,
    loads: Vec<Child>,
    agent: Option<Child>,
    aggregator: Option<Child>,
    /// After what runs in them.
    cgroups: Vec<Cgroup>,
    dir: tempfile::TempDir,
}

pub(crate) async fn run(arguments: arguments::Demo) -> Result<(), error::Error> {
    let storm = arguments.storm.storm.then_some(&arguments.storm);
    let programs = find_daemons(storm.is_some())?;
    let started = Instant::now();
    let dir = tempfile::Builder::new().prefix("galen-demo-").tempdir();
    let dir = dir.map_err(|source| Error::Machine { what: "make a temporary directory".into(), source })?;
    let mut stage = Stage {
        fleets: Vec::new(),
        disk: None,
        loads: Vec::new(),
        agent: None,
        aggregator: None,
        cgroups: Vec::new(),
        dir,
    };

    let lasts = arguments.limit.map_or(storm::LASTS, |limit| limit.0);
    let limit = match (storm, arguments.limit) {
        (Some(_), _) => lasts + PATIENCE_WITH_STORM,
        (None, Some(limit)) => limit.0,
        (None, None) if arguments.all => PATIENCE_WITH_ALL,
        (None, None) => PATIENCE,
    };
    let mut story = Story::new(started);
    let telling = async {
        match storm {
            Some(storm) => story.tell_storm(&mut stage, &programs, storm, lasts).await,
            None if arguments.all => story.tell_all(&mut stage, &programs).await,
            None => story.tell(&mut stage, &programs).await,
        }
    };
    let caught = tokio::select! {
        caught = timeout_at(started + limit, telling) => caught.ok(),
        () = signal::terminated() => Some(Err(Error::Interrupted.into())),
    };
    let result = caught.unwrap_or_else(|| Err(Error::NotCaught(limit, story.now().to_owned()).into()));
    let shown = match &result {
        Ok(()) => linger(arguments.limit.map(|limit| started + limit.0)).await,
        Err(error::Error::Demo(Error::Interrupted)) => Ok(()),
        Err(_) => show_logs(&stage),
    };
    signal::on_second_signal_exit();
    stage.clear().await;
    shown?;
    result
}

impl Stage {
    /// Ends what provokes.
    async fn calm(&mut self) {
        self.disk = None;
        for load in self.loads.drain(..) {
            load.end().await;
        }
        self.cgroups.clear();
    }

    /// Nothing comes of a daemon that has ended.
    fn look(&mut self) -> Result<(), Error> {
        for child in [&mut self.aggregator, &mut self.agent].into_iter().flatten() {
            if let Some(status) = child.ended() {
                return Err(Error::DaemonEnded(child.name, status));
            }
        }
        Ok(())
    }

    /// In the order of the data path, so that nothing is cut off on its way.
    async fn end_daemons(&mut self) {
        for daemon in [self.agent.take(), self.aggregator.take()].into_iter().flatten() {
            daemon.end().await;
        }
    }

    async fn clear(mut self) {
        self.fleets.clear();
        self.calm().await;
        self.end_daemons().await;
    }
}

/// Simulated nodes need neither root nor an agent.
fn find_daemons(are_simulated: bool) -> Result<[PathBuf; 2], Error> {
    let own =
        env::current_exe().map_err(|source| Error::Machine { what: "find this program's own file".into(), source })?;
    let is_root = rustix::process::geteuid().is_root();
    if !is_root && !are_simulated {
        return Err(Error::NotRoot(format!("{} demo", own.display())));
    }
    let dir = own.parent().unwrap_or(Path::new("/"));
    let programs = DAEMONS.map(|name| dir.join(name));
    let needed = if is_root { &programs[..] } else { &programs[..1] };
    match needed.iter().find(|program| !program.is_file()) {
        Some(missing) => Err(Error::NoDaemon(missing.clone())),
        None => Ok(programs),
    }
}

/// Leaves everything running to be looked at, until the time is over or a signal comes.
async fn linger(until: Option<Instant>) -> io::Result<()> {
    writeln!(io::stdout(), "\n{}", if until.is_some() { "Ends by itself." } else { "Ctrl-C ends it." })?;
    let over = async {
        match until {
            Some(until) => sleep_until(until).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = over => {}
        () = signal::terminated() => {}
    }
    Ok(())
}

fn show_logs(stage: &Stage) -> io::Result<()> {
    let mut err = io::stderr().lock();
    for child in [&stage.aggregator, &stage.agent].into_iter().flatten().chain(&stage.loads) {
        writeln!(err, "\n--- {}", child.name)?;
        child.log_tail(LOG_TAIL).iter().try_for_each(|line| writeln!(err, "{line}"))?;
    }
    writeln!(err)
}
