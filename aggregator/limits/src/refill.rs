//! Tokens as they come up, kept within this process: what Redis' script does, for one replica alone.

use std::time::Duration;

use crate::PERIOD;

/// What has come up and was not given.
#[derive(Debug, Clone, Default)]
pub(crate) struct Refill {
    level: f64,
    at: Option<Duration>,
}

impl Refill {
    /// As much as is there of `wanted`, in whole tokens. At most what comes up in a [`PERIOD`] is kept, or one.
    pub(crate) fn take(&mut self, now: Duration, rate: f64, wanted: u64) -> u64 {
        let full = if rate > 0.0 { (rate * PERIOD.as_secs_f64()).max(1.0) } else { 0.0 };
        self.level = match self.at {
            None => full,
            Some(at) => (self.level + rate * now.saturating_sub(at).as_secs_f64()).min(full),
        };
        self.at = Some(now);
        let given = (self.level as u64).min(wanted);
        self.level -= given as f64;
        given
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_gives_what_came_up_and_one_chunk_to_begin_with() {
        let mut refill = Refill::default();
        let steps = (0..40u32).map(|step| refill.take(step * PERIOD, 100.0, u64::MAX));
        assert_eq!(steps.collect::<Vec<_>>(), [25; 40]);
        assert_eq!(refill.take(Duration::from_secs(3600), 100.0, u64::MAX), 25, "no more gathers");
        assert_eq!(refill.take(Duration::ZERO, 100.0, u64::MAX), 0, "a clock that goes back gives nothing");
    }

    #[test]
    fn less_than_one_a_period_comes_up_in_time() {
        let mut refill = Refill::default();
        let given: u64 = (0..40u32).map(|step| refill.take(step * PERIOD, 0.5, u64::MAX)).sum();
        assert!((4..=5).contains(&given), "{given} in ten seconds");
        assert_eq!(Refill::default().take(PERIOD, 0.0, u64::MAX), 0);
    }
}
