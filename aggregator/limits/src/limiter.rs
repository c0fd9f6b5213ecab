//! The hot path: may this event pass? Counting who asks, and spending the lease.
//!
//! An event passes if its node is below its ceiling, its group (tracer and tenant) is, and the lease has a token for it.
//! Who asks is counted whatever the answer is: that is the demand from which the next shares come. What nothing is known
//! of yet has no ceiling; the lease, and what it keeps for who has had little of it, hold it until the next turn.
//!
//! No I/O, no clock and no allocation, but for a group or a node that is new.

use std::{collections::HashMap, sync::Arc, time::Duration};

use crate::{
    Lease, MAX_GROUPS, MAX_NODES, OTHER, PERIOD, Table,
    fair::{Claim, Water, fill},
    gcra::{Gcra, Pace},
    lease::Pool,
    shares::{Demand, Shares},
};

/// Of the last period in a demand; the rest is what was known before. A burst is half forgotten after a period.
const NEWS: f64 = 0.5;
/// Who asks less than once in so many seconds is forgotten, with nothing but its pace.
const IDLE: f64 = 1000.0;

/// What becomes of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Pass,
    /// Not delivered as a full event: counted.
    Over(Level),
}

/// Whose limit it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    Node,
    /// A tracer's events of one tenant.
    Group,
    /// The lease was spent.
    Cluster,
}

/// Counts since the start, and what is now.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Figures {
    pub passed: u64,
    pub over_node: u64,
    pub over_group: u64,
    pub over_cluster: u64,
    /// Events whose group or node was not told apart, because there were too many.
    pub crowded: u64,
    pub groups: u64,
    pub nodes: u64,
    /// Tokens of the lease that are left.
    pub tokens: u64,
    /// The safe share holds: Redis does not answer.
    pub is_safe: bool,
}

/// What one replica knows and may do.
#[derive(Debug)]
pub struct Limiter {
    table: Arc<Table>,
    /// Of the table.
    epoch: u64,
    pool: Pool,
    groups: Vec<Group>,
    places: HashMap<Arc<str>, HashMap<Arc<str>, usize>>,
    figures: Figures,
    counted_at: Duration,
}

#[derive(Debug)]
struct Group {
    tracer: Arc<str>,
    tenant: Arc<str>,
    meter: Meter,
    gcra: Gcra,
    ceiling: f64,
    /// How its part is shared among its nodes.
    water: Water,
    /// Tokens of this lease.
    had: u64,
    nodes: HashMap<Arc<str>, Node>,
}

#[derive(Debug, Default)]
struct Node {
    meter: Meter,
    gcra: Gcra,
}

/// How often somebody asks.
#[derive(Debug, Default)]
struct Meter {
    asked: u64,
    rate: f64,
}

/// What is asked of the other replicas, and of Redis.
pub(crate) struct Question {
    pub(crate) table: Arc<Table>,
    pub(crate) epoch: u64,
    pub(crate) demands: Vec<Demand>,
    /// Of each group, what its nodes want.
    pub(crate) nodes: Vec<Vec<f64>>,
}

impl Limiter {
    /// Nothing passes until the first lease.
    pub fn new(table: Table) -> Self {
        Self {
            table: Arc::new(table),
            epoch: 0,
            pool: Pool::default(),
            groups: Vec::new(),
            places: HashMap::new(),
            figures: Figures::default(),
            counted_at: Duration::ZERO,
        }
    }

    /// Another table holds from now on. Of the lease no more is left than a chunk of it.
    pub fn swap(&mut self, table: Table) {
        self.pool.cut((table.capacity * PERIOD.as_secs_f64()) as u64);
        self.table = Arc::new(table);
        self.epoch += 1;
    }

    pub fn ask(&mut self, now: Duration, tracer: &str, tenant: &str, node: &str) -> Verdict {
        let place = self.place(tracer, tenant);
        let count = self.groups.len();
        let group = &mut self.groups[place];
        group.meter.asked += 1;
        let node = match group.nodes.get_mut(node) {
            Some(node) => node,
            None => {
                let is_crowded = self.figures.nodes as usize >= MAX_NODES;
                self.figures.crowded += u64::from(is_crowded);
                let name = if is_crowded { OTHER } else { node };
                self.figures.nodes += u64::from(!group.nodes.contains_key(name));
                group.nodes.entry(name.into()).or_default()
            }
        };
        node.meter.asked += 1;
        let of_node = pace(group.water.ceiling(&node.meter.claim()));
        if !node.gcra.conforms(now, of_node) {
            self.figures.over_node += 1;
            return Verdict::Over(Level::Node);
        }
        let of_group = pace(group.ceiling);
        if !group.gcra.conforms(now, of_group) {
            self.figures.over_group += 1;
            return Verdict::Over(Level::Group);
        }
        if !self.pool.take(now, group.had, count) {
            self.figures.over_cluster += 1;
            return Verdict::Over(Level::Cluster);
        }
        node.gcra.spend(now, of_node);
        group.gcra.spend(now, of_group);
        group.had += 1;
        self.figures.passed += 1;
        Verdict::Pass
    }

    pub fn figures(&self, now: Duration) -> Figures {
        Figures { groups: self.groups.len() as u64, tokens: self.pool.left(now), ..self.figures }
    }

    /// What was asked since the last question. Forgets who is idle.
    pub(crate) fn question(&mut self, now: Duration) -> Question {
        let passed = now.saturating_sub(self.counted_at).as_secs_f64().max(PERIOD.as_secs_f64() / 10.0);
        self.counted_at = now;
        for group in &mut self.groups {
            group.meter.read(passed);
            group.nodes.values_mut().for_each(|node| node.meter.read(passed));
            group.nodes.retain(|_, node| !(node.meter.is_idle() && node.gcra.is_fresh(now)));
        }
        self.groups.retain(|group| !(group.nodes.is_empty() && group.meter.is_idle() && group.gcra.is_fresh(now)));
        self.figures.nodes = self.groups.iter().map(|group| group.nodes.len() as u64).sum();
        self.places.clear();
        for (place, group) in self.groups.iter().enumerate() {
            self.places.entry(Arc::clone(&group.tracer)).or_default().insert(Arc::clone(&group.tenant), place);
        }
        let nodes: Vec<Vec<f64>> =
            self.groups.iter().map(|group| group.nodes.values().map(|node| node.meter.rate).collect()).collect();
        let demand = |(group, nodes): (&Group, &Vec<f64>)| {
            (group.tracer.to_string(), group.tenant.to_string(), group.meter.rate, nodes.len() as u32)
        };
        let demands = self.groups.iter().zip(&nodes).map(demand).collect();
        Question { table: Arc::clone(&self.table), epoch: self.epoch, demands, nodes }
    }

    /// Whether the safe share holds.
    pub(crate) fn set_safe(&mut self, is_safe: bool) {
        self.figures.is_safe = is_safe;
    }

    /// A lease, and how the parts are shared: the answer to the last question. That of another table is worth nothing.
    pub(crate) fn install(&mut self, now: Duration, lease: Lease, parts: Vec<Part>) {
        if lease.epoch != self.epoch {
            return;
        }
        self.pool = self.pool.renewed(now, lease);
        self.groups.iter_mut().for_each(|group| group.had = 0);
        // Groups that came meanwhile are behind those that were asked for.
        for (group, part) in self.groups.iter_mut().zip(parts) {
            group.ceiling = part.ceiling;
            group.water = part.water;
        }
    }

    fn place(&mut self, tracer: &str, tenant: &str) -> usize {
        if let Some(place) = self.find(tracer, tenant) {
            return place;
        }
        let is_crowded = self.groups.len() >= MAX_GROUPS;
        self.figures.crowded += u64::from(is_crowded);
        let (tracer, tenant) = if is_crowded { (OTHER, OTHER) } else { (tracer, tenant) };
        self.find(tracer, tenant).unwrap_or_else(|| {
            let (tracer, tenant): (Arc<str>, Arc<str>) = (tracer.into(), tenant.into());
            let place = self.groups.len();
            self.places.entry(Arc::clone(&tracer)).or_default().insert(Arc::clone(&tenant), place);
            self.groups.push(Group::new(tracer, tenant));
            place
        })
    }

    fn find(&self, tracer: &str, tenant: &str) -> Option<usize> {
        self.places.get(tracer)?.get(tenant).copied()
    }
}

/// Of one group: its ceiling here, and how that is shared among its nodes.
pub(crate) struct Part {
    ceiling: f64,
    water: Water,
}

/// From the shares of the groups those of their nodes.
pub(crate) fn parts(shares: &Shares, nodes: &[Vec<f64>]) -> Vec<Part> {
    let part = |(&ceiling, rates): (&f64, &Vec<f64>)| {
        let claims: Vec<Claim> = rates.iter().map(|&rate| claim(rate)).collect();
        Part { ceiling, water: fill(ceiling, &claims).water }
    };
    shares.groups.iter().zip(nodes).map(part).collect()
}

impl Group {
    fn new(tracer: Arc<str>, tenant: Arc<str>) -> Self {
        Self {
            tracer,
            tenant,
            meter: Meter::default(),
            gcra: Gcra::default(),
            ceiling: f64::INFINITY,
            water: Water::UNKNOWN,
            had: 0,
            nodes: HashMap::new(),
        }
    }
}

impl Meter {
    /// After so many seconds.
    fn read(&mut self, seconds: f64) {
        self.rate += NEWS * (self.asked as f64 / seconds - self.rate);
        self.asked = 0;
    }

    fn is_idle(&self) -> bool {
        self.rate < 1.0 / IDLE
    }

    fn claim(&self) -> Claim {
        claim(self.rate)
    }
}

fn claim(demand: f64) -> Claim {
    Claim { demand, weight: 1.0, cap: f64::INFINITY }
}

fn pace(rate: f64) -> Pace {
    Pace { rate, burst: PERIOD }
}

#[cfg(test)]
mod tests;
