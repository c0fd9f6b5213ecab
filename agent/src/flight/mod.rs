//! CPU profiles for whoever asks: one sampler for all tracers, and the flight recorder that runs in it.
//!
//! The programs are loaded once, when the agent starts, so that the seconds before the first trigger are there. Whoever
//! asks meanwhile waits. Where they cannot be loaded everybody is told why, and goes on without profiles. Once a second,
//! with the shared tick, the processes that the recorder met are looked at, if there are new ones: an idle machine gives
//! none.

mod capture;
mod record_now;
mod report;

use std::{sync::Arc, time::Duration};

use galen_profile::{Frozen, Sampler, Scope};
use rustix::time::{ClockId, clock_gettime};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub(crate) use capture::{Begun, Running, Told};
pub(crate) use record_now::{Desk, Failed};
pub(crate) use report::{Captured, Data};

use crate::{config, host::Environment, ticker::Ticker, tracer::Loader};

/// Why a profile cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// In one line.
    #[error("{0}")]
    Unsupported(Arc<str>),
    #[error(transparent)]
    Profile(#[from] galen_profile::Error),
    #[error("cannot wait for the profile")]
    Cancel(#[source] std::io::Error),
    #[error("the profile's thread broke off")]
    Thread(#[from] tokio::task::JoinError),
}

/// Clones are the same.
#[derive(Clone)]
pub struct Flight {
    /// `None` until it is known whether the programs can be loaded.
    loaded: watch::Receiver<Option<Result<Sampler, Arc<str>>>>,
    look_back: Duration,
}

impl Flight {
    /// The recorder, and the task that loads it and keeps up with it until `stop` is cancelled.
    pub(crate) fn new(
        settings: &config::Profiler,
        environment: &Environment,
        loader: Loader,
        mut ticker: Ticker,
        stop: CancellationToken,
    ) -> (Self, impl Future<Output = ()> + Send + use<>) {
        let (sender, loaded) = watch::channel(None);
        let without_bpf = environment.without_bpf();
        let sampler =
            galen_profile::Settings { hertz: settings.frequency, ring_bytes: None, history: settings.flight_recorder };
        let task = async move {
            let loaded: Result<_, Arc<str>> = match without_bpf {
                Some(why) => Err(why.into()),
                None => match loader.with_kernel(move |kernel| Sampler::load(kernel, &sampler)).await {
                    Ok(Ok(sampler)) => Ok(sampler),
                    Ok(Err(galen_profile::Error::Bpf(error))) | Err(error) => Err(error.reason().into()),
                    Ok(Err(error)) => Err(galen_runtime::Chain(&error).to_string().into()),
                },
            };
            sender.send_replace(Some(loaded.clone()));
            let Ok(sampler) = loaded else { return };
            loop {
                ticker.tick().await;
                if let Some(news) = sampler.news() {
                    let sampler = sampler.clone();
                    // A panic there has been told; the next tick tries again.
                    let _ = tokio::task::spawn_blocking(move || sampler.keep_up(&news)).await;
                }
            }
        };
        let task = async move {
            stop.run_until_cancelled(task).await;
        };
        (Self { loaded, look_back: settings.look_back.0 }, task)
    }

    /// The loaded sampler, or in one line why there is none.
    pub async fn sampler(&self) -> Result<Sampler, Arc<str>> {
        let mut loaded = self.loaded.clone();
        match loaded.wait_for(Option::is_some).await {
            Ok(loaded) => loaded.clone().unwrap_or_else(|| Err("the agent stops".into())),
            Err(_) => Err("the agent stops".into()),
        }
    }

    /// What ran in the last seconds, up to now, without names, and the CPU time that it took to take it.
    ///
    /// # Errors
    /// There is no flight recorder, or what the kernel refuses.
    pub async fn freeze(&self, scope: Scope, span: Duration) -> Result<(Frozen, Duration), Error> {
        let sampler = self.sampler().await.map_err(Error::Unsupported)?;
        Ok(tokio::task::spawn_blocking(move || metered(|| sampler.freeze(&scope, span))).await??)
    }

    /// Seconds before a trigger that its capture has.
    pub fn look_back(&self) -> Duration {
        self.look_back
    }
}

/// Also the CPU time of this thread, which is what taking a profile costs but for the sampling.
fn metered<T, E>(take: impl FnOnce() -> Result<T, E>) -> Result<(T, Duration), E> {
    let used = || Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default();
    let before = used();
    let taken = take()?;
    Ok((taken, used().saturating_sub(before)))
}
