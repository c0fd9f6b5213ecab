//! What captures have cost, and what is left.
//!
//! For the node, and for each tracer, three costs are kept: captures, CPU time and bytes. Each leaks at the rate of its
//! bound, an hour's worth an hour, so that after a quiet hour a whole hour's worth may be spent at once, and in the long
//! run never more than the rate. A capture is booked when it begins, with what the tracer's last one cost, and corrected
//! when it ends.
//!
//! Degradation, in this order: a full capture while at least half of every bound is left; a short one while there is
//! anything left; then none.

use std::{collections::BTreeMap, time::Duration};

use crate::clock::Moment;

const HOUR: f64 = 3600.0;
/// Below this share of a bound captures are short.
const AMPLE: f64 = 0.5;
/// What a tracer's first capture is booked with.
const FIRST: Cost = Cost { cpu: Duration::from_millis(100), bytes: 128 << 10 };
/// Most lower bounds at a time; they come from the aggregator, one for a tracer.
const MAX_LOWERED: usize = 64;

/// What a capture took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cost {
    /// CPU time of the agent.
    pub cpu: Duration,
    /// Size of the evidence.
    pub bytes: u64,
}

/// What captures may cost.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bounds {
    /// Captures at a time.
    pub concurrent: usize,
    pub captures_per_hour: u32,
    pub cpu_per_hour: Duration,
    pub bytes_per_hour: u64,
}

/// What is left of the bound that is used most.
struct Room<'a> {
    /// Of the bound; zero or less is none.
    share: f64,
    bound: &'static str,
    of: &'a str,
}

/// How much of a capture may be taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    Full,
    /// With the reason.
    Short(String),
    /// With the reason.
    None(String),
}

#[derive(Debug)]
pub(super) struct Ledger {
    bounds: Bounds,
    node: Account,
    /// By tracer: names are those of the agent's list.
    tracers: BTreeMap<&'static str, Account>,
    /// By tracer, or empty for the node: what the aggregator allows, until when.
    lowered: BTreeMap<String, (Bounds, Duration)>,
}

#[derive(Debug, Default)]
struct Account {
    running: usize,
    captures: f64,
    cpu_seconds: f64,
    bytes: f64,
    leaked_at: Duration,
    /// Of the last capture that ended.
    last: Option<Cost>,
}

impl Ledger {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self { bounds, node: Account::default(), tracers: BTreeMap::new(), lowered: BTreeMap::new() }
    }

    /// Holds `bounds` too, for the node or one tracer, until `until`. They can only lower the node's own.
    pub(super) fn lower(&mut self, tracer: String, bounds: Bounds, until: Duration, now: Moment) {
        self.lowered.retain(|_, (_, until)| now.boot < *until);
        if self.lowered.len() < MAX_LOWERED || self.lowered.contains_key(&tracer) {
            self.lowered.insert(tracer, (bounds, until));
        }
    }

    /// Decides, and books the capture unless there is to be none: [`end`](Self::end) must follow then.
    pub(super) fn begin(&mut self, tracer: &'static str, now: Moment) -> (Verdict, Cost) {
        self.lowered.retain(|_, (_, until)| now.boot < *until);
        let of_node = self.lowered.get("").map_or(self.bounds, |(lowered, _)| self.bounds.at_most(lowered));
        let of_tracer = self.lowered.get(tracer).map_or(of_node, |(lowered, _)| of_node.at_most(lowered));
        let account = self.tracers.entry(tracer).or_default();
        account.leak(&of_tracer, now);
        self.node.leak(&of_node, now);
        let cost = account.last.unwrap_or(FIRST);
        let (node, tracer) = (self.node.room(&of_node, "the node"), account.room(&of_tracer, tracer));
        let verdict = if node.share <= tracer.share { node } else { tracer }.verdict();
        if !matches!(verdict, Verdict::None(_)) {
            account.begin(cost);
            self.node.begin(cost);
        }
        (verdict, cost)
    }

    /// A capture that was booked with `booked` has ended and cost `actual`.
    pub(super) fn end(&mut self, tracer: &'static str, booked: Cost, actual: Cost) {
        self.node.end(booked, actual);
        if let Some(account) = self.tracers.get_mut(tracer) {
            account.end(booked, actual);
        }
    }
}

impl Bounds {
    fn at_most(self, other: &Self) -> Self {
        Self {
            concurrent: self.concurrent.min(other.concurrent),
            captures_per_hour: self.captures_per_hour.min(other.captures_per_hour),
            cpu_per_hour: self.cpu_per_hour.min(other.cpu_per_hour),
            bytes_per_hour: self.bytes_per_hour.min(other.bytes_per_hour),
        }
    }
}

impl Account {
    fn leak(&mut self, bounds: &Bounds, now: Moment) {
        let hours = now.boot.saturating_sub(self.leaked_at).as_secs_f64() / HOUR;
        self.leaked_at = now.boot;
        let leak = |spent: &mut f64, per_hour: f64| *spent = (*spent - per_hour * hours).max(0.0);
        leak(&mut self.captures, bounds.captures_per_hour.into());
        leak(&mut self.cpu_seconds, bounds.cpu_per_hour.as_secs_f64());
        leak(&mut self.bytes, bounds.bytes_per_hour as f64);
    }

    fn room<'a>(&self, bounds: &Bounds, of: &'a str) -> Room<'a> {
        let left = |spent: f64, bound: f64| if bound > 0.0 { 1.0 - spent / bound } else { 0.0 };
        let running = if self.running < bounds.concurrent { 1.0 } else { 0.0 };
        let captures = f64::from(bounds.captures_per_hour);
        let rooms = [
            (running, "captures at a time"),
            // Of captures, nothing less than a whole one is of use.
            (if self.captures + 1.0 > captures { 0.0 } else { left(self.captures, captures) }, "captures an hour"),
            (left(self.cpu_seconds, bounds.cpu_per_hour.as_secs_f64()), "CPU time an hour"),
            (left(self.bytes, bounds.bytes_per_hour as f64), "bytes an hour"),
        ];
        let least = |least: (f64, _), room: (f64, _)| if room.0 < least.0 { room } else { least };
        let (share, bound) = rooms.into_iter().fold((1.0, ""), least);
        Room { share, bound, of }
    }

    fn begin(&mut self, cost: Cost) {
        self.running += 1;
        self.captures += 1.0;
        self.spend(cost, 1.0);
    }

    fn end(&mut self, booked: Cost, actual: Cost) {
        self.running = self.running.saturating_sub(1);
        self.spend(booked, -1.0);
        self.spend(actual, 1.0);
        self.last = Some(actual);
    }

    fn spend(&mut self, cost: Cost, sign: f64) {
        self.cpu_seconds = (self.cpu_seconds + sign * cost.cpu.as_secs_f64()).max(0.0);
        self.bytes = (self.bytes + sign * cost.bytes as f64).max(0.0);
    }
}

impl Room<'_> {
    fn verdict(self) -> Verdict {
        let Self { share, bound, of } = self;
        if share <= 0.0 {
            Verdict::None(format!("the budget of {bound} of {of} is used up"))
        } else if share < AMPLE {
            Verdict::Short(format!("{:.0} % of the budget of {bound} of {of} are left", share * 100.0))
        } else {
            Verdict::Full
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds =
        Bounds { concurrent: 2, captures_per_hour: 10, cpu_per_hour: Duration::from_secs(36), bytes_per_hour: 1 << 20 };

    fn at(seconds: u64) -> Moment {
        Moment { boot: Duration::from_secs(10_000 + seconds), unix_nanos: 0 }
    }

    /// One capture that begins and ends at once.
    fn capture(ledger: &mut Ledger, tracer: &'static str, now: Moment, cost: Cost) -> Verdict {
        let (verdict, booked) = ledger.begin(tracer, now);
        if !matches!(verdict, Verdict::None(_)) {
            ledger.end(tracer, booked, cost);
        }
        verdict
    }

    #[test]
    fn captures_are_full_then_short_then_none_and_the_reason_names_the_bound() {
        let mut ledger = Ledger::new(BOUNDS);
        let verdicts: Vec<_> = (0..12).map(|_| capture(&mut ledger, "cpuidle", at(0), Cost::default())).collect();
        let full = verdicts.iter().filter(|verdict| **verdict == Verdict::Full).count();
        let short = verdicts.iter().filter(|verdict| matches!(verdict, Verdict::Short(_))).count();
        assert_eq!((full, short), (6, 4), "{verdicts:?}");
        assert_eq!(verdicts[11], Verdict::None("the budget of captures an hour of the node is used up".into()));
        // A tenth of an hour later one more fits.
        assert!(matches!(capture(&mut ledger, "cpuidle", at(361), Cost::default()), Verdict::Short(_)));
        assert!(matches!(capture(&mut ledger, "cpuidle", at(361), Cost::default()), Verdict::None(_)));
    }

    #[test]
    fn what_a_capture_really_cost_counts_and_not_what_was_booked() {
        let mut ledger = Ledger::new(BOUNDS);
        let dear = Cost { cpu: Duration::from_secs(20), bytes: 0 };
        assert_eq!(capture(&mut ledger, "cpuidle", at(0), dear), Verdict::Full);
        assert!(
            matches!(capture(&mut ledger, "cpuidle", at(0), dear), Verdict::Short(why) if why.contains("CPU time"))
        );
        assert!(matches!(capture(&mut ledger, "dload", at(0), dear), Verdict::None(_)));
    }

    #[test]
    fn no_more_run_at_a_time_than_are_allowed() {
        let mut ledger = Ledger::new(BOUNDS);
        let (_, booked) = ledger.begin("cpuidle", at(0));
        ledger.begin("dload", at(0));
        assert!(matches!(ledger.begin("oom", at(0)).0, Verdict::None(why) if why.contains("at a time")));
        ledger.end("cpuidle", booked, Cost::default());
        assert_eq!(ledger.begin("oom", at(0)).0, Verdict::Full);
    }

    #[test]
    fn the_aggregator_can_lower_the_bounds_of_a_tracer_for_a_while_and_not_raise_them() {
        let mut ledger = Ledger::new(BOUNDS);
        let none = Bounds { captures_per_hour: 0, ..BOUNDS };
        let more = Bounds { concurrent: 100, ..BOUNDS };
        ledger.lower("cpuidle".into(), none, at(60).boot, at(0));
        ledger.lower(String::new(), more, at(60).boot, at(0));
        assert!(matches!(ledger.begin("cpuidle", at(59)).0, Verdict::None(why) if why.contains("of cpuidle")));
        assert_eq!(ledger.begin("dload", at(59)).0, Verdict::Full);
        assert_eq!(ledger.begin("cpuidle", at(60)).0, Verdict::Full);
        assert!(matches!(ledger.begin("oom", at(60)).0, Verdict::None(_)), "the node's own bound holds");
    }
}
