//! The life of a tracer: supported, run, restarted.

use std::{any::Any, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::FutureExt;
use galen_runtime::{Backoff, Chain};
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::{Context, Outcome, Support, factory::Configured};

/// Waits after an error or a panic: full jitter between zero and a bound that doubles from the base up to the cap.
const BACKOFF_BASE: Duration = Duration::from_secs(1);
const BACKOFF_CAP: Duration = Duration::from_secs(120);
/// A run that lasted this long was a good one: the next failure begins with a short wait again.
const GOOD_RUN: Duration = Duration::from_secs(300);

/// Runs `tracer` again and again, until it is not supported or the agent stops.
pub(crate) async fn supervise(tracer: Arc<dyn Configured>, context: Context) {
    let stopping = context.stopping();
    stopping.run_until_cancelled(keep_running(tracer, context)).await;
}

async fn keep_running(tracer: Arc<dyn Configured>, context: Context) {
    let name = tracer.name();
    let mut backoff = Backoff::new(BACKOFF_BASE, BACKOFF_CAP);
    loop {
        let support = tracer.support(&context.environment);
        context.status.set_support(support.clone());
        match support {
            Support::Full => debug!(tracer = name, "tracer starts"),
            Support::Degraded(why) => warn!(tracer = name, why, "tracer starts degraded"),
            Support::Unsupported(why) => {
                warn!(tracer = name, why, "tracer is not supported here");
                return;
            }
        }
        let started = Instant::now();
        // Also a panic before the first await is one of the run.
        let run = async { tracer.run(context.clone()).await };
        let ended = AssertUnwindSafe(run).catch_unwind().await;
        if started.elapsed() >= GOOD_RUN {
            backoff.reset();
        }
        let wait = match ended {
            Ok(Ok(Outcome::Again)) => {
                backoff.reset();
                tracer.restart()
            }
            Ok(Ok(Outcome::Unsupported(why))) => {
                warn!(tracer = name, why, "tracer is not supported here");
                context.status.set_support(Support::Unsupported(why));
                return;
            }
            Ok(Err(error)) => {
                let wait = tracer.restart() + backoff.next();
                warn!(tracer = name, error = %Chain(&*error), restart_in = ?wait, "tracer failed");
                context.status.failed(Chain(&*error).to_string());
                wait
            }
            Err(panic) => {
                let wait = backoff.next();
                let panic = panic_text(&*panic);
                warn!(tracer = name, panic, restart_in = ?wait, "tracer panicked");
                context.status.failed(panic);
                wait
            }
        };
        tokio::time::sleep(wait).await;
        info!(tracer = name, "tracer is started again");
    }
}

/// What a panic said.
pub(super) fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("panic: {}", text.unwrap_or("no message"))
}
