//! The load of tasks in uninterruptible sleep, of each entity: the exponential average of their number.
//!
//! ```text
//! k     = e^(−Δ / average_over)           Δ: seconds since the last tick, as measured
//! load  = load × k + n × (1 − k)          n: tasks in uninterruptible sleep now
//! ```
//!
//! With n constant from an idle start it is n × (1 − e^(−t / average_over)), whatever the ticks were. Between two looks
//! at the tasks an entity's n is what it was at the last one, but no more than the kernel counts on the whole machine.

use std::{collections::HashMap, sync::Arc, time::Duration};

/// The machine, as the ancestor of every cgroup.
pub(super) const HOST: &str = "/";
/// Entities that are followed at one time.
const LIMIT: usize = 4096;
/// A load below it is none.
const FORGOTTEN: f64 = 0.005;
/// A longer gap, such as a suspended machine, counts as this long: nobody knows what happened in it.
const LONGEST_STEP: Duration = Duration::from_secs(10);

/// Tasks of an entity in uninterruptible sleep.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Count {
    pub blocked: u32,
    /// Those of them that wait for IO.
    pub iowait: u32,
}

#[derive(Debug, Default)]
struct Entity {
    load: f64,
    blocked: u32,
}

pub(super) struct Loads {
    average_over: Duration,
    entities: HashMap<Arc<str>, Entity>,
    at: Option<Duration>,
    /// Entities that found no room.
    skipped: u64,
}

impl Loads {
    pub(super) fn new(average_over: Duration) -> Self {
        Self { average_over, entities: HashMap::new(), at: None, skipped: 0 }
    }

    /// Takes what a look found: who is not in it has none.
    pub(super) fn seen(&mut self, counts: &HashMap<Arc<str>, Count>) {
        for (path, entity) in &mut self.entities {
            entity.blocked = counts.get(path).map_or(0, |count| count.blocked);
        }
        for (path, count) in counts {
            if self.entities.contains_key(path) {
                continue;
            }
            if self.entities.len() >= LIMIT && &**path != HOST {
                self.skipped += 1;
                continue;
            }
            self.entities.insert(Arc::clone(path), Entity { load: 0.0, blocked: count.blocked });
        }
    }

    /// Takes the kernel's count for the whole machine.
    pub(super) fn bounded_by(&mut self, total: u32) {
        for (path, entity) in &mut self.entities {
            entity.blocked = if &**path == HOST { total } else { entity.blocked.min(total) };
        }
    }

    /// Brings every load to `now`.
    pub(super) fn advance(&mut self, now: Duration) {
        let step = self.at.replace(now).map_or(Duration::ZERO, |before| now.saturating_sub(before));
        let kept = (-step.min(LONGEST_STEP).as_secs_f64() / self.average_over.as_secs_f64()).exp();
        self.entities.retain(|_, entity| {
            entity.load = entity.load * kept + f64::from(entity.blocked) * (1.0 - kept);
            entity.blocked > 0 || entity.load >= FORGOTTEN
        });
    }

    /// The load of each entity.
    pub(super) fn all(&self) -> impl Iterator<Item = (&Arc<str>, f64)> {
        self.entities.iter().map(|(path, entity)| (path, entity.load))
    }

    pub(super) fn skipped(&self) -> u64 {
        self.skipped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loads(blocked: &[(&str, u32)]) -> Loads {
        let mut loads = Loads::new(Duration::from_secs(60));
        loads.advance(Duration::ZERO);
        loads.seen(&counts(blocked));
        loads
    }

    fn counts(blocked: &[(&str, u32)]) -> HashMap<Arc<str>, Count> {
        blocked.iter().map(|(path, blocked)| ((*path).into(), Count { blocked: *blocked, iowait: 0 })).collect()
    }

    fn load(loads: &Loads, path: &str) -> f64 {
        loads.all().find(|(name, _)| &***name == path).map_or(0.0, |(_, load)| load)
    }

    #[test]
    fn the_average_does_not_depend_on_the_ticks() {
        let (mut even, mut uneven) = (loads(&[("/a", 8)]), loads(&[("/a", 8)]));
        for second in 1..=60 {
            even.advance(Duration::from_secs(second));
        }
        for millis in [300, 1000, 7000, 7001, 16_500, 26_000, 35_000, 44_500, 54_000, 60_000] {
            uneven.advance(Duration::from_millis(millis));
        }
        let expected = 8.0 * (1.0 - (-1.0_f64).exp());
        assert!((load(&even, "/a") - expected).abs() < 1e-9, "{}", load(&even, "/a"));
        assert!((load(&uneven, "/a") - expected).abs() < 1e-9, "{}", load(&uneven, "/a"));
    }

    #[test]
    fn who_has_no_tasks_left_decays_and_is_forgotten() {
        let mut loads = loads(&[("/a", 8), ("/b", 2)]);
        loads.advance(Duration::from_secs(10));
        let before = load(&loads, "/a");
        loads.seen(&counts(&[("/b", 2)]));
        loads.advance(Duration::from_secs(20));
        assert!((load(&loads, "/a") - before * (-1.0_f64 / 6.0).exp()).abs() < 1e-9);
        loads.bounded_by(0);
        for second in (30..900).step_by(10) {
            loads.advance(Duration::from_secs(second));
        }
        assert_eq!(loads.all().count(), 0);
    }

    #[test]
    fn between_looks_the_kernels_count_is_the_bound() {
        let mut loads = loads(&[("/a", 6), (HOST, 7)]);
        loads.bounded_by(3);
        loads.advance(Duration::from_secs(6));
        let expected = 3.0 * (1.0 - (-0.1_f64).exp());
        assert!((load(&loads, "/a") - expected).abs() < 1e-9);
        assert!((load(&loads, HOST) - expected).abs() < 1e-9);
    }

    #[test]
    fn a_machine_that_slept_is_not_thought_to_have_waited() {
        let mut loads = loads(&[("/a", 8)]);
        loads.advance(Duration::from_secs(36_000));
        assert!((load(&loads, "/a") - 8.0 * (1.0 - (-1.0_f64 / 6.0).exp())).abs() < 1e-9);
    }

    #[test]
    fn entities_are_bounded_and_the_host_always_has_room() {
        let mut loads = loads(&[]);
        let many: HashMap<Arc<str>, Count> =
            (0..LIMIT + 10).map(|n| (format!("/{n}").into(), Count { blocked: 1, iowait: 0 })).collect();
        loads.seen(&many);
        loads.seen(&many.into_iter().chain([(HOST.into(), Count { blocked: 9, iowait: 0 })]).collect());
        assert_eq!((loads.all().count(), loads.skipped()), (LIMIT + 1, 20));
    }
}
