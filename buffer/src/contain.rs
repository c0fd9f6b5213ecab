//! Every call into sled goes through [`contained`], because sled 0.34 panics on some damaged files, and because it
//! starts threads that never sleep for long.
//!
//! The threads: sled's pool keeps seven of them for the life of the process, each of which waits for work for one
//! second and starts over. A thread inherits the timer slack of the one that starts it, so with a slack of minutes
//! in force here these waits end minutes late, or at once when there is work; an idle agent stays idle.

use std::{
    num::NonZeroU64,
    panic::{AssertUnwindSafe, catch_unwind},
};

use rustix::thread::{current_timer_slack, set_current_timer_slack};

const POOL_SLACK_NANOS: Option<NonZeroU64> = NonZeroU64::new(600_000_000_000);

/// Runs a call into sled. A panic comes back as [`sled::Error::ReportableBug`].
pub(crate) fn contained<T>(call: impl FnOnce() -> Result<T, sled::Error>) -> Result<T, sled::Error> {
    let slack = current_timer_slack().ok().and_then(NonZeroU64::new);
    let relaxed = set_current_timer_slack(POOL_SLACK_NANOS).is_ok();
    let outcome = catch_unwind(AssertUnwindSafe(call));
    if relaxed && let Err(error) = set_current_timer_slack(slack) {
        tracing::debug!(%error, "failed to restore the timer slack");
    }
    outcome.unwrap_or_else(|panic| {
        let text = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("no message");
        Err(sled::Error::ReportableBug(format!("panic: {text}")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_and_the_slack_is_restored() {
        let before = current_timer_slack().unwrap();
        let outcome: Result<(), _> = contained(|| panic!("torn"));
        assert!(matches!(outcome, Err(sled::Error::ReportableBug(text)) if text.contains("torn")));
        assert_eq!(current_timer_slack().unwrap(), before);
    }
}
