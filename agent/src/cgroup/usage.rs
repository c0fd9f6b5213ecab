//! The CPU time that a cgroup, with everything below it, has used since it was created.
//!
//! Version 1: `cpuacct.stat`, in ticks of 10 ms (0.2 % of one CPU over a window of 5 s); the kernel scales it so that
//! user and system add up to the precise run time. Version 2: `cpu.stat`, in microseconds, there on every cgroup
//! whether or not the controller is on.

use std::{fs::File, io, os::unix::fs::FileExt, path::Path, time::Duration};

use super::Version;

/// Length of a clock tick of `cpuacct.stat`: USER_HZ is 100 on every architecture that Linux runs on but Alpha.
const TICK: Duration = Duration::from_millis(10);
/// Both files say what is needed in their first lines.
const READ: usize = 256;

/// CPU time used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    pub user: Duration,
    pub system: Duration,
}

impl Usage {
    pub fn total(self) -> Duration {
        self.user + self.system
    }
}

/// The open usage file of one cgroup.
#[derive(Debug)]
pub struct Meter {
    file: File,
    version: Version,
}

impl Meter {
    pub fn open(directory: &Path, version: Version) -> io::Result<Self> {
        let name = match version {
            Version::V1 => "cpuacct.stat",
            Version::V2 => "cpu.stat",
        };
        Ok(Self { file: File::open(directory.join(name))?, version })
    }

    /// The counters now. An error means, as a rule, that the cgroup is gone (`ENODEV`).
    pub fn read(&self) -> io::Result<Usage> {
        let mut buffer = [0; READ];
        let length = self.file.read_at(&mut buffer, 0)?;
        let text = std::str::from_utf8(&buffer[..length]).map_err(io::Error::other)?;
        parse(text, self.version).ok_or_else(|| io::Error::other("the file lacks its user or system time"))
    }
}

fn parse(text: &str, version: Version) -> Option<Usage> {
    let (user, system, unit) = match version {
        Version::V1 => ("user", "system", TICK),
        Version::V2 => ("user_usec", "system_usec", Duration::from_micros(1)),
    };
    let value = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '))?;
        let count: u64 = line.trim().parse().ok()?;
        Some(Duration::from_nanos(count.checked_mul(u64::try_from(unit.as_nanos()).ok()?)?))
    };
    Some(Usage { user: value(user)?, system: value(system)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_formats_give_user_and_system_time() {
        let expected = Usage { user: Duration::from_millis(1230), system: Duration::from_millis(450) };
        assert_eq!(parse("user 123\nsystem 45\n", Version::V1), Some(expected));
        let v2 = "usage_usec 1680000\nuser_usec 1230000\nsystem_usec 450000\nnice_usec 0\n";
        assert_eq!(parse(v2, Version::V2), Some(expected));
    }

    #[test]
    fn text_that_is_cut_or_wrong_gives_nothing() {
        for text in ["", "user 1\n", "user x\nsystem 1\n", "user 18446744073709551615\nsystem 1\n"] {
            assert_eq!(parse(text, Version::V1), None, "{text:?}");
        }
    }
}
