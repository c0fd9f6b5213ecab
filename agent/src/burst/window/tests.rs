use proptest::prelude::*;

use super::{
    super::rule::{Rule, Threshold, Thresholds, judge},
    *,
};

const WINDOW: Duration = Duration::from_secs(5);
const THRESHOLDS: Thresholds = Thresholds {
    user: Threshold { level: 75.0, delta: 45.0 },
    system: Threshold { level: 45.0, delta: 20.0 },
    total: Threshold { level: 90.0, delta: 55.0 },
};

fn one_cpu() -> Capacity {
    Capacity::new(1.0).unwrap()
}

fn user(seconds: f64) -> Usage {
    Usage { user: Duration::from_secs_f64(seconds), system: Duration::ZERO }
}

/// User seconds used at `time` by one CPU that is busy from `start` for `length` seconds.
fn burst(time: f64, start: f64, length: f64) -> f64 {
    (time - start).clamp(0.0, length)
}

#[test]
fn of_an_old_cgroup_nothing_is_said_before_a_window_and_a_tick_are_known() {
    let mut history = History::new(WINDOW, None);
    for second in 100..=105u64 {
        history.push(Duration::from_secs(second), user(second as f64));
        assert_eq!(history.reading(one_cpu()), None, "{second}");
    }
    for second in 106..=120u64 {
        history.push(Duration::from_secs(second), user(second as f64));
        let reading = history.reading(one_cpu()).unwrap();
        assert!((reading.now.user - 100.0).abs() < 1e-9 && reading.delta.user.abs() < 1e-9, "{second}");
    }
}

#[test]
fn a_burst_a_second_after_an_old_cgroup_was_first_seen_fires() {
    let mut history = History::new(WINDOW, None);
    let mut fired = false;
    for second in 0..=8u64 {
        history.push(Duration::from_secs(100 + second), user(burst(second as f64, 1.0, 100.0)));
        fired |= history.reading(one_cpu()).is_some_and(|reading| judge(&THRESHOLDS, &reading).is_some());
    }
    assert!(fired);
}

#[test]
fn a_new_cgroup_used_nothing_before_it_was_born() {
    let mut history = History::new(WINDOW, Some(Duration::from_secs(100)));
    for second in 101..=104u64 {
        history.push(Duration::from_secs(second), user((second - 100) as f64));
    }
    let reading = history.reading(one_cpu()).unwrap();
    assert!((reading.now.user - 80.0).abs() < 1e-9 && (reading.delta.user - 80.0).abs() < 1e-9);
}

#[test]
fn the_increase_is_against_the_window_before() {
    let mut history = History::new(WINDOW, None);
    for second in 0..=20u64 {
        // Half a CPU up to second 15, then a whole one.
        let used = second.min(15) as f64 * 0.5 + second.saturating_sub(15) as f64;
        history.push(Duration::from_secs(100 + second), user(used));
    }
    let reading = history.reading(one_cpu()).unwrap();
    assert!((reading.now.user - 100.0).abs() < 1e-9 && (reading.delta.user - 50.0).abs() < 1e-9);
    let two = history.reading(Capacity::new(2.0).unwrap()).unwrap();
    assert!((two.now.user - 50.0).abs() < 1e-9);
}

#[test]
fn a_counter_that_runs_back_begins_anew() {
    let mut history = History::new(WINDOW, Some(Duration::from_secs(100)));
    for second in 101..=120u64 {
        history.push(Duration::from_secs(second), user((second - 100) as f64));
    }
    history.push(Duration::from_secs(121), user(0.5));
    assert_eq!(history.reading(one_cpu()), None);
    for second in 122..=131u64 {
        history.push(Duration::from_secs(second), user((second - 121) as f64 + 0.5));
    }
    assert!(history.reading(one_cpu()).is_some());
}

#[test]
fn memory_is_bounded_to_two_windows() {
    let mut history = History::new(WINDOW, None);
    for second in 0..1000u64 {
        history.push(Duration::from_secs(second), user(0.0));
    }
    assert_eq!(history.samples.len(), 11);
}

proptest! {
    /// Whatever the phase of the burst and however late the ticks: it is seen while it lasts, or at the tick after.
    #[test]
    fn a_burst_of_a_window_and_a_second_fires_at_any_phase(
        phase in 0.0f64..1.0,
        late in prop::collection::vec(0.0f64..0.2, 40),
    ) {
        let (start, length) = (15.0 + phase, WINDOW.as_secs_f64() + 1.0);
        let mut history = History::new(WINDOW, None);
        let mut fired = None;
        for (second, late) in late.into_iter().enumerate() {
            let time = second as f64 + late;
            history.push(Duration::from_secs_f64(time), user(burst(time, start, length)));
            let verdict = history.reading(one_cpu()).and_then(|reading| judge(&THRESHOLDS, &reading));
            if let Some(verdict) = verdict {
                prop_assert_eq!(verdict.rules[0], Rule::User);
                fired.get_or_insert(time);
            }
        }
        let fired = fired.expect("the burst was not seen");
        prop_assert!(fired >= start && fired <= start + length + 1.2);
    }

    #[test]
    fn steady_usage_never_fires(cpus in 0.0f64..4.0, late in prop::collection::vec(0.0f64..0.2, 40)) {
        let mut history = History::new(WINDOW, None);
        for (second, late) in late.into_iter().enumerate() {
            let time = second as f64 + late;
            history.push(Duration::from_secs_f64(time), user(time * cpus));
            let reading = history.reading(one_cpu());
            prop_assert!(reading.and_then(|reading| judge(&THRESHOLDS, &reading)).is_none());
        }
    }
}
