//! What changed from one profile to another.
//!
//! The two are of different length and rate, so both are told in microseconds of CPU a second. A stack that was sampled
//! at all counts at least one.

use std::collections::BTreeMap;

use super::Stacks;

/// By frames, the root first: before and after.
pub struct Difference {
    stacks: BTreeMap<Vec<String>, (u64, u64)>,
}

impl Difference {
    pub fn of(before: &Stacks, after: &Stacks) -> Self {
        let mut stacks: BTreeMap<Vec<String>, (u64, u64)> = BTreeMap::new();
        for stack in &before.stacks {
            stacks.entry(stack.frames.clone()).or_default().0 = micros(stack.samples, before.weight);
        }
        for stack in &after.stacks {
            stacks.entry(stack.frames.clone()).or_default().1 = micros(stack.samples, after.weight);
        }
        Self { stacks }
    }

    pub fn stacks(&self) -> impl Iterator<Item = (&[String], u64, u64)> {
        self.stacks.iter().map(|(frames, (before, after))| (frames.as_slice(), *before, *after))
    }

    /// Whether less was used after than before.
    pub fn is_over(&self) -> bool {
        let sum =
            |side: fn((u64, u64)) -> u64| self.stacks.values().fold(0_u64, |sum, pair| sum.saturating_add(side(*pair)));
        sum(|(before, _)| before) > sum(|(_, after)| after)
    }

    /// A stack a line: frames from the root, joined by `;`, then before and after.
    pub fn folded(&self) -> String {
        let line = |(frames, before, after): (&[String], u64, u64)| format!("{} {before} {after}\n", frames.join(";"));
        self.stacks().map(line).collect()
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positive, and far below 2^64")]
fn micros(samples: u64, weight: f64) -> u64 {
    ((samples as f64 * weight).round() as u64).max(1)
}

#[cfg(test)]
mod tests {
    use super::{super::tests::profile, *};

    #[test]
    fn profiles_of_different_length_and_rate_are_compared_by_cpu_time_a_second() {
        let of = |stacks: &[(&[&str], i64)], period, seconds: i64| {
            let mut profile = profile(stacks);
            (profile.period, profile.duration_nanos) = (period, seconds * 1_000_000_000);
            Stacks::of(&profile)
        };
        // A whole CPU before, half of one after.
        let before = of(&[(&["main", "spin"], 600), (&["main", "gone"], 1)], 50_000_000, 30);
        let after = of(&[(&["main", "spin"], 500)], 10_000_000, 10);
        let difference = Difference::of(&before, &after);
        assert!(difference.is_over());
        assert_eq!(difference.folded(), "main;gone 1667 0\nmain;spin 1000000 500000\n");
        let drawn = super::super::draw_difference(&difference, "x").unwrap();
        let text = String::from_utf8(drawn).unwrap();
        assert!(text.contains("spin") && text.contains("gone") && text.contains("widths: before"), "{text}");
        assert!(!Difference::of(&after, &before).is_over());
    }
}
