//! Weighted max-min fairness by water-filling: one level of a tree.
//!
//! Everybody's share rises at the pace of its weight until its demand, or its cap, is met; what it does not need raises
//! the others. So nobody has more by weight than somebody who wants more, and who wants less than its part of the
//! capacity has all of it. Source: Bertsekas and Gallager, "Data Networks", 6.5.2.

/// What one of several asks for, events a second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Claim {
    pub demand: f64,
    /// More than zero.
    pub weight: f64,
    /// Never more than this, whatever is left.
    pub cap: f64,
}

/// What came of a capacity.
#[derive(Debug, Clone, PartialEq)]
pub struct Filled {
    /// Of each demand, in the order of the claims. The sum is the capacity, or what is wanted if that is less.
    pub granted: Vec<f64>,
    pub water: Water,
}

/// How high the water stands.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Water {
    /// Where not all demand is met: the share of a weight of one.
    pub level: Option<f64>,
    /// The weights of those whose demand is not met.
    pub unmet: f64,
    /// What nobody asked for.
    pub left: f64,
    /// What a weight of one is entitled to, were everybody to want all, and one more.
    pub part: f64,
}

impl Claim {
    fn wanted(&self) -> f64 {
        self.demand.max(0.0).min(self.cap)
    }

    fn wanted_by_weight(&self) -> f64 {
        self.wanted() / self.weight
    }
}

impl Water {
    /// Before anything is known: no limit.
    pub const UNKNOWN: Self = Self { level: None, unmet: 0.0, left: f64::INFINITY, part: f64::INFINITY };

    /// How far a demand may rise, were the others' to stay, also one that was not among the claims. What is limited is
    /// limited there, and not at what it had a moment ago.
    pub fn ceiling(&self, claim: &Claim) -> f64 {
        let wanted = claim.wanted();
        let reached = match self.level {
            None => wanted + self.left,
            Some(level) if wanted > level * claim.weight => level * claim.weight,
            // With a demand that is not met either, it would share with the others what they and it have.
            Some(level) => (level * self.unmet + wanted) * (claim.weight / (self.unmet + claim.weight)),
        };
        reached.max(self.part * claim.weight).min(claim.cap)
    }
}

/// Shares `capacity` out.
pub fn fill(capacity: f64, claims: &[Claim]) -> Filled {
    let mut order: Vec<usize> = (0..claims.len()).collect();
    order.sort_by(|&a, &b| claims[a].wanted_by_weight().total_cmp(&claims[b].wanted_by_weight()));
    let mut left = capacity.max(0.0);
    let mut weight: f64 = claims.iter().map(|claim| claim.weight).sum();
    let part = left / (weight + 1.0);
    let mut level = None;
    let mut granted = vec![0.0; claims.len()];
    // From who wants least: whoever finds its part enough takes what it wants, and the parts of the others grow.
    for place in order {
        let claim = &claims[place];
        if level.is_none() && claim.wanted() > left * (claim.weight / weight) {
            level = Some(left / weight);
        }
        granted[place] = level.map_or(claim.wanted(), |level| (level * claim.weight).min(left));
        if level.is_none() {
            left -= claim.wanted();
            weight -= claim.weight;
        }
    }
    let (unmet, left) = if level.is_some() { (weight, 0.0) } else { (0.0, left) };
    Filled { granted, water: Water { level, unmet, left, part } }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn claim(demand: f64, weight: f64) -> Claim {
        Claim { demand, weight, cap: f64::INFINITY }
    }

    #[test]
    fn what_one_does_not_need_raises_the_others_by_weight() {
        let claims = [claim(10.0, 1.0), claim(1000.0, 1.0), claim(1000.0, 2.0)];
        let filled = fill(100.0, &claims);
        assert_eq!(filled.granted, [10.0, 30.0, 60.0]);
        assert_eq!(filled.water.level, Some(30.0));
        assert_eq!(filled.water.ceiling(&claims[0]), 25.0, "it may rise until all have the same by weight");
    }

    #[test]
    fn a_cap_holds_also_where_capacity_is_left() {
        let claims = [Claim { demand: 80.0, weight: 1.0, cap: 20.0 }, claim(30.0, 1.0)];
        let Filled { granted, water } = fill(100.0, &claims);
        assert_eq!(granted, [20.0, 30.0]);
        assert_eq!((water.left, water.ceiling(&claims[0]), water.ceiling(&claims[1])), (50.0, 20.0, 80.0));
    }

    #[test]
    fn who_was_not_there_is_entitled_to_a_part() {
        assert_eq!(fill(90.0, &[claim(45.0, 1.0), claim(45.0, 1.0)]).water.ceiling(&claim(0.0, 1.0)), 30.0);
        assert_eq!(fill(7.0, &[]).water.ceiling(&claim(0.0, 1.0)), 7.0);
    }

    #[test]
    fn of_nothing_everybody_gets_nothing() {
        let filled = fill(0.0, &[claim(5.0, 1.0), claim(0.0, 1.0)]);
        assert_eq!(filled.granted, [0.0, 0.0]);
        assert_eq!(filled.water.ceiling(&claim(1.0, 1.0)), 0.0);
    }

    fn claims() -> impl Strategy<Value = Vec<Claim>> {
        let demand = prop_oneof![Just(0.0), 0.0..10.0, 0.0..1e6];
        let cap = prop_oneof![3 => Just(f64::INFINITY), 1 => 0.0..1e4];
        let one = (demand, 0.01..100.0, cap).prop_map(|(demand, weight, cap)| Claim { demand, weight, cap });
        prop::collection::vec(one, 0..40)
    }

    proptest! {
        #[test]
        fn shares_are_max_min_fair(capacity in 0.0..1e6, claims in claims()) {
            let Filled { granted, water } = fill(capacity, &claims);
            // Rounding of sums of up to 40.
            let near = 1e-9 * (capacity + 1.0);
            let (sum, wanted): (f64, f64) = (granted.iter().sum(), claims.iter().map(Claim::wanted).sum());
            prop_assert!(sum <= capacity + near, "{sum} of {capacity}");
            prop_assert!((sum - wanted.min(capacity)).abs() <= near + 1e-9 * wanted, "nothing is left that is wanted");
            let weight: f64 = claims.iter().map(|claim| claim.weight).sum();
            for (one, &has) in claims.iter().zip(&granted) {
                let (want, ceiling) = (one.wanted(), water.ceiling(one));
                prop_assert!(has <= want + near, "nobody gets more than it wants");
                prop_assert!(has <= ceiling + near && ceiling <= one.cap && ceiling <= capacity + near);
                if want <= capacity * one.weight / weight {
                    prop_assert!(has >= want - near, "who wants less than its part gets all of it");
                }
                if has < want - near {
                    for (other, &its) in claims.iter().zip(&granted) {
                        // What rounding makes of a small weight is large by weight.
                        let above = its - has * (other.weight / one.weight);
                        prop_assert!(above <= near * (1.0 + other.weight / one.weight), "nobody is above who is below its want");
                    }
                }
            }
        }
    }
}
