//! The two clocks of a record: the kernel's time since boot, which never jumps, and the wall clock, which may.
//!
//! Injected wherever time is read, so that tests can jump it.

use std::{sync::Arc, time::Duration};

use rustix::time::{ClockId, clock_gettime};

/// One moment by both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// CLOCK_BOOTTIME: since boot, suspend included.
    pub boot: Duration,
    /// CLOCK_REALTIME: nanoseconds since 1970-01-01 UTC.
    pub unix_nanos: i64,
}

impl Moment {
    /// The moment at which CLOCK_BOOTTIME was `boot`, its wall clock reckoned back from this moment.
    pub fn at_boot(self, boot: Duration) -> Self {
        let nanos = |span: Duration| i64::try_from(span.as_nanos()).unwrap_or(i64::MAX);
        let age = nanos(self.boot).saturating_sub(nanos(boot));
        Self { boot, unix_nanos: self.unix_nanos.saturating_sub(age) }
    }

    pub fn boot_nanos(self) -> u64 {
        u64::try_from(self.boot.as_nanos()).unwrap_or(u64::MAX)
    }
}

/// Where a [`Clock`] has its time from.
pub trait Source: Send + Sync {
    fn now(&self) -> Moment;
}

/// A shared source of time.
#[derive(Clone)]
pub struct Clock(Arc<dyn Source>);

impl Clock {
    pub fn new(source: impl Source + 'static) -> Self {
        Self(Arc::new(source))
    }

    /// The kernel's.
    pub fn system() -> Self {
        Self::new(System)
    }

    pub fn now(&self) -> Moment {
        self.0.now()
    }
}

/// The kernel's wall clock now: nanoseconds since 1970-01-01 UTC.
pub fn unix_nanos() -> i64 {
    System.now().unix_nanos
}

struct System;

impl Source for System {
    fn now(&self) -> Moment {
        let boot = clock_gettime(ClockId::Boottime);
        let wall = clock_gettime(ClockId::Realtime);
        Moment {
            boot: Duration::new(u64::try_from(boot.tv_sec).unwrap_or(0), u32::try_from(boot.tv_nsec).unwrap_or(0)),
            unix_nanos: wall.tv_sec.saturating_mul(1_000_000_000).saturating_add(wall.tv_nsec),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_since_boot_only_rises_and_agrees_with_the_kernel() {
        let clock = Clock::system();
        let first = clock.now();
        assert!(clock.now().boot >= first.boot);
        let uptime: f64 = std::fs::read_to_string("/proc/uptime").unwrap().split(' ').next().unwrap().parse().unwrap();
        assert!((uptime - first.boot.as_secs_f64()).abs() < 5.0);
    }

    #[test]
    fn an_earlier_moment_is_earlier_by_both_clocks() {
        let now = Moment { boot: Duration::from_secs(100), unix_nanos: 5_000_000_000 };
        let then = now.at_boot(Duration::from_secs(98));
        assert_eq!((then.boot, then.unix_nanos), (Duration::from_secs(98), 3_000_000_000));
    }
}
