//! A cheap sign that tasks wait for a CPU, read each second: one small file.
//!
//! The best is the kernel's CPU pressure, the share of time in which some task waits, throttled ones included. Where it
//! is off, the time that tasks spent on run queues, from the scheduler's statistics.

use std::{fs::File, io, os::unix::fs::FileExt, time::Duration};

const PRESSURE: &str = "/proc/pressure/cpu";
const SCHEDSTAT: &str = "/proc/schedstat";
/// What one CPU has to say in `schedstat`, with all its domains, is well below this.
const READ: usize = 1 << 16;
/// Position of the time spent on the run queue, in nanoseconds, in the line of a CPU.
const RUN_DELAY: usize = 8;

/// When counting begins and ends.
pub(super) struct Arming {
    /// `None`: it never ends.
    sign: Option<Sign>,
    /// Percent.
    threshold: f64,
    quiet: Duration,
    until: Duration,
}

impl Arming {
    pub(super) fn new(sign: Option<Sign>, threshold: f64, quiet: Duration) -> Self {
        Self { sign, threshold, quiet, until: Duration::ZERO }
    }

    /// Looks at the sign. `hold`: something needs the counters for now.
    pub(super) fn wants(&mut self, now: Duration, hold: bool) -> bool {
        let Some(sign) = &mut self.sign else { return true };
        let percent = sign.percent(now);
        self.decide(now, hold, percent)
    }

    fn decide(&mut self, now: Duration, hold: bool, percent: Option<f64>) -> bool {
        if hold || percent.is_some_and(|percent| percent > self.threshold) {
            self.until = now + self.quiet;
        }
        now < self.until
    }
}

pub(super) struct Sign {
    file: File,
    total: fn(&str) -> Option<Duration>,
    before: Option<(Duration, Duration)>,
    buffer: Vec<u8>,
}

impl Sign {
    /// `None` if the kernel has neither.
    pub(super) fn find() -> Option<Self> {
        let sign = |path: &str, total: fn(&str) -> Option<Duration>| {
            let sign = Self { file: File::open(path).ok()?, total, before: None, buffer: Vec::new() };
            let mut sign = sign;
            sign.read().ok().flatten().is_some().then_some(sign)
        };
        sign(PRESSURE, pressure).or_else(|| sign(SCHEDSTAT, run_delay))
    }

    /// How much of the time since the last look something waited, in percent; several at a time may count for more than
    /// 100. `None` at the first look, or if the file says nothing any more.
    pub(super) fn percent(&mut self, now: Duration) -> Option<f64> {
        let total = self.read().ok().flatten()?;
        let (before, at) = self.before.replace((total, now))?;
        let elapsed = now.checked_sub(at).filter(|elapsed| !elapsed.is_zero())?;
        Some(100.0 * total.saturating_sub(before).as_secs_f64() / elapsed.as_secs_f64())
    }

    fn read(&mut self) -> io::Result<Option<Duration>> {
        self.buffer.resize(READ, 0);
        let mut length = 0;
        while length < READ {
            match self.file.read_at(&mut self.buffer[length..], length as u64)? {
                0 => break,
                more => length += more,
            }
        }
        Ok(std::str::from_utf8(&self.buffer[..length]).ok().and_then(self.total))
    }
}

fn pressure(text: &str) -> Option<Duration> {
    let some = text.lines().find(|line| line.starts_with("some "))?;
    let total = some.split(' ').find_map(|field| field.strip_prefix("total="))?;
    total.parse().ok().map(Duration::from_micros)
}

fn run_delay(text: &str) -> Option<Duration> {
    let cpus = text.lines().filter(|line| line.starts_with("cpu"));
    let delays: Vec<u64> = cpus.filter_map(|line| line.split(' ').nth(RUN_DELAY)?.parse().ok()).collect();
    (!delays.is_empty()).then(|| Duration::from_nanos(delays.iter().sum()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_files_tell_how_long_tasks_waited() {
        let text = "some avg10=81.83 avg60=34.32 avg300=10.30 total=3995825856\nfull avg10=0.00 avg60=0.00 total=0\n";
        assert_eq!(pressure(text), Some(Duration::from_micros(3_995_825_856)));
        let text =
            "version 17\ntimestamp 4295\ncpu0 0 0 1 2 3 4 900 70 5\ndomain0 MC 3 0 0\ncpu1 0 0 1 2 3 4 900 30 5\n";
        assert_eq!(run_delay(text), Some(Duration::from_nanos(100)));
        for text in ["", "some avg10=1.0\n", "version 17\n", "cpu0 0 0\n"] {
            assert_eq!((pressure(text), run_delay(text)), (None, None), "{text:?}");
        }
    }

    #[test]
    fn counting_goes_on_for_a_quiet_time_after_the_last_sign() {
        let second = Duration::from_secs;
        let mut arming = Arming::new(None, 10.0, second(30));
        for (now, percent, wanted) in [
            (1, Some(10.0), false),
            (2, Some(10.1), true),
            (31, None, true),
            (32, Some(0.0), false),
            (33, Some(99.0), true),
        ] {
            assert_eq!(arming.decide(second(now), false, percent), wanted, "{now}");
        }
        assert!(arming.decide(second(60), true, None) && arming.decide(second(89), false, None));
        assert!(!arming.decide(second(90), false, None));
        assert!(arming.wants(second(1000), false), "without a sign it never ends");
    }

    #[test]
    fn the_first_look_says_nothing_and_the_next_a_share_of_the_time() {
        let Some(mut sign) = Sign::find() else { return };
        assert_eq!(sign.percent(Duration::from_secs(1)), None);
        assert!(sign.percent(Duration::from_secs(2)).is_some_and(|percent| percent >= 0.0));
    }
}
