//! What was over a limit, by whose it was: sums of few pairs of tracer and tenant.

use galen_proto::v1::LeftOut;

/// Pairs that a sum tells apart; agents may name any.
const MAX_PAIRS: usize = 128;
/// The tracer and the tenant of what is beyond them.
const OTHER: &str = "__other__";

/// Adds `count` to the sum of its tracer and tenant.
pub fn leave_out(sums: &mut Vec<LeftOut>, tracer: &str, tenant: &str, count: u64) {
    if let Some(sum) = sums.iter_mut().find(|sum| (&*sum.tracer, &*sum.tenant) == (tracer, tenant)) {
        sum.count = sum.count.saturating_add(count);
    } else if sums.len() < MAX_PAIRS || (tracer, tenant) == (OTHER, OTHER) {
        sums.push(LeftOut { tracer: tracer.to_owned(), tenant: tenant.to_owned(), count });
    } else {
        leave_out(sums, OTHER, OTHER, count);
    }
}

/// Of sums that only grow, known in two places, the higher ones.
pub(crate) fn merge(sums: &mut Vec<LeftOut>, others: &[LeftOut]) {
    for other in others {
        let known = sums.iter().find(|sum| (&sum.tracer, &sum.tenant) == (&other.tracer, &other.tenant));
        let more = other.count.saturating_sub(known.map_or(0, |known| known.count));
        if more > 0 {
            leave_out(sums, &other.tracer, &other.tenant, more);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_beyond_the_bound_are_one_and_no_count_is_lost() {
        let mut sums = Vec::new();
        for number in 0..2 * MAX_PAIRS {
            leave_out(&mut sums, "cpuidle", &number.to_string(), 3);
            leave_out(&mut sums, "cpuidle", "0", 1);
        }
        assert_eq!(sums.len(), MAX_PAIRS + 1);
        assert_eq!(sums.iter().map(|sum| sum.count).sum::<u64>(), 8 * MAX_PAIRS as u64);
        assert_eq!((&*sums[MAX_PAIRS].tracer, sums[MAX_PAIRS].count), (OTHER, 3 * MAX_PAIRS as u64));
        assert_eq!(sums[0].count, 3 + 2 * MAX_PAIRS as u64);
        let before = sums.clone();
        merge(&mut sums, &before);
        assert_eq!(sums, before);
        merge(&mut sums, &[LeftOut { count: 1000, ..before[0].clone() }]);
        assert_eq!(sums[0].count, 1000);
    }
}
