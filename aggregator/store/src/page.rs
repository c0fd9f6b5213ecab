//! Order of answers, and the places in it at which pages begin.

use std::{fmt, str::FromStr};

use crate::error::Error;

/// How answers are ordered. Equal times are ordered by the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// By observed time, descending.
    NewestFirst,
    /// By observed time, ascending.
    OldestFirst,
    /// As they came into the log.
    Logged,
    /// As they came into the log, the last first.
    LastLogged,
}

impl Order {
    /// What comes first has the lower rank.
    pub(crate) fn rank(self, key: Key) -> (u64, u64) {
        let time = (key.time as u64) ^ (1 << 63);
        match self {
            Self::NewestFirst => (!time, !key.offset),
            Self::OldestFirst => (time, key.offset),
            Self::Logged => (0, key.offset),
            Self::LastLogged => (0, !key.offset),
        }
    }
}

/// Where an event stands in every order. Its text form is opaque to callers: the page to ask for next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// Observed, nanoseconds since 1970-01-01 UTC.
    pub time: i64,
    /// In the log.
    pub offset: u64,
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}{:016x}", self.time as u64, self.offset)
    }
}

impl FromStr for Key {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let parse = || {
            if text.len() != 32 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                return None;
            }
            let (time, offset) = text.split_at_checked(16)?;
            let time = u64::from_str_radix(time, 16).ok()? as i64;
            Some(Self { time, offset: u64::from_str_radix(offset, 16).ok()? })
        };
        parse().ok_or_else(|| Error::Page(text.chars().take(64).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_survives_a_round_trip() {
        for (time, offset) in [(0, 0), (-1, u64::MAX), (i64::MIN, 1), (i64::MAX, 2)] {
            let key = Key { time, offset };
            assert_eq!(key.to_string().parse::<Key>().unwrap(), key);
        }
        for text in ["", "xyz", "é", &"+".repeat(32)] {
            assert!(text.parse::<Key>().is_err(), "{text}");
        }
    }

    #[test]
    fn ranks_follow_the_order() {
        let keys = [(i64::MIN, 5), (-1, 4), (0, 2), (0, 3), (i64::MAX, 1)].map(|(time, offset)| Key { time, offset });
        assert!(keys.is_sorted_by_key(|key| Order::OldestFirst.rank(*key)));
        assert!(keys.iter().rev().is_sorted_by_key(|key| Order::NewestFirst.rank(*key)));
    }
}
