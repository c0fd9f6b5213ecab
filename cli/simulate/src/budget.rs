//! What a node may capture: its own bound, lowered by what the aggregator says, as an agent does it.
//!
//! Captures leak at the rate of the bound, an hour's worth an hour. A word of the aggregator holds for its time to live,
//! for one tracer or for all of the node; the lowest bound holds. CPU time, bytes and captures at a time are not
//! simulated: a capture of a simulated node takes none.

use std::{collections::HashMap, time::Duration};

use galen_proto::v1;
use tokio::time::Instant;

const HOUR: f64 = 3600.0;
/// Most tracers that the aggregator speaks of at a time.
const MAX_LOWERED: usize = 64;

/// See the module.
#[derive(Debug)]
pub struct Budget {
    captures_per_hour: u32,
    /// By tracer; empty for the node.
    lowered: HashMap<String, (u32, Instant)>,
    /// By tracer.
    spent: HashMap<&'static str, Account>,
    node: Account,
}

#[derive(Debug, Clone, Copy)]
struct Account {
    captures: f64,
    leaked_at: Instant,
}

impl Budget {
    /// Of a node whose own settings allow so many captures an hour.
    pub fn new(captures_per_hour: u32) -> Self {
        Self { captures_per_hour, lowered: HashMap::new(), spent: HashMap::new(), node: Account::new() }
    }

    /// Whether `tracer` may capture now; if so, it has.
    pub fn ask(&mut self, tracer: &'static str) -> bool {
        let now = Instant::now();
        self.lowered.retain(|_, (_, until)| now < *until);
        let lowered = |of: &str| self.lowered.get(of).map_or(u32::MAX, |(captures, _)| *captures);
        let of_node = self.captures_per_hour.min(lowered(""));
        let of_tracer = of_node.min(lowered(tracer));
        let account = self.spent.entry(tracer).or_insert_with(Account::new);
        account.leak(of_tracer, now);
        self.node.leak(of_node, now);
        let granted = account.has_room(of_tracer) && self.node.has_room(of_node);
        if granted {
            account.captures += 1.0;
            self.node.captures += 1.0;
        }
        granted
    }

    /// What the aggregator allows, for a while.
    pub(crate) fn lower(&mut self, message: v1::Budget) {
        let until = Instant::now() + Duration::from_millis(message.ttl_millis.into());
        if self.lowered.len() < MAX_LOWERED || self.lowered.contains_key(&message.tracer) {
            self.lowered.insert(message.tracer, (message.captures_per_hour, until));
        }
    }
}

impl Account {
    fn new() -> Self {
        Self { captures: 0.0, leaked_at: Instant::now() }
    }

    fn leak(&mut self, per_hour: u32, now: Instant) {
        let hours = (now - self.leaked_at).as_secs_f64() / HOUR;
        self.captures = (self.captures - f64::from(per_hour) * hours).max(0.0);
        self.leaked_at = now;
    }

    fn has_room(&self, per_hour: u32) -> bool {
        self.captures + 1.0 <= f64::from(per_hour)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lowered(tracer: &str, captures_per_hour: u32, seconds: u32) -> v1::Budget {
        v1::Budget { tracer: tracer.into(), captures_per_hour, ttl_millis: seconds * 1000, ..v1::Budget::default() }
    }

    #[tokio::test(start_paused = true)]
    async fn an_hours_worth_may_be_spent_at_once_and_comes_back_within_an_hour() {
        let mut budget = Budget::new(2);
        assert_eq!([(); 3].map(|()| budget.ask("cpuidle")), [true, true, false]);
        tokio::time::advance(Duration::from_secs(1801)).await;
        assert_eq!([(); 2].map(|()| budget.ask("dload")), [true, false]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_aggregator_lowers_it_for_a_while_and_never_raises_it() {
        let mut budget = Budget::new(1);
        budget.lower(lowered("cpuidle", 0, 60));
        budget.lower(lowered("", 9, 60));
        assert_eq!((budget.ask("cpuidle"), budget.ask("dload"), budget.ask("dload")), (false, true, false));
        let mut budget = Budget::new(1);
        budget.lower(lowered("", 0, 60));
        assert!(!budget.ask("dload"));
        tokio::time::advance(Duration::from_secs(60)).await;
        assert!(budget.ask("dload"));
    }
}
