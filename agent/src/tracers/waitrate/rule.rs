//! When an owner waits more than it should.
//!
//! *spike*: the rate is over what it was in the long window: the mean, plus the larger of `least_rate` points and a
//! multiple of the standard deviation. *slope*: the rate rose by more than so many points in one window, and is over
//! the same with a small multiple, so that what comes and goes all the time is not told. The large multiple and the rise
//! depend on the service level.

use serde::Serialize;

use super::{history::Reading, settings::ByLevel};
use crate::containers::Qos;

/// What was promised to the owner; the middle, where nothing in particular was.
pub(super) fn level(qos: &str) -> Qos {
    let levels = [Qos::Guaranteed, Qos::BestEffort];
    levels.into_iter().find(|level| level.as_str() == qos).unwrap_or(Qos::Burstable)
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Thresholds {
    /// Points.
    pub least_rate: f64,
    /// Standard deviations.
    pub spike: ByLevel,
    /// Points.
    pub slope: ByLevel,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Warning {
    Spike,
    Slope,
    Both,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Verdict {
    pub level: Qos,
    pub warning: Warning,
    /// Percent, what the rate was compared with.
    pub rate_threshold: f64,
    /// Points, what the slope was compared with.
    pub slope_threshold: f64,
}

/// Standard deviations over its mean up to which a rate is nothing unusual.
const USUAL: f64 = 2.0;

/// `None` if no rule is met.
pub(super) fn judge(thresholds: &Thresholds, level: Qos, reading: &Reading) -> Option<Verdict> {
    let over_mean = |deviations: f64| reading.mean + thresholds.least_rate.max(reading.std * deviations);
    let rate_threshold = over_mean(thresholds.spike.at(level));
    let slope_threshold = thresholds.slope.at(level);
    let spike = reading.rate > rate_threshold;
    let slope = reading.rate > over_mean(USUAL) && reading.slope > slope_threshold;
    let warning = match (spike, slope) {
        (true, true) => Warning::Both,
        (true, false) => Warning::Spike,
        (false, true) => Warning::Slope,
        (false, false) => return None,
    };
    Some(Verdict { level, warning, rate_threshold, slope_threshold })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tracers::waitrate::tally::{Kind, Time};

    const THRESHOLDS: Thresholds = Thresholds {
        least_rate: 20.0,
        spike: ByLevel { guaranteed: 30.0, burstable: 40.0, best_effort: 60.0 },
        slope: ByLevel { guaranteed: 30.0, burstable: 40.0, best_effort: 60.0 },
    };

    fn reading(rate: f64, slope: f64, mean: f64, std: f64) -> Reading {
        Reading { time: Time::default(), kind: Kind::External, rate, slope, mean, std, samples: 360 }
    }

    fn warning(level: Qos, rate: f64, slope: f64, mean: f64, std: f64) -> Option<Warning> {
        judge(&THRESHOLDS, level, &reading(rate, slope, mean, std)).map(|verdict| verdict.warning)
    }

    #[test]
    fn one_that_never_waited_has_to_wait_more_than_the_least() {
        assert_eq!(warning(Qos::Burstable, 20.0, 20.0, 0.0, 0.0), None);
        assert_eq!(warning(Qos::Burstable, 20.1, 20.1, 0.0, 0.0), Some(Warning::Spike));
        assert_eq!(warning(Qos::Burstable, 50.0, 50.0, 0.0, 0.0), Some(Warning::Both));
    }

    #[test]
    fn one_that_always_waits_is_left_alone_until_it_waits_more() {
        assert_eq!(warning(Qos::Burstable, 55.0, 3.0, 50.0, 0.0), None);
        assert_eq!(warning(Qos::Burstable, 71.0, 3.0, 50.0, 0.0), Some(Warning::Spike));
        assert_eq!(warning(Qos::Burstable, 71.0, 3.0, 50.0, 1.0), None);
        assert_eq!(warning(Qos::Burstable, 91.0, 3.0, 50.0, 1.0), Some(Warning::Spike));
    }

    #[test]
    fn what_comes_and_goes_all_the_time_is_not_told() {
        assert_eq!(warning(Qos::Burstable, 90.0, 90.0, 45.0, 45.0), None);
        assert_eq!(warning(Qos::Burstable, 90.0, 90.0, 10.0, 20.0), Some(Warning::Slope));
    }

    #[test]
    fn the_more_was_promised_the_less_is_borne() {
        for (level, expected) in
            [(Qos::Guaranteed, Some(Warning::Both)), (Qos::Burstable, Some(Warning::Slope)), (Qos::BestEffort, None)]
        {
            assert_eq!(
                warning(level, 50.0, 45.0, 5.0, 1.3),
                expected.filter(|_| level != Qos::BestEffort),
                "{level:?}"
            );
        }
        assert_eq!(level("BestEffort"), Qos::BestEffort);
        assert_eq!(level(""), Qos::Burstable);
    }
}
