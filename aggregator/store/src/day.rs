//! Which index an event goes to: one a day, by the event's own wall time.
//!
//! A clock that is far off must not open an index in 1970 or 2100: an event whose day is not next to the day of its
//! receipt goes to the day of its receipt. Its own time stays what it is, and is what searches look at. The choice
//! depends on the event alone, never on settings or on the present, so an event that is read again from the log goes
//! where it went before.

use std::fmt;

use time::{Date, Month};

const NANOS_PER_DAY: i64 = 86_400_000_000_000;
/// 1970-01-01 as a Julian day.
const UNIX_EPOCH: i32 = 2_440_588;

/// A day of the calendar, UTC, as days since 1970-01-01.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Day(i32);

impl Day {
    /// The day of a moment, in nanoseconds since 1970-01-01 UTC.
    pub(crate) fn of(unix_nanos: i64) -> Self {
        // The quotient of an i64 of nanoseconds is within ±106,752.
        Self(unix_nanos.div_euclid(NANOS_PER_DAY) as i32)
    }

    /// The index of an event.
    pub(crate) fn index(observed: i64, received: i64) -> Self {
        let (observed, received) = (Self::of(observed), Self::of(received));
        if (observed.0 - received.0).abs() <= 1 { observed } else { received }
    }

    /// Whole days from `self` to `later`.
    pub(crate) fn until(self, later: Self) -> i64 {
        i64::from(later.0) - i64::from(self.0)
    }

    /// Reads the form that `Display` writes.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, '-');
        let year = parts.next()?.parse().ok()?;
        let month: u8 = parts.next()?.parse().ok()?;
        let day = parts.next()?.parse().ok()?;
        let date = Date::from_calendar_date(year, Month::try_from(month).ok()?, day).ok()?;
        Some(Self(date.to_julian_day() - UNIX_EPOCH)).filter(|day| day.to_string() == text)
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Date::from_julian_day(self.0 + UNIX_EPOCH) {
            Ok(date) => write!(f, "{:04}-{:02}-{:02}", date.year(), u8::from(date.month()), date.day()),
            Err(_) => write!(f, "day{}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_survives_a_round_trip() {
        for nanos in [0, -1, i64::MIN, i64::MAX, 1_764_000_000_000_000_000] {
            let day = Day::of(nanos);
            assert_eq!(Day::parse(&day.to_string()), Some(day), "{day}");
        }
        assert_eq!(Day::of(1_764_000_000_000_000_000).to_string(), "2025-11-24");
        assert_eq!(Day::parse("2025-11-24x"), None);
        assert_eq!(Day::parse("2025-1-24"), None);
    }

    #[test]
    fn a_clock_far_off_does_not_choose_the_index() {
        let received = 1_764_000_000_000_000_000;
        assert_eq!(Day::index(0, received), Day::of(received));
        assert_eq!(Day::index(i64::MAX, received), Day::of(received));
        let yesterday = received - NANOS_PER_DAY;
        assert_eq!(Day::index(yesterday, received), Day::of(yesterday));
        assert_eq!(Day::index(yesterday - NANOS_PER_DAY, received), Day::of(received));
    }
}
