//! The time of all CPUs, from the first line of `/proc/stat`: ticks of 10 ms since the boot, by what they went to.

use std::{fs::File, io, os::unix::fs::FileExt, time::Duration};

use crate::cgroup::Usage;

pub(super) const PATH: &str = "/proc/stat";
/// USER_HZ is 100 on every architecture that Linux runs on but Alpha.
const TICK_MILLIS: u64 = 10;
/// user, nice, system, idle, iowait, irq, softirq, steal. What follows is in user and nice already.
const FIELDS: usize = 8;
const SYSTEM: usize = 2;

pub(super) struct Stat {
    file: File,
    last: Usage,
}

impl Stat {
    pub(super) fn open() -> io::Result<Self> {
        Ok(Self { file: File::open(PATH)?, last: Usage::default() })
    }

    /// Time in the kernel, and all other time, idle included, as that of users. Neither ever goes back, though idle time
    /// and the time that waits for IO do by a tick or two.
    pub(super) fn read(&mut self) -> io::Result<Usage> {
        let mut buffer = [0; 256];
        let length = self.file.read_at(&mut buffer, 0)?;
        let text = std::str::from_utf8(&buffer[..length]).map_err(io::Error::other)?;
        let now = parse(text).ok_or_else(|| io::Error::other("its first line does not tell the time of the CPUs"))?;
        self.last = Usage { user: now.user.max(self.last.user), system: now.system.max(self.last.system) };
        Ok(self.last)
    }
}

fn parse(text: &str) -> Option<Usage> {
    let fields = text.lines().next()?.strip_prefix("cpu ")?.split_whitespace().take(FIELDS);
    let ticks: Vec<u64> = fields.map(|field| field.parse().ok()).collect::<Option<_>>()?;
    let time = |ticks: u64| Duration::from_millis(ticks.saturating_mul(TICK_MILLIS));
    let system = *ticks.get(SYSTEM)?;
    let all = ticks.iter().fold(0, |sum: u64, ticks| sum.saturating_add(*ticks));
    Some(Usage { user: time(all - system), system: time(system) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_time_is_told_apart_from_all_other() {
        let text = "cpu  100 20 300 4000 50 6 7 8 90 10\ncpu0 1 2 3 4 5 6 7 8 9 10\n";
        let user = Duration::from_millis(10 * (100 + 20 + 4000 + 50 + 6 + 7 + 8));
        assert_eq!(parse(text), Some(Usage { user, system: Duration::from_secs(3) }));
        for wrong in ["", "cpu0 1 2 3 4 5 6 7 8\n", "cpu  1 2\n", "cpu  1 x 3 4\n"] {
            assert_eq!(parse(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn this_machine_tells_it() {
        let mut stat = Stat::open().unwrap();
        assert!(stat.read().unwrap().system > Duration::ZERO);
    }
}
