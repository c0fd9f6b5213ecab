//! The signals that ask a process to end, SIGTERM and SIGINT, and the one that asks it to read its settings again, SIGHUP.
//!
//! The first asks for an orderly end, which takes up to the drain deadline. The next ends the process at once, also
//! when the runtime is stuck, because the watch for it has a thread of its own.

use std::{io, process, thread};

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::{OnEnd, Supervisor};

/// Offset of the exit code of a process that a signal ended, by the shell's convention.
const SIGNAL_EXIT_BASE: i32 = 128;

/// Shuts `supervisor` down at the first SIGTERM or SIGINT from now on; the next ends the process at once.
pub fn watch(supervisor: &Supervisor) {
    let terminated = terminated();
    supervisor.spawn("signals", OnEnd::Shutdown, async {
        terminated.await;
        on_second_signal_exit();
        Ok(())
    });
}

/// Waits for SIGTERM or SIGINT, those that come before it is polled too. Without a handler, which the system may refuse,
/// it waits for ever: the signals then end the process by themselves.
pub fn terminated() -> impl Future<Output = ()> {
    let endings = Endings::new();
    async {
        match endings {
            Ok(endings) => drop(endings.first().await),
            Err(error) => {
                tracing::warn!(%error, "signals cannot be handled: they end the process without a drain");
                std::future::pending().await
            }
        }
    }
}

/// The SIGHUPs of the process. From the first call on they no longer end it.
pub struct Hangups(Option<Signal>);

impl Hangups {
    #[allow(clippy::new_without_default, reason = "it installs a handler")]
    pub fn new() -> Self {
        let hangups = signal(SignalKind::hangup());
        if let Err(error) = &hangups {
            tracing::warn!(%error, "SIGHUP cannot be handled: it ends the process");
        }
        Self(hangups.ok())
    }

    /// Waits for the next; several that come together are one.
    pub async fn next(&mut self) {
        let received = match &mut self.0 {
            Some(hangups) => hangups.recv().await,
            None => None,
        };
        if received.is_none() {
            std::future::pending().await
        }
    }
}

/// From now on, the next SIGTERM or SIGINT ends the process at once, with 128 plus the signal's number. To be called
/// when the orderly end begins.
pub fn on_second_signal_exit() {
    let watch = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        let kind = runtime.block_on(async { io::Result::Ok(Endings::new()?.first().await) })?;
        process::exit(SIGNAL_EXIT_BASE + kind.as_raw_value());
    };
    let spawned = thread::Builder::new().name("second-signal".into()).spawn(move || {
        let result: io::Result<()> = watch();
        if let Err(error) = result {
            tracing::warn!(%error, "a second signal will not end the process at once");
        }
    });
    if let Err(error) = spawned {
        tracing::warn!(%error, "a second signal will not end the process at once");
    }
}

/// The signals that ask for the end. From the first on they no longer end the process by themselves.
struct Endings {
    terminate: Signal,
    interrupt: Signal,
}

impl Endings {
    fn new() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn first(mut self) -> SignalKind {
        tokio::select! {
            _ = self.terminate.recv() => SignalKind::terminate(),
            _ = self.interrupt.recv() => SignalKind::interrupt(),
        }
    }
}
