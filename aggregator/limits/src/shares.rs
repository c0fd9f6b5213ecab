//! The shares of this replica, from the demands of all: cluster → tracer → tenant → replica.
//!
//! Every replica computes them alike from what all have said, so they fit together without anybody in charge. Nodes are
//! each connected to one replica: that shares its part of a group out to them itself. Among replicas a group's part is
//! shared by the number of their nodes, which is exact where these want about the same.

use std::collections::BTreeMap;

use crate::{
    KEPT, Table,
    fair::{Claim, Water, fill},
};

/// What the nodes of one replica want of one group: tracer, tenant, events a second, nodes.
pub(crate) type Demand = (String, String, f64, u32);

/// What one replica may do until it asks again.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Shares {
    /// Events a second that it should have a lease for.
    pub(crate) wanted: f64,
    /// Of each of its groups, in order, the ceiling.
    pub(crate) groups: Vec<f64>,
}

/// Each replica's demand of a group, by its place in the list of all, and the number of its nodes.
type Parts = Vec<(usize, f64, u32)>;

/// Shares `capacity` out, but for what is kept for who has had little; `here` is this replica, `others` are those beside
/// it.
pub(crate) fn compute(table: &Table, capacity: f64, here: &[Demand], others: &[Vec<Demand>]) -> Shares {
    let mut tree: BTreeMap<&str, BTreeMap<&str, Parts>> = BTreeMap::new();
    let replicas = std::iter::once(here).chain(others.iter().map(Vec::as_slice));
    for (replica, demands) in replicas.enumerate() {
        for (tracer, tenant, rate, nodes) in demands {
            let parts = tree.entry(tracer).or_default().entry(tenant).or_default();
            parts.push((replica, rate.max(0.0), *nodes));
        }
    }
    let tracers: Vec<Claim> = tree.iter().map(|(name, tenants)| tracer(table, name, tenants)).collect();
    let kept = capacity / KEPT as f64;
    let filled = fill(capacity - kept, &tracers);
    let (mut granted, mut ceilings) = (0.0, BTreeMap::new());
    for ((tracer, tenants), claim) in tree.iter().zip(&tracers) {
        let claims: Vec<Claim> = tenants.iter().map(|(name, parts)| tenant(table, name, parts)).collect();
        let water = fill(filled.water.ceiling(claim), &claims).water;
        for ((tenant, parts), claim) in tenants.iter().zip(&claims) {
            let (has, ceiling) = mine(water.ceiling(claim), parts, others.len() + 1);
            granted += has;
            ceilings.insert((*tracer, *tenant), ceiling);
        }
    }
    let ceiling = |(tracer, tenant, ..): &Demand| ceilings[&(tracer.as_str(), tenant.as_str())];
    let wanted = granted + (filled.water.left + kept) / (others.len() + 1) as f64;
    Shares { wanted: wanted.min(capacity), groups: here.iter().map(ceiling).collect() }
}

fn tracer(table: &Table, name: &str, tenants: &BTreeMap<&str, Parts>) -> Claim {
    let demand = tenants.iter().map(|(name, parts)| {
        let claim = tenant(table, name, parts);
        claim.demand.min(claim.cap)
    });
    let limit = table.tracer(name);
    Claim { demand: demand.sum(), weight: limit.weight, cap: limit.cap }
}

fn tenant(table: &Table, name: &str, parts: &Parts) -> Claim {
    let limit = table.tenant(name);
    Claim { demand: parts.iter().map(|(_, rate, _)| rate).sum(), weight: limit.weight, cap: limit.cap }
}

/// Of a group's part what this replica gets, and how far it may go.
fn mine(part: f64, parts: &Parts, replicas: usize) -> (f64, f64) {
    let claims: Vec<Claim> = parts
        .iter()
        .map(|&(_, demand, nodes)| Claim { demand, weight: f64::from(nodes.max(1)), cap: f64::INFINITY })
        .collect();
    let filled = fill(part, &claims);
    let Some(place) = parts.iter().position(|(replica, ..)| *replica == 0) else { return (0.0, 0.0) };
    // What is left is nobody's yet: were each to take it for its own, a cap would not hold.
    let water = Water { left: filled.water.left / replicas as f64, ..filled.water };
    (filled.granted[place], water.ceiling(&claims[place]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Limit;

    fn demand(tracer: &str, tenant: &str, rate: f64, nodes: u32) -> Demand {
        (tracer.into(), tenant.into(), rate, nodes)
    }

    #[test]
    fn replicas_that_see_the_same_share_it_all_and_no_more() {
        let table = Table::new(900.0, 3);
        let said = [
            vec![demand("cpuidle", "shop", 5000.0, 50), demand("oom", "shop", 2.0, 2)],
            vec![demand("cpuidle", "shop", 5000.0, 50)],
            vec![demand("cpuidle", "bank", 100.0, 10), demand("cpuidle", "shop", 10.0, 1)],
        ];
        let of = |here: usize| {
            let others: Vec<_> = (0..3).filter(|other| *other != here).map(|other| said[other].clone()).collect();
            compute(&table, 900.0, &said[here], &others)
        };
        let all: Vec<_> = (0..3).map(of).collect();
        let sum: f64 = all.iter().map(|shares| shares.wanted).sum();
        assert!((sum - 900.0).abs() < 1e-6, "{all:?}");
        // 90 are kept, 2 are for oom; of 808 the bank has its 100, and the shop 708, by nodes.
        assert!((all[2].wanted - 100.0 - 708.0 / 101.0 - 30.0).abs() < 1e-6, "{all:?}");
        assert!((all[0].wanted - all[1].wanted - 2.0).abs() < 1e-6, "{all:?}");
        assert!(all[0].groups[1] > 100.0, "what is rare may rise: {all:?}");
        assert!(all[0].groups[0] < 400.0 && all[1].groups[0] < 400.0, "what is common may not: {all:?}");
    }

    #[test]
    fn a_cap_of_a_tracer_or_a_tenant_holds_over_all_replicas() {
        let mut table = Table::new(1000.0, 2);
        table.tracers.insert("cpuidle".into(), Limit { cap: 100.0, ..Limit::default() });
        table.tenants.insert("shop".into(), Limit { cap: 10.0, ..Limit::default() });
        let said =
            [demand("cpuidle", "bank", 500.0, 1), demand("cpuidle", "shop", 500.0, 1), demand("oom", "shop", 90.0, 1)];
        let shares = compute(&table, 1000.0, &said, &[said.to_vec()]);
        let ceilings: Vec<_> = shares.groups.iter().map(|ceiling| ceiling.round()).collect();
        assert_eq!(ceilings, [45.0, 5.0, 5.0], "{shares:?}");
    }

    #[test]
    fn an_idle_cluster_leaves_each_replica_its_part() {
        let shares = compute(&Table::new(300.0, 3), 300.0, &[], &[vec![], vec![]]);
        assert_eq!((shares.wanted, shares.groups.len()), (100.0, 0));
    }

    /// Of up to five replicas, by tracer and tenant: rate and nodes.
    fn said() -> impl Strategy<Value = Vec<Vec<Demand>>> {
        let rate = prop_oneof![0.0..2.0, 0.0..1e4];
        let groups = prop::collection::btree_map((0..4u8, 0..3u8), (rate, 1..50u32), 0..12);
        let replica = groups.prop_map(|groups| {
            let of = |((tracer, tenant), (rate, nodes)): ((u8, u8), (f64, u32))| {
                demand(&format!("tracer{tracer}"), &format!("tenant{tenant}"), rate, nodes)
            };
            groups.into_iter().map(of).collect()
        });
        prop::collection::vec(replica, 1..6)
    }

    proptest! {
        #[test]
        fn the_tree_gives_no_more_than_there_is_and_all_that_is_rare_asks(capacity in 0.0..1e4, said in said()) {
            let table = Table::new(capacity, 1);
            let of = |here: usize| {
                let others = said.iter().enumerate().filter(|(other, _)| *other != here).map(|(_, said)| said.clone());
                compute(&table, capacity, &said[here], &others.collect::<Vec<_>>())
            };
            let all: Vec<_> = (0..said.len()).map(of).collect();
            let near = 1e-6 * (capacity + 1.0);
            let sum: f64 = all.iter().map(|shares| shares.wanted).sum();
            // What is left is shared, too: all of it is somebody's.
            prop_assert!((sum - capacity).abs() <= near, "{sum} of {capacity}");
            // Four tracers with three tenants each.
            let part = (capacity - capacity / KEPT as f64) / 12.0;
            for (shares, groups) in all.iter().zip(&said) {
                for (ceiling, (tracer, tenant, rate, _)) in shares.groups.iter().zip(groups) {
                    let same = said.iter().flatten().filter(|other| (&other.0, &other.1) == (tracer, tenant));
                    let demand: f64 = same.map(|other| other.2).sum();
                    prop_assert!(*ceiling <= capacity + near);
                    if demand <= part {
                        prop_assert!(*ceiling >= rate - near, "{rate} of {demand}, {ceiling}");
                    }
                }
            }
        }
    }
}
