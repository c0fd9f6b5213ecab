//! Moments, as people write them in queries.

use time::{Date, OffsetDateTime, format_description::well_known::Rfc3339, macros::format_description};

/// Reads `2026-11-22T10:00:00.5Z`, `2026-11-22`, `now`, `now-15m` (units: s, m, h, d, w), or nanoseconds since 1970.
/// Answers nanoseconds since 1970-01-01 UTC, or nothing if it is none of these, or not between 1678 and 2261.
#[must_use]
pub fn parse(text: &str, now: i64) -> Option<i64> {
    if let Some(rest) = text.strip_prefix("now") {
        return if rest.is_empty() { Some(now) } else { relative(rest, now) };
    }
    if let Ok(nanos) = text.parse() {
        return Some(nanos);
    }
    let moment = OffsetDateTime::parse(text, &Rfc3339).ok().or_else(|| Some(date(text)?.midnight().assume_utc()))?;
    i64::try_from(moment.unix_timestamp_nanos()).ok()
}

/// The end of the day that `text` is the date of, in nanoseconds since 1970-01-01 UTC.
pub(super) fn day_after(text: &str) -> Option<i64> {
    let end = date(text)?.next_day()?.midnight().assume_utc();
    i64::try_from(end.unix_timestamp_nanos()).ok()
}

fn date(text: &str) -> Option<Date> {
    Date::parse(text, format_description!("[year]-[month]-[day]")).ok()
}

fn relative(text: &str, now: i64) -> Option<i64> {
    let (sign, rest) = match text.split_at_checked(1)? {
        ("-", rest) => (-1, rest),
        ("+", rest) => (1, rest),
        _ => return None,
    };
    let (count, unit) = rest.split_at_checked(rest.len().checked_sub(1)?)?;
    let seconds: i64 = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        "w" => 604_800,
        _ => return None,
    };
    let count: u32 = count.parse().ok()?;
    let nanos = i64::from(count).checked_mul(seconds)?.checked_mul(1_000_000_000)?;
    now.checked_add(sign * nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read_in_every_form() {
        let now = 1_764_000_000_000_000_000;
        assert_eq!(parse("1970-01-02", now), Some(86_400_000_000_000));
        assert_eq!(parse("1970-01-01T00:00:01.5Z", now), Some(1_500_000_000));
        assert_eq!(parse("1970-01-01T01:00:00+01:00", now), Some(0));
        assert_eq!(parse("now-15m", now), Some(now - 900_000_000_000));
        assert_eq!(parse("42", now), Some(42));
        for text in
            ["", "now-", "now-m", "now*1h", "now-é", "yesterday", "2026-13-01", "9999-01-01", "now-99999999999w"]
        {
            assert_eq!(parse(text, now), None, "{text}");
        }
    }
}
