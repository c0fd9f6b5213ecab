//! One replica, or several, turn by turn, with the time handed in.

use super::*;
use crate::{LIFETIME, shares};

/// Asks for a lease of all that it may have, and computes the shares as if alone.
fn turn(limiter: &mut Limiter, now: Duration) {
    let question = limiter.question(now);
    let shares = shares::compute(&question.table, question.table.capacity, &question.demands, &[]);
    let tokens = (shares.wanted * PERIOD.as_secs_f64()) as u64;
    let lease = Lease { tokens, epoch: question.epoch, expires: now + LIFETIME };
    limiter.install(now, lease, parts(&shares, &question.nodes));
}

/// `asks` of each group for each of `turns`, spread over them; how many passed.
fn run(limiter: &mut Limiter, from: u32, turns: u32, asks: &[(&str, &str, u32)]) -> Vec<u64> {
    let mut passed = vec![0; asks.len()];
    for number in from..from + turns {
        let began = PERIOD * number;
        turn(limiter, began);
        for step in 0..100 {
            let now = began + PERIOD * step / 100;
            for (place, (tracer, node, count)) in asks.iter().enumerate() {
                for _ in 0..(count * (step + 1) / 100 - count * step / 100) {
                    passed[place] += u64::from(limiter.ask(now, tracer, "shop", node) == Verdict::Pass);
                }
            }
        }
    }
    passed
}

#[test]
fn what_is_rare_gets_all_it_asks_from_the_first_moment_of_a_storm() {
    let mut limiter = Limiter::new(Table::new(1000.0, 1));
    let passed = run(&mut limiter, 1, 20, &[("storm", "a", 2000), ("rare", "b", 3)]);
    assert_eq!(passed[1], 3 * 20);
    assert!((4_000..=5_000).contains(&passed[0]), "{passed:?} in five seconds");
}

#[test]
fn within_a_group_a_loud_node_leaves_the_others_theirs() {
    let mut limiter = Limiter::new(Table::new(400.0, 1));
    run(&mut limiter, 1, 8, &[("storm", "loud", 1000), ("storm", "quiet", 20)]);
    let passed = run(&mut limiter, 9, 40, &[("storm", "loud", 1000), ("storm", "quiet", 20)]);
    // Ninety tokens of a lease are for whoever is common: 20 and 70 a turn.
    assert!(passed[1] >= 18 * 40, "{passed:?}");
    assert!(passed[0] >= 60 * 40 && passed[0] <= 90 * 40, "{passed:?}");
}

#[test]
fn a_table_is_swapped_whole_and_at_once() {
    let mut limiter = Limiter::new(Table::new(1000.0, 1));
    turn(&mut limiter, PERIOD);
    assert_eq!(limiter.ask(PERIOD, "t", "", "n"), Verdict::Pass);
    let question = limiter.question(PERIOD);
    limiter.swap(Table::new(0.0, 1));
    assert_eq!(limiter.ask(PERIOD, "t", "", "n"), Verdict::Over(Level::Cluster));
    let late = Lease { tokens: 100, epoch: question.epoch, expires: LIFETIME * 2 };
    limiter.install(PERIOD, late, Vec::new());
    assert_eq!(limiter.ask(PERIOD, "t", "", "n"), Verdict::Over(Level::Cluster), "a lease of the old table");
    limiter.swap(Table::new(1000.0, 1));
    turn(&mut limiter, PERIOD * 2);
    assert_eq!(limiter.ask(PERIOD * 2, "t", "", "n"), Verdict::Pass);
}

#[test]
fn groups_and_nodes_beyond_the_bounds_are_one_and_counted() {
    let mut limiter = Limiter::new(Table::new(1e9, 1));
    turn(&mut limiter, PERIOD);
    for number in 0..MAX_GROUPS + 10 {
        limiter.ask(PERIOD, "t", &number.to_string(), "n");
    }
    let figures = limiter.figures(PERIOD);
    assert_eq!((figures.groups, figures.crowded), (MAX_GROUPS as u64 + 1, 10));
    for number in 0..MAX_NODES {
        limiter.ask(PERIOD, "t", "0", &format!("n{number}"));
    }
    let figures = limiter.figures(PERIOD);
    assert_eq!(figures.nodes, MAX_NODES as u64 + 1);
    assert!(figures.passed > 60_000, "{figures:?}");
    // Who asks no more is forgotten.
    (2..40).for_each(|number| turn(&mut limiter, PERIOD * number));
    let figures = limiter.figures(PERIOD * 40);
    assert_eq!((figures.groups, figures.nodes), (0, 0));
}

#[test]
fn a_limit_of_one_event_in_seconds_passes_one_event_in_seconds() {
    let mut limiter = Limiter::new(Table::new(0.5, 1));
    let mut refill = crate::refill::Refill::default();
    let mut passed = 0;
    for number in 1..=80 {
        let now = PERIOD * number;
        let question = limiter.question(now);
        let shares = shares::compute(&question.table, 0.5, &question.demands, &[]);
        let tokens = refill.take(now, 0.5, u64::MAX);
        let lease = Lease { tokens, epoch: 0, expires: now + LIFETIME };
        limiter.install(now, lease, parts(&shares, &question.nodes));
        passed += u32::from(limiter.ask(now, "t", "", "n") == Verdict::Pass);
    }
    assert!((8..=11).contains(&passed), "{passed} in twenty seconds");
}
