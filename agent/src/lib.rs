//! Galen's node agent: watches for anomalies, captures the evidence, and hands it on.
//!
//! ```text
//! tracers ──► recorder ──► buffer ──► uplink ──► aggregator
//!                └──► local record files
//! ```
//!
//! [`Agent::start`] builds this from left to right, [`Agent::stop`] drains it in the same order: tracers end their
//! captures, the recorder writes what was recorded, the uplink delivers what it can until the deadline, the buffer is
//! closed. Nothing to the right holds up anything to the left.
//!
//! Other programs may add tracers: a [`TracerSet`] of their own, and [`run`] with it.

pub mod budget;
mod burst;
pub mod cgroup;
pub mod clock;
pub mod config;
pub mod containers;
pub mod control;
pub mod figures;
pub mod flight;
pub mod host;
pub mod meminfo;
pub mod recorder;
pub mod ticker;
pub mod tls;
pub mod tracer;
pub mod tracers;
pub mod uplink;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use galen_buffer::Buffer;
use galen_runtime::{Drained, OnEnd, Supervisor, signal};
use rustix::{
    io::fcntl_dupfd_cloexec,
    process::{Resource, Rlimit, getrlimit, setrlimit},
};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

pub use config::{Config, Settings};
pub use tracer::{Factory, Tracer, TracerSet};

use crate::{
    budget::Budget,
    clock::Clock,
    containers::Containers,
    control::Control,
    figures::Registry,
    flight::{Desk, Flight},
    host::Environment,
    recorder::{Files, Recorder},
    ticker::Ticker,
    tracer::{Context, Crew, Demands, Loader, Status, Statuses},
    uplink::{Node, Uplink},
};

/// Each watched cgroup takes a file descriptor; the usual soft limit is 1,024.
const OPEN_FILES: u64 = 16_384;
/// Files that find room without waiting; some 16 KiB of the kernel's memory.
const ROOM_FOR_FILES: i32 = 2047;
/// Of the shutdown deadline, what the tracers and the record files may take each.
const SHARE: u32 = 4;

/// Why the agent could not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error("failed to open the buffer in `{dir}`")]
    Buffer {
        dir: String,
        #[source]
        source: galen_buffer::Error,
    },
    #[error("the buffer's opening was cut short")]
    Opening(#[source] tokio::task::JoinError),
    #[error("failed to prepare TLS")]
    Tls(#[from] galen_runtime::tls::Error),
    #[error("a metric cannot be registered")]
    Metrics(#[source] prometheus::Error),
    #[error("a tracer cannot be begun")]
    Tracer(#[from] tracer::ChangeError),
}

/// A running agent.
pub struct Agent {
    buffer: Buffer,
    recorder: Recorder,
    statuses: Statuses,
    ticker: Ticker,
    flight: Flight,
    metrics: Registry,
    shutdown_deadline: Duration,
    control: Control,
    crew: Arc<Mutex<Crew>>,
    /// In the order of draining; the crew comes after the first.
    changes: Supervisor,
    tracers: Supervisor,
    recording: Supervisor,
    delivery: Supervisor,
}

/// Runs an agent until `stop` is cancelled, then drains it. On SIGHUP it reads its settings again.
pub async fn run<S: TracerSet>(settings: Settings<S>, stop: CancellationToken) -> Result<(), Error> {
    let mut hangups = signal::Hangups::new();
    let agent = Agent::start(settings).await?;
    while stop.run_until_cancelled(hangups.next()).await.is_some() {
        agent.control().reload().await;
    }
    agent.stop().await;
    Ok(())
}

impl Agent {
    /// Returns once everything runs; tracers load their programs meanwhile. Must be called within a runtime.
    pub async fn start<S: TracerSet>(settings: Settings<S>) -> Result<Self, Error> {
        Self::start_with_clock(settings, Clock::system()).await
    }

    /// As [`start`](Self::start), by another clock.
    pub async fn start_with_clock<S: TracerSet>(settings: Settings<S>, clock: Clock) -> Result<Self, Error> {
        raise_open_files();
        let environment = Arc::new(Environment::detect());
        for missing in environment.missing() {
            tracing::warn!("{missing}");
        }
        let tls = settings.tls.clone().map(tls::Settings::load).transpose()?;
        let (changes, tracers) = (Supervisor::new(), Supervisor::new());
        let (recording, delivery) = (Supervisor::new(), Supervisor::new());

        let buffer = open_buffer(settings.buffer()).await?;
        let files = Files::new(settings.records_dir(), settings.record_limits());
        let host = host::describe(&settings.config.host.region);
        let (recorder, write_files) =
            Recorder::new(settings.node.clone(), host, clock.clone(), buffer.clone(), files, recording.token());
        spawn(&recording, "record files", write_files);

        let (ticker, tick) = Ticker::new(clock.clone(), tracers.token());
        spawn(&tracers, "ticker", tick);
        let metrics = Registry::default();
        let of_containers = containers::Metrics::new().map_err(Error::Metrics)?;
        of_containers.register(&metrics).map_err(Error::Metrics)?;
        let (containers, prefetch) = Containers::shipped(&settings.containers, &environment.hierarchies, of_containers);
        let stopping = tracers.token();
        spawn(&tracers, "containers", async move {
            stopping.run_until_cancelled(prefetch).await;
        });

        let (bounds, short) = settings.budget();
        let (budget, answer) =
            Budget::new(bounds, short, clock.clone(), &metrics, tracers.token()).map_err(Error::Metrics)?;
        spawn(&tracers, "budget", answer);
        let loader = Loader::default();
        let (flight, keep_up) =
            Flight::new(&settings.config.profiler, &environment, loader.clone(), ticker.clone(), tracers.token());
        spawn(&tracers, "flight recorder", keep_up);
        let mut statuses = Vec::new();
        let mut crew = Crew::new(metrics.clone());
        for section in settings.config.tracers.iter() {
            let status = Arc::new(Status::new(section.name()));
            statuses.push(Arc::clone(&status));
            let context = Context {
                clock: clock.clone(),
                environment: Arc::clone(&environment),
                containers: containers.clone(),
                flight: flight.clone(),
                ticker: ticker.clone(),
                budget: budget.clone(),
                recorder: recorder.clone(),
                status,
                demands: Demands::new(),
                supervisor: tracers.clone(),
                loader: loader.clone(),
            };
            crew.add(section, context).await?;
        }
        let statuses = Statuses::new(statuses);

        let crew = Arc::new(Mutex::new(crew));
        let desk = Desk {
            flight: flight.clone(),
            budget: budget.clone(),
            recorder: recorder.clone(),
            clock: clock.clone(),
            supervisor: tracers.clone(),
        };
        let (control, change) = Control::new(&settings, Arc::clone(&crew), desk, changes.token());
        spawn(&changes, "control", change);

        let told = statuses.clone();
        let (kept, recorded, seen) = (buffer.clone(), recorder.clone(), statuses.clone());
        let sources =
            move || figures::Sources { buffer: kept.stats(), recorder: recorded.stats(), tracers: seen.snapshot() };
        figures::register(&metrics, sources).map_err(Error::Metrics)?;
        let node = Node {
            name: settings.node.clone(),
            tracers: Arc::new(move || told.snapshot()),
            registry: metrics.clone(),
            figures: uplink::Figures::register(&metrics).map_err(Error::Metrics)?,
            control: control.clone(),
        };
        if let Some(newest) = tls.clone() {
            let of_certificate = tls::Figures::of(Some(Arc::clone(&newest))).map_err(Error::Metrics)?;
            metrics.register(Box::new(of_certificate)).map_err(Error::Metrics)?;
            spawn(&delivery, "certificates", newest.watch(delivery.token()));
        }
        let uplink = Uplink::new(node, settings.endpoints.clone(), tls, buffer.clone(), budget);
        spawn(&delivery, "uplink", uplink.run(delivery.token()));

        tracing::info!(node = settings.node, version = env!("CARGO_PKG_VERSION"), "agent runs");
        let shutdown_deadline = settings.config.shutdown_deadline.0;
        Ok(Self {
            buffer,
            recorder,
            statuses,
            ticker,
            flight,
            metrics,
            shutdown_deadline,
            control,
            crew,
            changes,
            tracers,
            recording,
            delivery,
        })
    }

    pub fn buffer(&self) -> &Buffer {
        &self.buffer
    }

    pub fn recorder(&self) -> &Recorder {
        &self.recorder
    }

    pub fn statuses(&self) -> &Statuses {
        &self.statuses
    }

    /// Changes to what runs.
    pub fn control(&self) -> &Control {
        &self.control
    }

    /// The tick that the tracers share.
    pub fn ticker(&self) -> Ticker {
        self.ticker.clone()
    }

    /// CPU profiles, and the flight recorder.
    pub fn flight(&self) -> &Flight {
        &self.flight
    }

    /// All figures.
    pub fn metrics(&self) -> &Registry {
        &self.metrics
    }

    /// Drains to the deadline of the settings; what is not delivered by then stays in the buffer.
    pub async fn stop(self) {
        let (started, deadline) = (Instant::now(), self.shutdown_deadline);
        let share = deadline / SHARE;
        let mut all = self.changes.drain(share).await == Drained::Complete;
        all &= self.crew.lock().await.stop(share).await;
        all &= self.tracers.drain(share.saturating_sub(started.elapsed())).await == Drained::Complete;
        // Every line waits for the buffer, so what was recorded is durable once they are written.
        all &= self.recording.drain(share).await == Drained::Complete;
        let left = deadline.saturating_sub(started.elapsed()).saturating_sub(share);
        all &= self.delivery.drain(left).await == Drained::Complete;
        drop(self.recorder);
        let buffer = self.buffer;
        match tokio::task::spawn_blocking(move || buffer.close()).await {
            Ok(Ok(())) => tracing::info!(complete = all, took = ?started.elapsed(), "agent has ended"),
            Ok(Err(error)) => tracing::warn!(error = %galen_runtime::Chain(&error), "failed to close the buffer"),
            Err(error) => tracing::warn!(%error, "failed to close the buffer"),
        }
    }
}

async fn open_buffer(settings: galen_buffer::Settings) -> Result<Buffer, Error> {
    let dir = settings.dir.display().to_string();
    let opened = tokio::task::spawn_blocking(move || Buffer::open(settings)).await.map_err(Error::Opening)?;
    opened.map_err(|source| Error::Buffer { dir, source })
}

fn spawn(supervisor: &Supervisor, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
    supervisor.spawn(name, OnEnd::Ignore, async move {
        task.await;
        Ok(())
    });
}

/// As far as the hard limit allows.
fn raise_open_files() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let wanted = maximum.map_or(OPEN_FILES, |maximum| maximum.min(OPEN_FILES));
    if current.is_some_and(|current| current < wanted)
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum })
    {
        tracing::debug!(%error, "failed to raise the limit of open files");
    }
    // The table of open files grows to this now. Once threads share it, whoever needs it larger waits for all CPUs (an RCU
    // grace period: seconds on a machine that is overloaded), and nearly all of the agent runs on one thread.
    if let Err(error) = fcntl_dupfd_cloexec(std::io::stderr(), ROOM_FOR_FILES) {
        tracing::debug!(%error, "the table of open files is left as it is");
    }
}
