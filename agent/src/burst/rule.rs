//! When usage is a burst: it is high, and it rose.
//!
//! Three rules, for user time, time in the kernel, and both together. A rule is met when the level is above its
//! threshold and the increase against the window before is above its own, both strictly. The score is the largest sum
//! of both excesses among the rules that are met, in percentage points: it orders bursts of the same tick.

use serde::Serialize;

/// CPU usage in percent of the capacity.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Percentages {
    pub user: f64,
    pub system: f64,
    pub total: f64,
}

/// Usage in the window that ends now, and its increase against the window before.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Reading {
    pub now: Percentages,
    pub delta: Percentages,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Threshold {
    pub level: f64,
    pub delta: f64,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Thresholds {
    pub user: Threshold,
    pub system: Threshold,
    pub total: Threshold,
}

impl Threshold {
    /// By how many percentage points both are exceeded, together; `None` unless each is.
    pub(crate) fn exceeded(self, level: f64, delta: f64) -> Option<f64> {
        (level > self.level && delta > self.delta).then_some((level - self.level) + (delta - self.delta))
    }
}

/// The rules by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Rule {
    User,
    System,
    Total,
}

/// Which rules a burst meets, and by how much.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Verdict {
    /// Never empty; the one that is exceeded most first.
    pub rules: Vec<Rule>,
    pub score: f64,
}

/// `None` if no rule is met.
pub(crate) fn judge(thresholds: &Thresholds, reading: &Reading) -> Option<Verdict> {
    let Reading { now, delta } = reading;
    let mut met: Vec<(f64, Rule)> = [
        (Rule::User, thresholds.user, now.user, delta.user),
        (Rule::System, thresholds.system, now.system, delta.system),
        (Rule::Total, thresholds.total, now.total, delta.total),
    ]
    .into_iter()
    .filter_map(|(rule, threshold, level, delta)| Some((threshold.exceeded(level, delta)?, rule)))
    .collect();
    met.sort_by(|a, b| b.0.total_cmp(&a.0));
    let score = met.first()?.0;
    Some(Verdict { rules: met.into_iter().map(|(_, rule)| rule).collect(), score })
}

#[cfg(test)]
mod tests {
    use super::*;

    const THRESHOLDS: Thresholds = Thresholds {
        user: Threshold { level: 75.0, delta: 45.0 },
        system: Threshold { level: 45.0, delta: 20.0 },
        total: Threshold { level: 90.0, delta: 55.0 },
    };

    fn reading(user: (f64, f64), system: (f64, f64)) -> Reading {
        Reading {
            now: Percentages { user: user.0, system: system.0, total: user.0 + system.0 },
            delta: Percentages { user: user.1, system: system.1, total: user.1 + system.1 },
        }
    }

    #[test]
    fn each_rule_needs_the_level_and_the_increase_strictly() {
        type LevelAndDelta = (f64, f64);
        let cases: [(LevelAndDelta, LevelAndDelta, &[Rule]); 12] = [
            ((75.1, 45.1), (0.0, 0.0), &[Rule::User]),
            ((75.0, 50.0), (0.0, 0.0), &[]),
            ((80.0, 45.0), (0.0, 0.0), &[]),
            ((80.0, 44.9), (0.0, 0.0), &[]),
            ((0.0, 0.0), (45.1, 20.1), &[Rule::System]),
            ((0.0, 0.0), (45.0, 30.0), &[]),
            ((0.0, 0.0), (50.0, 20.0), &[]),
            ((60.0, 40.0), (31.0, 15.1), &[Rule::Total]),
            ((60.0, 40.0), (30.0, 20.0), &[]),
            ((60.0, 40.0), (31.0, 15.0), &[]),
            ((100.0, 100.0), (0.0, 0.0), &[Rule::User, Rule::Total]),
            ((100.0, 0.0), (0.0, 0.0), &[]),
        ];
        for (user, system, rules) in cases {
            let verdict = judge(&THRESHOLDS, &reading(user, system));
            let met = verdict.map(|verdict| verdict.rules).unwrap_or_default();
            assert_eq!(met, rules, "user {user:?} system {system:?}");
        }
    }

    #[test]
    fn the_score_is_the_largest_excess_of_the_rules_that_are_met() {
        let score = |user, system| judge(&THRESHOLDS, &reading(user, system)).map(|verdict| verdict.score);
        // User: 25 + 55; total: 10 + 45.
        assert_eq!(score((100.0, 100.0), (0.0, 0.0)), Some(80.0));
        // System: 5 + 10 counts, the user level is far over its threshold, but its rule is not met.
        assert_eq!(score((99.0, 10.0), (50.0, 30.0)), Some(15.0));
        assert_eq!(score((10.0, 10.0), (10.0, 10.0)), None);
    }
}
