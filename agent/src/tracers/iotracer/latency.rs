//! How long requests took, and where: in the queue before the driver has them (q2d), on the device (d2c), both (q2c).

use std::time::Duration;

use galen_bpf::block_io::{self, Direction, Phase, SLOTS, Totals};
use serde::Serialize;

/// The requests of one direction of one process, in seconds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Timing {
    requests: u64,
    q2d_mean_seconds: f64,
    q2d_max_seconds: f64,
    d2c_mean_seconds: f64,
    d2c_max_seconds: f64,
}

/// All requests of the disk.
#[derive(Debug, Serialize)]
pub(super) struct Latencies {
    read: Histograms,
    write: Histograms,
    other: Histograms,
}

#[derive(Debug, Serialize)]
struct Histograms {
    q2d: Vec<Bar>,
    d2c: Vec<Bar>,
    q2c: Vec<Bar>,
}

/// Requests that took less than this, and not less than half of it, unless it is the first bar there can be.
#[derive(Debug, PartialEq, Serialize)]
struct Bar {
    below_seconds: f64,
    requests: u64,
}

impl Timing {
    /// `None` without a request.
    pub(super) fn of(totals: &Totals) -> Option<Self> {
        let requests = u32::try_from(totals.requests).ok()?;
        let mean = |sum: Duration| sum.checked_div(requests).map(seconds);
        Some(Self {
            requests: totals.requests,
            q2d_mean_seconds: mean(totals.queued)?,
            q2d_max_seconds: seconds(totals.queued_max),
            d2c_mean_seconds: mean(totals.device)?,
            d2c_max_seconds: seconds(totals.device_max),
        })
    }
}

impl Latencies {
    pub(super) fn of(histograms: &block_io::Histograms) -> Self {
        let of = |direction| {
            let bars = |phase| bars(histograms.slots(direction, phase));
            Histograms { q2d: bars(Phase::Queued), d2c: bars(Phase::Device), q2c: bars(Phase::Total) }
        };
        Self { read: of(Direction::Read), write: of(Direction::Write), other: of(Direction::Other) }
    }
}

/// Those that are not empty.
fn bars(slots: &[u64]) -> Vec<Bar> {
    let slots = slots.iter().zip(0..SLOTS as i32).filter(|(requests, _)| **requests > 0);
    slots.map(|(requests, slot)| Bar { below_seconds: 2f64.powi(slot + 1) / 1e6, requests: *requests }).collect()
}

/// To the microsecond.
pub(super) fn seconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mean_is_that_of_the_requests_and_there_is_none_without_one() {
        let totals = Totals { requests: 4, device: Duration::from_millis(10), ..Totals::default() };
        assert_eq!(Timing::of(&totals).unwrap().d2c_mean_seconds, 0.0025);
        assert_eq!(Timing::of(&Totals::default()), None);
    }

    #[test]
    fn bars_that_are_empty_are_left_out() {
        assert_eq!(
            bars(&[0, 3, 0, 1]),
            [Bar { below_seconds: 4e-6, requests: 3 }, Bar { below_seconds: 16e-6, requests: 1 }]
        );
    }
}
