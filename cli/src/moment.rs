//! Moments as people write and read them. All are UTC.

use std::{
    str::FromStr,
    time::{SystemTime, UNIX_EPOCH},
};

use galen_runtime::Span;
use time::{
    Date, OffsetDateTime,
    format_description::{BorrowedFormatItem, well_known::Rfc3339},
    macros::format_description,
};

const DATE: &[BorrowedFormatItem<'_>] = format_description!("[year]-[month]-[day]");
const SECONDS: &[BorrowedFormatItem<'_>] = format_description!("[year]-[month]-[day] [hour]:[minute]:[second]");

/// A moment that was typed: a date, a date and time, or how long ago.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Moment {
    /// Nanoseconds since 1970-01-01 UTC.
    pub(crate) unix_nanos: i64,
}

/// The text is not a moment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "write how long ago (`90s`, `1h`, `7days`, or `now-1h`), a date (`2026-05-01`), or a date and time (`2026-05-01T12:00:00Z`)"
)]
pub(crate) struct NotAMoment;

impl FromStr for Moment {
    type Err = NotAMoment;

    fn from_str(text: &str) -> Result<Self, NotAMoment> {
        // As queries have it, `now-1h` is `1h` ago.
        let nanos = if text == "now" {
            i128::from(now_unix_nanos())
        } else if let Ok(ago) = text.strip_prefix("now-").unwrap_or(text).parse::<Span>() {
            i128::from(now_unix_nanos()) - i128::try_from(ago.0.as_nanos()).map_err(|_| NotAMoment)?
        } else if let Ok(date) = Date::parse(text, DATE) {
            date.midnight().assume_utc().unix_timestamp_nanos()
        } else {
            OffsetDateTime::parse(text, &Rfc3339).map_err(|_| NotAMoment)?.unix_timestamp_nanos()
        };
        Ok(Self { unix_nanos: i64::try_from(nanos).map_err(|_| NotAMoment)? })
    }
}

/// For programs: RFC 3339 with all digits that are not zero.
pub(crate) fn rfc3339(unix_nanos: i64) -> String {
    // Every such number of nanoseconds lies between the years 1677 and 2262, which the format can express.
    utc(unix_nanos).format(&Rfc3339).unwrap_or_default()
}

/// For people: to the second.
pub(crate) fn seconds(unix_nanos: i64) -> String {
    utc(unix_nanos).format(SECONDS).unwrap_or_default()
}

/// How long before now, in the one or two largest units, such as `3m 20s`.
pub(crate) fn ago(unix_nanos: i64) -> String {
    let seconds = now_unix_nanos().saturating_sub(unix_nanos).max(0) / 1_000_000_000;
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m {}s", seconds % 60),
        (0, ..) => format!("{hours}h {minutes}m"),
        _ => format!("{days}d {hours}h"),
    }
}

pub(crate) fn now_unix_nanos() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

fn utc(unix_nanos: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp_nanos(unix_nanos.into()).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAY_DAY_NOON: i64 = 1_777_636_800_000_000_000;

    #[test]
    fn dates_and_times_are_utc() {
        let nanos = |text: &str| text.parse::<Moment>().unwrap().unix_nanos;
        assert_eq!(nanos("2026-05-01T12:00:00Z"), MAY_DAY_NOON);
        assert_eq!(nanos("2026-05-01T14:00:00+02:00"), MAY_DAY_NOON);
        assert_eq!(nanos("2026-05-01"), MAY_DAY_NOON - 12 * 3600 * 1_000_000_000);
    }

    #[test]
    fn a_duration_is_before_now() {
        let hour_ago = now_unix_nanos() - 3600 * 1_000_000_000;
        assert!("1h".parse::<Moment>().unwrap().unix_nanos >= hour_ago);
        assert!("2h".parse::<Moment>().unwrap().unix_nanos < hour_ago);
        assert!("now-2h".parse::<Moment>().unwrap().unix_nanos < hour_ago);
        assert!("now".parse::<Moment>().unwrap().unix_nanos > hour_ago);
    }

    #[test]
    fn nonsense_and_what_is_out_of_range_are_refused() {
        for text in ["", "yesterday", "2026-13-01", "9999-01-01", "1000years", "now-", "now+1h"] {
            assert_eq!(text.parse::<Moment>(), Err(NotAMoment), "{text}");
        }
    }

    #[test]
    fn every_moment_can_be_written() {
        assert_eq!(rfc3339(MAY_DAY_NOON + 5), "2026-05-01T12:00:00.000000005Z");
        assert_eq!(seconds(0), "1970-01-01 00:00:00");
        assert_eq!(seconds(i64::MIN), "1677-09-21 00:12:43");
        assert_eq!(seconds(i64::MAX), "2262-04-11 23:47:16");
    }

    #[test]
    fn ages_have_their_largest_units() {
        let before = |seconds: i64| ago(now_unix_nanos() - seconds * 1_000_000_000);
        assert_eq!(before(0), "0s");
        assert_eq!(before(-100), "0s");
        assert!(before(3600 + 120).starts_with("1h 2m"));
        assert!(before(2 * 86_400 + 3600).starts_with("2d 1h"));
    }
}
