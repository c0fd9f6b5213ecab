//! What tracers did on all nodes, summed by name.
//!
//! Agents report totals since their start. What is new in a report is added here, so that the sums never go back, also
//! when agents start anew or leave. Names come from agents: at most [`MAX_NAMES`] are told apart, those that were heard
//! of first; the rest is [`OTHER`], and counted.

use std::collections::BTreeMap;

use galen_proto::v1::{SuppressionReason, TracerStatus};

const MAX_NAMES: usize = 128;
/// Longest name that is told apart, in bytes.
const MAX_NAME: usize = 64;
const OTHER: &str = "__other__";

/// Sums of all agents since the aggregator's start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    pub triggers: u64,
    pub captures: u64,
    pub failures: u64,
    pub evaluations: u64,
    /// By the number of the reason; what is not known here is the unspecified one.
    pub suppressed: [u64; REASONS],
}

/// Reasons of suppression, the unspecified one included.
pub(super) const REASONS: usize = SuppressionReason::Unsupported as usize + 1;

#[derive(Debug, Default)]
pub(super) struct Tracers {
    totals: BTreeMap<String, Totals>,
    /// Reports that went to [`OTHER`], or were left out before.
    pub(super) folded: u64,
}

impl Tracers {
    /// An agent said `now`, and before that `earlier`.
    pub(super) fn report(&mut self, earlier: &[TracerStatus], now: &[TracerStatus]) {
        for status in now {
            let earlier =
                earlier.iter().find(|earlier| earlier.name == status.name).map(Totals::of).unwrap_or_default();
            let more = Totals::of(status).since(earlier);
            let known = self.totals.contains_key(&status.name);
            let is_told_apart = known || (self.totals.len() < MAX_NAMES && status.name.len() <= MAX_NAME);
            let name = if is_told_apart { status.name.as_str() } else { OTHER };
            self.folded += u64::from(!is_told_apart);
            let totals = self.totals.entry(name.to_owned()).or_default();
            totals.each_mut().zip(more.each()).for_each(|(total, more)| *total += more);
        }
    }

    /// By name.
    pub(super) fn totals(&self) -> Vec<(String, Totals)> {
        self.totals.iter().map(|(name, totals)| (name.clone(), *totals)).collect()
    }
}

/// The name itself if it is told apart, or [`OTHER`].
pub(super) fn name(totals: &[(String, Totals)], name: String) -> String {
    if totals.iter().any(|(known, _)| *known == name) { name } else { OTHER.to_owned() }
}

impl Totals {
    fn of(status: &TracerStatus) -> Self {
        let mut suppressed = [0; REASONS];
        for suppression in &status.suppressed {
            let reason = usize::try_from(suppression.reason).ok().filter(|reason| *reason < REASONS);
            let count: &mut u64 = &mut suppressed[reason.unwrap_or_default()];
            *count = count.saturating_add(suppression.count);
        }
        let TracerStatus { triggers, captures, failures, evaluations, .. } = *status;
        Self { triggers, captures, failures, evaluations, suppressed }
    }

    /// All of it if the agent has started anew since `earlier`: its totals never go back otherwise.
    fn since(self, earlier: Self) -> Self {
        if self.each().zip(earlier.each()).any(|(now, earlier)| now < earlier) {
            return self;
        }
        let mut more = self;
        more.each_mut().zip(earlier.each()).for_each(|(now, earlier)| *now -= earlier);
        more
    }

    fn each(self) -> impl Iterator<Item = u64> {
        [self.triggers, self.captures, self.failures, self.evaluations].into_iter().chain(self.suppressed)
    }

    fn each_mut(&mut self) -> impl Iterator<Item = &mut u64> {
        let Self { triggers, captures, failures, evaluations, suppressed } = self;
        [triggers, captures, failures, evaluations].into_iter().chain(suppressed)
    }
}

#[cfg(test)]
mod tests {
    use galen_proto::v1::Suppression;

    use super::*;

    fn status(name: &str, triggers: u64) -> TracerStatus {
        TracerStatus { name: name.into(), triggers, ..TracerStatus::default() }
    }

    #[test]
    fn sums_go_on_when_an_agent_starts_anew() {
        let mut tracers = Tracers::default();
        let mut said = Vec::new();
        for triggers in [5, 7, 7, 2, 3] {
            let now = vec![status("oom", triggers)];
            tracers.report(&said, &now);
            said = now;
        }
        assert_eq!(tracers.totals(), [("oom".into(), Totals { triggers: 10, ..Totals::default() })]);
        assert_eq!(tracers.folded, 0);
    }

    #[test]
    fn suppressions_are_summed_by_reason_and_unknown_reasons_count_too() {
        let suppressed = |reason, count| TracerStatus {
            name: "oom".into(),
            suppressed: vec![Suppression { reason, count }],
            ..TracerStatus::default()
        };
        let mut tracers = Tracers::default();
        let cooldown = SuppressionReason::Cooldown as i32;
        tracers.report(&[], &[suppressed(cooldown, 3)]);
        tracers.report(&[suppressed(cooldown, 3)], &[suppressed(cooldown, 5)]);
        tracers.report(&[], &[suppressed(77, 2)]);
        let [(_, totals)] = &tracers.totals()[..] else { panic!("one tracer") };
        assert_eq!(totals.suppressed[SuppressionReason::Cooldown as usize], 5);
        assert_eq!(totals.suppressed[SuppressionReason::Unspecified as usize], 2);
    }

    #[test]
    fn names_beyond_the_bound_are_one_and_are_counted() {
        let mut tracers = Tracers::default();
        let many: Vec<_> = (0..MAX_NAMES + 3).map(|place| status(&format!("tracer_{place}"), 2)).collect();
        tracers.report(&[], &many);
        assert_eq!((tracers.totals().len(), tracers.folded), (MAX_NAMES + 1, 3));
        let other = Totals { triggers: 6, ..Totals::default() };
        assert!(tracers.totals().contains(&(OTHER.into(), other)));
        let name = |text: &str| name(&tracers.totals(), text.to_owned());
        assert_eq!((name("tracer_0"), name("tracer_130")), ("tracer_0".into(), OTHER.into()));
    }
}
