//! Every task and thread of a process, by name, and what its end means.
//!
//! - A panic is caught, logged and counted; it reaches no other task.
//! - A task either may end ([`OnEnd::Ignore`]), or carries the process, so that its end shuts everything down
//!   ([`OnEnd::Shutdown`]), or is restarted with back-off ([`Supervisor::spawn_restarting`]).
//! - Shutdown cancels the token, which every task watches. [`Supervisor::drain`] waits for all of them to a deadline,
//!   and names those that did not end.
//!
//! This is the only place that hands a future to the runtime: what runs is known here.

use std::{
    any::Any,
    borrow::Cow,
    collections::BTreeMap,
    error::Error,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use futures_util::FutureExt;
use parking_lot::Mutex;
use tokio::{
    sync::Notify,
    task::AbortHandle,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{Backoff, Chain};

/// Any error that ends a task.
pub type BoxError = Box<dyn Error + Send + Sync>;

type Name = Cow<'static, str>;

/// What the end of a task means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnEnd {
    /// The process cannot do without it: shutdown begins.
    Shutdown,
    /// Others go on.
    Ignore,
}

/// How a task ended.
#[derive(Debug)]
pub enum Outcome {
    Finished,
    Failed(BoxError),
    /// With the panic's message.
    Panicked(String),
}

/// A task whose end began the shutdown.
#[derive(Debug)]
pub struct Ended {
    pub name: Cow<'static, str>,
    pub outcome: Outcome,
}

/// What a drain came to.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Drained {
    Complete,
    /// These did not end before the deadline. Tasks were aborted, threads were left.
    TimedOut {
        names: Vec<String>,
    },
}

/// Counts since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Tasks and threads alive now.
    pub alive: usize,
    /// Panics caught.
    pub panics: u64,
    /// Tasks that ended with an error.
    pub failures: u64,
    /// Restarts after a panic or an error.
    pub restarts: u64,
}

/// Handle to the tasks of a process. Clones are the same supervisor.
#[derive(Clone)]
pub struct Supervisor {
    shared: Arc<Shared>,
}

struct Shared {
    token: CancellationToken,
    alive: Mutex<Alive>,
    one_ended: Notify,
    ended: OnceLock<Arc<Ended>>,
    panics: AtomicU64,
    failures: AtomicU64,
    restarts: AtomicU64,
}

#[derive(Default)]
struct Alive {
    next: u64,
    members: BTreeMap<u64, Member>,
    threads: Vec<JoinHandle<()>>,
}

struct Member {
    name: Name,
    abort: Option<AbortHandle>,
}

impl Supervisor {
    pub fn new() -> Self {
        Self {
            shared: Arc::new(Shared {
                token: CancellationToken::new(),
                alive: Mutex::default(),
                one_ended: Notify::new(),
                ended: OnceLock::new(),
                panics: AtomicU64::new(0),
                failures: AtomicU64::new(0),
                restarts: AtomicU64::new(0),
            }),
        }
    }

    /// Cancelled when shutdown begins.
    pub fn token(&self) -> CancellationToken {
        self.shared.token.clone()
    }

    /// Begins the shutdown: every task is asked to end.
    pub fn shutdown(&self) {
        self.shared.token.cancel();
    }

    /// The task whose end began the shutdown, if that is how it began.
    pub fn ended(&self) -> Option<Arc<Ended>> {
        self.shared.ended.get().cloned()
    }

    pub fn stats(&self) -> Stats {
        Stats {
            alive: self.shared.alive.lock().members.len(),
            panics: self.shared.panics.load(Ordering::Relaxed),
            failures: self.shared.failures.load(Ordering::Relaxed),
            restarts: self.shared.restarts.load(Ordering::Relaxed),
        }
    }

    /// Runs `task` until it ends. Must be called within a runtime.
    pub fn spawn(
        &self,
        name: impl Into<Name>,
        on_end: OnEnd,
        task: impl Future<Output = Result<(), BoxError>> + Send + 'static,
    ) {
        let name = name.into();
        let shared = Arc::clone(&self.shared);
        // Boxed, because each future around it would have room for it of its own.
        let task = Box::pin(task);
        self.start(name.clone(), async move {
            let outcome = shared.watch(&name, task).await;
            if on_end == OnEnd::Shutdown {
                shared.shut_down_because(name, outcome);
            }
        });
    }

    /// Runs what `make` makes; after an error or a panic, waits as `backoff` says and makes it anew. `Ok` ends it, and
    /// so does shutdown. A run that lasted as long as the longest wait begins the back-off anew. Must be called within
    /// a runtime.
    pub fn spawn_restarting<F, Fut>(&self, name: impl Into<Name>, mut backoff: Backoff, mut make: F)
    where
        F: FnMut() -> Fut + Send + 'static,
        Fut: Future<Output = Result<(), BoxError>> + Send + 'static,
    {
        let name = name.into();
        let shared = Arc::clone(&self.shared);
        self.start(name.clone(), async move {
            loop {
                let started = Instant::now();
                // Also what `make` itself does may panic.
                let run = shared.watch(&name, async { make().await });
                if matches!(run.await, Outcome::Finished) || shared.token.is_cancelled() {
                    return;
                }
                if started.elapsed() >= backoff.cap() {
                    backoff.reset();
                }
                let wait = backoff.next();
                tracing::info!(task = %name, ?wait, "restarts");
                if shared.token.run_until_cancelled(tokio::time::sleep(wait)).await.is_none() {
                    return;
                }
                shared.restarts.fetch_add(1, Ordering::Relaxed);
            }
        });
    }

    /// Runs `run` on a thread of its own, which the drain waits for. Its end has no further meaning: whoever needs it
    /// sees the channel to it close.
    pub fn thread(&self, name: &'static str, run: impl FnOnce() + Send + 'static) {
        let guard = self.admit(name.into());
        let shared = Arc::clone(&self.shared);
        let spawned = std::thread::Builder::new().name(name.into()).spawn(move || {
            let _guard = guard;
            if let Err(panic) = catch_unwind(AssertUnwindSafe(run)) {
                shared.panicked(name, panic);
            }
        });
        match spawned {
            Ok(handle) => {
                let threads = &mut self.shared.alive.lock().threads;
                threads.retain(|thread| !thread.is_finished());
                threads.push(handle);
            }
            Err(error) => {
                self.shared.failures.fetch_add(1, Ordering::Relaxed);
                tracing::error!(thread = name, %error, "failed to start a thread");
            }
        }
    }

    /// Begins the shutdown, and waits until every task and thread has ended, at most `deadline`.
    pub async fn drain(self, deadline: Duration) -> Drained {
        self.shutdown();
        if timeout(deadline, self.shared.all_ended()).await.is_err() {
            let alive = self.shared.alive.lock();
            for member in alive.members.values() {
                member.abort.iter().for_each(AbortHandle::abort);
            }
            let names: Vec<_> = alive.members.values().map(|member| member.name.clone().into_owned()).collect();
            tracing::warn!(?deadline, names = names.join(", "), "not everything ended before the deadline");
            return Drained::TimedOut { names };
        }
        for thread in std::mem::take(&mut self.shared.alive.lock().threads) {
            // Its panic was caught inside, and it has left the list of the living: it ends now.
            let _ = thread.join();
        }
        Drained::Complete
    }

    fn start(&self, name: Name, task: impl Future<Output = ()> + Send + 'static) {
        let guard = self.admit(name);
        let id = guard.id;
        #[allow(clippy::disallowed_methods, reason = "the supervisor is what the others spawn through")]
        let handle = tokio::spawn(async move {
            let _guard = guard;
            task.await;
        });
        if let Some(member) = self.shared.alive.lock().members.get_mut(&id) {
            member.abort = Some(handle.abort_handle());
        }
    }

    fn admit(&self, name: Name) -> Guard {
        let mut alive = self.shared.alive.lock();
        let id = alive.next;
        alive.next += 1;
        alive.members.insert(id, Member { name, abort: None });
        Guard { id, shared: Arc::clone(&self.shared) }
    }
}

impl Default for Supervisor {
    fn default() -> Self {
        Self::new()
    }
}

impl Shared {
    /// Runs `task` to its end, and logs and counts one that is not good.
    async fn watch(&self, name: &str, task: impl Future<Output = Result<(), BoxError>>) -> Outcome {
        match AssertUnwindSafe(task).catch_unwind().await {
            Ok(Ok(())) => Outcome::Finished,
            Ok(Err(error)) => {
                self.failures.fetch_add(1, Ordering::Relaxed);
                tracing::error!(task = name, error = %Chain(error.as_ref()), "failed");
                Outcome::Failed(error)
            }
            Err(panic) => Outcome::Panicked(self.panicked(name, panic)),
        }
    }

    fn panicked(&self, name: &str, panic: Box<dyn Any + Send>) -> String {
        self.panics.fetch_add(1, Ordering::Relaxed);
        let message = panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string))
            .unwrap_or_else(|| "not text".into());
        tracing::error!(task = name, message, "panicked");
        message
    }

    fn shut_down_because(&self, name: Name, outcome: Outcome) {
        if self.token.is_cancelled() {
            return;
        }
        let ended = Ended { name, outcome };
        tracing::info!("shutting down: {ended}");
        // Of two that end at the same moment, the first is the reason.
        let _ = self.ended.set(Arc::new(ended));
        self.token.cancel();
    }

    async fn all_ended(&self) {
        loop {
            let one_ended = self.one_ended.notified();
            if self.alive.lock().members.is_empty() {
                return;
            }
            one_ended.await;
        }
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.name;
        match &self.outcome {
            Outcome::Finished => write!(f, "`{name}` ended"),
            Outcome::Failed(error) => write!(f, "`{name}` failed: {}", Chain(error.as_ref())),
            Outcome::Panicked(message) => write!(f, "`{name}` panicked: {message}"),
        }
    }
}

/// Membership of a task or thread, for as long as it lives.
struct Guard {
    id: u64,
    shared: Arc<Shared>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.shared.alive.lock().members.remove(&self.id);
        self.shared.one_ended.notify_waiters();
    }
}

#[cfg(test)]
mod tests;
