//! Many agents on real connections from one process: what an aggregator takes for each of them, and how long it needs
//! for all when they come back at once.
//!
//! - `agent`: one of them. It speaks as a real agent does, but has neither tracers nor a buffer.
//! - `run`: the measurement, as `galen-load` and the benchmarks make it.
//!
//! Each keeps what it recorded until it is acknowledged, and sends it again after a reconnection; so at the end all that
//! was recorded must be acknowledged, and the log must have it once.

mod agent;
mod certificates;
mod run;

use std::{
    fmt,
    net::{Ipv4Addr, SocketAddr},
    ops::Range,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Result;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{sync::watch, task::JoinSet};

use crate::wait;
use agent::{Agent, Target, Words};
use certificates::Certificates;

pub use run::{Arguments, Report, run};

/// Agents that come from one source address: all of `127.0.0.0/8` is this machine, and each address has some 28,000
/// ports for connections, of which those of closed ones are taken for a minute.
const PER_SOURCE: usize = 5000;
/// For what must happen; far more than is measured.
const LIMIT: Duration = Duration::from_secs(300);

/// The agents of this process. They end with it.
pub struct Load {
    count: u64,
    tally: Arc<Tally>,
    orders: watch::Sender<Orders>,
    _agents: JoinSet<()>,
}

/// What all agents do now.
#[derive(Debug, Clone, Copy, Default)]
struct Orders {
    /// From one event of an agent to its next.
    every: Option<Duration>,
    /// When it goes up, each drops its connection, records an event and comes back.
    rounds: u64,
}

/// What happened to all of them.
#[derive(Debug, Default)]
struct Tally {
    connected: AtomicU64,
    recorded: AtomicU64,
    acknowledged: AtomicU64,
    /// Told to come later.
    refused: AtomicU64,
    /// Connections and sessions that failed for another reason.
    failed: AtomicU64,
    waits: Waits,
}

/// How long events waited for their acknowledgements.
#[derive(Default)]
struct Waits(Mutex<Vec<Duration>>);

impl Waits {
    fn add(&self, waits: impl Iterator<Item = Duration>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(waits);
    }

    fn take(&self) -> Vec<Duration> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl fmt::Debug for Waits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

impl Load {
    /// Connects the agents with these numbers, all at once, and waits until each is welcomed.
    pub async fn start(aggregator: SocketAddr, agents: Range<usize>) -> Result<Self> {
        Self::of(targets(aggregator, agents, None)?).await
    }

    async fn of(targets: Vec<Target>) -> Result<Self> {
        raise_file_limit();
        let (tally, orders, words) = (Arc::new(Tally::default()), watch::Sender::default(), Arc::new(Words::new()?));
        let (mut running, count) = (JoinSet::new(), targets.len() as u64);
        for target in targets {
            let agent = Agent::new(target, Arc::clone(&words), Arc::clone(&tally), orders.subscribe());
            #[allow(clippy::disallowed_methods, reason = "they end with the set that owns them")]
            running.spawn(agent.run());
        }
        let load = Self { count, tally, orders, _agents: running };
        load.until("all agents to be connected", |tally| tally.connected.load(Ordering::Relaxed) == load.count).await?;
        Ok(load)
    }

    /// From now on each records an event so often, beginning at a moment of its own.
    pub fn record(&self, every: Duration) {
        self.orders.send_modify(|orders| orders.every = Some(every));
    }

    /// Nothing more is recorded; waits until all that was is acknowledged.
    pub async fn settle(&self) -> Result<()> {
        self.orders.send_modify(|orders| orders.every = None);
        let settled = |tally: &Tally| tally.acknowledged.load(Ordering::Relaxed) == self.recorded();
        self.until("all that was recorded to be acknowledged", settled).await
    }

    /// All drop their connections at once, record an event each and come back. Returns how long it took until all of
    /// that was acknowledged.
    pub async fn reconnect(&self) -> Result<Duration> {
        let (began, before) = (Instant::now(), self.recorded());
        self.orders.send_modify(|orders| {
            orders.every = None;
            orders.rounds += 1;
        });
        self.until("all agents to be back and acknowledged", |tally| {
            tally.recorded.load(Ordering::Relaxed) >= before + self.count
                && tally.acknowledged.load(Ordering::Relaxed) == self.recorded()
        })
        .await?;
        Ok(began.elapsed())
    }

    /// Events of all agents so far.
    pub fn recorded(&self) -> u64 {
        self.tally.recorded.load(Ordering::Relaxed)
    }

    /// How long each event waited that was acknowledged since this was asked.
    pub fn waits(&self) -> Vec<Duration> {
        self.tally.waits.take()
    }

    /// How often one was told to come later.
    pub fn refused(&self) -> u64 {
        self.tally.refused.load(Ordering::Relaxed)
    }

    /// How often a connection or a session failed for another reason.
    pub fn failed(&self) -> u64 {
        self.tally.failed.load(Ordering::Relaxed)
    }

    async fn until(&self, what: &str, met: impl Fn(&Tally) -> bool) -> Result<()> {
        let met = || std::future::ready(Ok(met(&self.tally).then_some(())));
        wait::until(what, LIMIT, met).await.map_err(|error| error.context(format!("{:?}", self.tally)))
    }
}

/// What each agent dials, and with what: a certificate of its own, if there are any.
fn targets(aggregator: SocketAddr, agents: Range<usize>, certificates: Option<&Certificates>) -> Result<Vec<Target>> {
    let target = |place: usize| {
        let source = Ipv4Addr::new(127, 1, 0, u8::try_from(1 + place / PER_SOURCE)?);
        Target::new(place, source.into(), aggregator, certificates)
    };
    agents.map(target).collect()
}

/// Each agent is an open file.
fn raise_file_limit() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    // If it fails, connections will, and say so.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}
