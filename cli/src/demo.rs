//! `galen demo`: the whole way of an event on this machine, from a CPU burst to the flame graph.
//!
//! The two daemons beside this executable run as children in a temporary directory; a third child is busy in a cgroup
//! of its own. However the demo ends, the children end with it, and the cgroup and the directory are removed.

pub(crate) mod burst;
mod cgroup;
mod child;
mod story;
mod summary;

pub(crate) use child::{Tethered, exec_tethered};

use std::{
    env,
    io::{self, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use galen_runtime::signal;
use tokio::time::{Instant, sleep_until, timeout_at};

use self::{cgroup::Cgroup, child::Child, story::Story};
use crate::{arguments, error};

const DAEMONS: [&str; 2] = ["galen-aggregator", "galen-agent"];
/// Without `--for`, the burst must have been caught after this time.
const PATIENCE: Duration = Duration::from_secs(120);
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
    #[error(
        "the burst was not caught within {0:?}: it ended at \"{1}\"; the last lines of the daemons' logs are above"
    )]
    NotCaught(Duration, String),
    #[error("the capture has no frame `{0}`")]
    WrongProfile(&'static str),
    #[error("interrupted before the burst was caught")]
    Interrupted,
}

/// What is on this machine for the time of the demo. Dropped in this order.
struct Stage {
    burst: Option<Child>,
    agent: Option<Child>,
    aggregator: Option<Child>,
    cgroup: Cgroup,
    dir: tempfile::TempDir,
}

pub(crate) async fn run(arguments: arguments::Demo) -> Result<(), error::Error> {
    let programs = find_daemons()?;
    let started = Instant::now();
    let dir = tempfile::Builder::new().prefix("galen-demo-").tempdir();
    let dir = dir.map_err(|source| Error::Machine { what: "make a temporary directory".into(), source })?;
    let cgroup = Cgroup::create(&format!("galen-demo-{}", std::process::id()))?;
    let mut stage = Stage { burst: None, agent: None, aggregator: None, cgroup, dir };

    let limit = arguments.limit.map_or(PATIENCE, |limit| limit.0);
    let mut story = Story::new(started);
    let caught = tokio::select! {
        caught = timeout_at(started + limit, story.tell(&mut stage, &programs)) => caught.ok(),
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
    /// Ends the children in the order of the data path, so that nothing is cut off on its way.
    async fn clear(mut self) {
        for child in [self.burst.take(), self.agent.take(), self.aggregator.take()].into_iter().flatten() {
            child.end().await;
        }
        self.cgroup.remove().await;
    }
}

fn find_daemons() -> Result<[PathBuf; 2], Error> {
    let own =
        env::current_exe().map_err(|source| Error::Machine { what: "find this program's own file".into(), source })?;
    if !rustix::process::geteuid().is_root() {
        return Err(Error::NotRoot(format!("{} demo", own.display())));
    }
    let dir = own.parent().unwrap_or(Path::new("/"));
    let programs = DAEMONS.map(|name| dir.join(name));
    match programs.iter().find(|program| !program.is_file()) {
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
    for child in [&stage.aggregator, &stage.agent].into_iter().flatten() {
        writeln!(err, "\n--- {}", child.name)?;
        child.log_tail(LOG_TAIL).iter().try_for_each(|line| writeln!(err, "{line}"))?;
    }
    writeln!(err)
}
