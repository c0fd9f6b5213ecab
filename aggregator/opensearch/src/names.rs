//! Names of indices. That of an event is a function of the event's bytes alone, never of its receipt, of settings that
//! may change, of what this version knows or of the present: written again, it meets itself.
//!
//! A day is the event's own, UTC. A clock that is not within [`FIRST`] and [`LAST`] has no day: its events go to
//! `…-undated`. A tracer has its name in lower case, with `_` for what is neither an ASCII letter nor a digit, and none
//! is `other`. That no agent can open indices at will is seen to in `tracers`.

use galen_proto::v1::Event;
use time::{Date, Duration, Month, OffsetDateTime, macros::date};

/// The tracer of events that name none.
pub(crate) const OTHER: &str = "other";
const UNDATED: &str = "undated";
/// Days that a clock may show.
const FIRST: Date = date!(2020 - 01 - 01);
const LAST: Date = date!(2099 - 12 - 31);
const MAX_PREFIX: usize = 64;
const MAX_TRACER: usize = 64;

/// Whether a text can begin the names of indices: lower-case letters, digits, `-` and `_`, a letter or digit first, at
/// most 64 of them.
pub fn is_prefix(text: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_';
    let begins = text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    begins && text.len() <= MAX_PREFIX && text.bytes().all(is_part)
}

/// The names that begin with a prefix.
#[derive(Debug, Clone)]
pub(crate) struct Names {
    prefix: String,
}

/// Which index of ours a name is that of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Index<'a> {
    /// None of attachments.
    pub(crate) tracer: Option<&'a str>,
    /// None for `undated`.
    pub(crate) day: Option<Date>,
}

impl Names {
    pub(crate) fn new(prefix: impl Into<String>) -> Self {
        Self { prefix: prefix.into() }
    }

    /// The index of an event; of one that cannot be decoded if there is none.
    pub(crate) fn event(&self, event: Option<&Event>) -> String {
        format!("{}-events-{}-{}", self.prefix, tracer_of(event), day_of(event))
    }

    /// The index of an event's attachments.
    pub(crate) fn attachments(&self, event: &Event) -> String {
        format!("{}-attachments-{}", self.prefix, day_of(Some(event)))
    }

    pub(crate) fn dead_letters(&self) -> String {
        format!("{}-dead-letters", self.prefix)
    }

    /// All indices of events.
    pub(crate) fn all_events(&self) -> String {
        format!("{}-events-*", self.prefix)
    }

    /// All indices of a tracer's events.
    pub(crate) fn all_events_of(&self, tracer: &str) -> String {
        format!("{}-events-{tracer}-*", self.prefix)
    }

    /// All indices of attachments.
    pub(crate) fn all_attachments(&self) -> String {
        format!("{}-attachments-*", self.prefix)
    }

    /// Of a template: `events`, `events-<tracer>`, `attachments` or `dead-letters`.
    pub(crate) fn template(&self, of: &str) -> String {
        format!("{}-{of}", self.prefix)
    }

    /// Whether a name is one that was made here, and of what.
    pub(crate) fn parse<'a>(&self, name: &'a str) -> Option<Index<'a>> {
        let rest = name.strip_prefix(&self.prefix)?.strip_prefix('-')?;
        let (tracer, day) = match rest.strip_prefix("events-") {
            Some(rest) => {
                let (tracer, day) = rest.split_once('-')?;
                (part(tracer) == tracer).then_some((Some(tracer), day))?
            }
            None => (None, rest.strip_prefix("attachments-")?),
        };
        if day == UNDATED {
            return Some(Index { tracer, day: None });
        }
        let mut parts = day.splitn(3, '.');
        let year = parts.next()?.parse().ok()?;
        let month = Month::try_from(parts.next()?.parse::<u8>().ok()?).ok()?;
        let date = Date::from_calendar_date(year, month, parts.next()?.parse().ok()?).ok()?;
        (show(date) == day).then_some(Index { tracer, day: Some(date) })
    }
}

/// The tracer of an event, as it is named in an index.
pub(crate) fn tracer_of(event: Option<&Event>) -> String {
    part(event.map_or("", |event| event.tracer.as_str()))
}

fn part(tracer: &str) -> String {
    let legal = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' };
    let part: String = tracer.chars().take(MAX_TRACER).map(legal).collect();
    if part.is_empty() { OTHER.into() } else { part }
}

fn day_of(event: Option<&Event>) -> String {
    let observed = event.and_then(|event| event.times).map(|times| times.observed_unix_nanos).unwrap_or_default();
    let moment = OffsetDateTime::UNIX_EPOCH + Duration::nanoseconds(observed);
    if (FIRST..=LAST).contains(&moment.date()) { show(moment.date()) } else { UNDATED.into() }
}

fn show(day: Date) -> String {
    format!("{:04}.{:02}.{:02}", day.year(), u8::from(day.month()), day.day())
}

#[cfg(test)]
mod tests {
    use galen_proto::v1::Times;

    use super::*;

    fn event(tracer: &str, observed_unix_nanos: i64) -> Event {
        let times = Some(Times { observed_unix_nanos, ..Times::default() });
        Event { tracer: tracer.into(), times, ..Event::default() }
    }

    #[test]
    fn an_event_chooses_its_index_alone() {
        let names = Names::new("galen");
        let noon = 1_763_985_600_000_000_000;
        for (event, index) in [
            (event("cpuidle", noon), "galen-events-cpuidle-2025.11.24"),
            (event("Made-Up/2", noon), "galen-events-made_up_2-2025.11.24"),
            (event("größe", noon), "galen-events-gr__e-2025.11.24"),
            (event("", noon), "galen-events-other-2025.11.24"),
            (event("oom", 0), "galen-events-oom-undated"),
            (event("oom", i64::MIN), "galen-events-oom-undated"),
            (event("oom", i64::MAX), "galen-events-oom-undated"),
        ] {
            assert_eq!(names.event(Some(&event)), index);
            let tracer = tracer_of(Some(&event));
            assert_eq!(names.parse(index).and_then(|index| index.tracer), Some(&*tracer), "{index}");
        }
        assert_eq!(names.event(None), "galen-events-other-undated");
        assert_eq!(names.attachments(&event("oom", noon)), "galen-attachments-2025.11.24");
        let attachments = Index { tracer: None, day: Some(date!(2025 - 11 - 24)) };
        assert_eq!(names.parse("galen-attachments-2025.11.24"), Some(attachments));
        let long = names.event(Some(&event(&"x".repeat(1000), noon)));
        assert!(long.len() < 255 && names.parse(&long).is_some(), "{long}");
    }

    #[test]
    fn what_others_named_is_not_ours() {
        let names = Names::new("galen");
        for name in [
            "galen",
            "galen-dead-letters",
            "galen-events-cpuidle-2025.11",
            "galen-events-cpuidle-2025.1.24",
            "galen-events-cpuidle-2025.11.24-copy",
            "galen-events-Mine-2025.11.24",
            "galen-events--2025.11.24",
            "galen-events-my.own-2025.11.24",
            "galen2-events-cpuidle-2025.11.24",
            "galen-attachments-x",
        ] {
            assert_eq!(names.parse(name), None, "{name}");
        }
    }

    #[test]
    fn a_prefix_is_a_legal_beginning() {
        assert!(is_prefix("galen") && is_prefix("a-1_b"));
        for text in ["", "-a", "_a", "A", "a*", "a,b", "é", &"a".repeat(65)] {
            assert!(!is_prefix(text), "{text}");
        }
    }
}
