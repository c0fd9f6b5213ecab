//! What a process has taken.

use std::{fs, io, time::Duration};

use super::super::Error;

#[derive(Debug, Clone, Copy)]
pub(super) struct Usage {
    pub(super) cpu: Duration,
    pub(super) resident_bytes: u64,
    pub(super) peak_bytes: u64,
}

impl Usage {
    pub(super) fn of(pid: u32) -> Result<Self, Error> {
        let read = |file: &str| {
            let path = format!("/proc/{pid}/{file}");
            fs::read_to_string(&path).map_err(|source| Error::Machine { what: format!("read {path}"), source })
        };
        let (stat, status) = (read("stat")?, read("status")?);
        let parsed = Self::parse(&stat, &status, rustix::param::clock_ticks_per_second());
        parsed.ok_or_else(|| Error::Machine {
            what: format!("read what process {pid} has taken"),
            source: io::ErrorKind::InvalidData.into(),
        })
    }

    /// Of `/proc/PID/stat` and `/proc/PID/status`.
    fn parse(stat: &str, status: &str, ticks_per_second: u64) -> Option<Self> {
        // The name before it may have spaces and brackets.
        let (_, fields) = stat.rsplit_once(')')?;
        let mut times = fields.split_whitespace().skip(11);
        let ticks = times.next()?.parse::<u64>().ok()? + times.next()?.parse::<u64>().ok()?;
        let bytes = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            Some(line.split_whitespace().next()?.parse::<u64>().ok()? << 10)
        };
        Some(Self {
            cpu: Duration::from_secs_f64(ticks as f64 / ticks_per_second as f64),
            resident_bytes: bytes("VmRSS:")?,
            peak_bytes: bytes("VmHWM:")?,
        })
    }

    /// With the CPU time since `before` alone.
    pub(super) fn since(self, before: &Self) -> Self {
        Self { cpu: self.cpu.saturating_sub(before.cpu), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_spaces_and_brackets_hides_no_figure() {
        let stat = "7 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0 20";
        let usage = Usage::parse(stat, "Name:\tx\nVmHWM:\t  20 kB\nVmRSS:\t  10 kB\n", 100).unwrap();
        assert_eq!((usage.cpu, usage.resident_bytes, usage.peak_bytes), (Duration::from_secs(2), 10240, 20480));
    }
}
