//! All nodes of a process, and what happened to them.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::{Error, Habits, Identity, Source, node::Node};

/// Nodes that come from one source address: all of `127.0.0.0/8` is this machine, and each address has some 28,000
/// ports for connections, of which those of closed ones are taken for a minute.
const PER_SOURCE: usize = 5000;
/// For what must happen; far more than is measured.
const LIMIT: Duration = Duration::from_secs(300);
const LOOK: Duration = Duration::from_millis(20);

/// They end with it.
pub struct Fleet {
    count: u64,
    tally: Arc<Tally>,
    orders: watch::Sender<Orders>,
    _nodes: JoinSet<()>,
}

/// What all nodes do now.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Orders {
    /// From one turn of a node to its next.
    pub(crate) every: Option<Duration>,
    /// When it goes up, each drops its connection, takes a turn and comes back.
    pub(crate) rounds: u64,
}

/// What happened to all of them.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) connected: AtomicU64,
    pub(crate) recorded: AtomicU64,
    pub(crate) acknowledged: AtomicU64,
    /// Told to come later.
    pub(crate) refused: AtomicU64,
    /// Connections and sessions that failed for another reason.
    pub(crate) failed: AtomicU64,
    /// How long events waited for their acknowledgements.
    waits: Mutex<Vec<Duration>>,
}

impl Tally {
    pub(crate) fn waited(&self, waits: impl Iterator<Item = Duration>) {
        self.waits.lock().unwrap_or_else(PoisonError::into_inner).extend(waits);
    }
}

impl Fleet {
    /// Connects nodes, all at once, and waits until each is welcomed.
    ///
    /// # Errors
    /// If one is not welcomed in time.
    pub async fn start<S: Source>(
        habits: Habits,
        nodes: impl IntoIterator<Item = (Identity, S)>,
    ) -> Result<Self, Error> {
        if habits.aggregators.is_empty() {
            return Err(Error::NoAggregator);
        }
        raise_file_limit();
        let habits = Arc::new(habits);
        let (tally, orders) = (Arc::new(Tally::default()), watch::Sender::default());
        let (mut running, mut count) = (JoinSet::new(), 0);
        for (place, (identity, source)) in nodes.into_iter().enumerate() {
            let address = u8::try_from(1 + place / PER_SOURCE).map_err(|_| Error::TooMany)?;
            let address = IpAddr::from(Ipv4Addr::new(127, 1, 0, address));
            let (habits, tally, orders) = (Arc::clone(&habits), Arc::clone(&tally), orders.subscribe());
            let node = Node::new(identity, source, habits, address, tally, orders);
            #[allow(clippy::disallowed_methods, reason = "they end with the set that owns them")]
            running.spawn(node.run());
            count += 1;
        }
        let fleet = Self { count, tally, orders, _nodes: running };
        fleet.until("all to be connected", |tally| tally.connected.load(Ordering::Relaxed) == count).await?;
        Ok(fleet)
    }

    /// From now on each takes its turn so often, beginning at a moment of its own.
    pub fn record(&self, every: Duration) {
        self.orders.send_modify(|orders| orders.every = Some(every));
    }

    /// Nothing more is recorded; waits until all that was is acknowledged.
    ///
    /// # Errors
    /// If it is not in time.
    pub async fn settle(&self) -> Result<(), Error> {
        self.orders.send_modify(|orders| orders.every = None);
        let settled = |tally: &Tally| tally.acknowledged.load(Ordering::Relaxed) == self.recorded();
        self.until("all that was recorded to be acknowledged", settled).await
    }

    /// All drop their connections at once, take a turn each and come back. Returns how long it took until all of that was
    /// acknowledged.
    ///
    /// # Errors
    /// If it is not in time.
    pub async fn reconnect(&self) -> Result<Duration, Error> {
        let (began, before) = (Instant::now(), self.recorded());
        self.orders.send_modify(|orders| {
            orders.every = None;
            orders.rounds += 1;
        });
        self.until("all to be back and acknowledged", |tally| {
            tally.recorded.load(Ordering::Relaxed) >= before + self.count
                && tally.acknowledged.load(Ordering::Relaxed) == self.recorded()
        })
        .await?;
        Ok(began.elapsed())
    }

    /// Events of all nodes so far.
    pub fn recorded(&self) -> u64 {
        self.tally.recorded.load(Ordering::Relaxed)
    }

    pub fn acknowledged(&self) -> u64 {
        self.tally.acknowledged.load(Ordering::Relaxed)
    }

    /// How long each event waited that was acknowledged since this was asked.
    pub fn waits(&self) -> Vec<Duration> {
        std::mem::take(&mut *self.tally.waits.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// How often one was told to come later.
    pub fn refused(&self) -> u64 {
        self.tally.refused.load(Ordering::Relaxed)
    }

    /// How often a connection or a session failed for another reason.
    pub fn failed(&self) -> u64 {
        self.tally.failed.load(Ordering::Relaxed)
    }

    async fn until(&self, what: &'static str, met: impl Fn(&Tally) -> bool) -> Result<(), Error> {
        let waiting = async {
            while !met(&self.tally) {
                sleep(LOOK).await;
            }
        };
        timeout(LIMIT, waiting).await.map_err(|_| {
            let Tally { connected, recorded, acknowledged, refused, failed, .. } = &*self.tally;
            let state = format!(
                "{connected:?} are connected; {recorded:?} events were recorded, {acknowledged:?} acknowledged; {refused:?} \
                 sessions were told to come later, {failed:?} failed"
            );
            Error::NotInTime { what, limit: LIMIT, nodes: self.count, state }
        })
    }
}

/// Each node is an open file.
fn raise_file_limit() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    // If it fails, connections will, and say so.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}
