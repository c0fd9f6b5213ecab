//! The limits themselves. A table is made whole, and takes the place of the one before as a whole.

use std::collections::BTreeMap;

/// What the cluster takes, and for whom.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    /// Full events a second, of all replicas together.
    pub capacity: f64,
    /// Replicas that there may be: the safe share of one that has never reached Redis is a part of so many.
    pub replicas: u32,
    /// By name. Who is not named has [`Limit::default`].
    pub tracers: BTreeMap<String, Limit>,
    pub tenants: BTreeMap<String, Limit>,
}

/// Of one tracer, or of one tenant within each tracer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limit {
    pub weight: f64,
    /// Events a second, whatever is left.
    pub cap: f64,
}

/// A table that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    #[error("the capacity must be a number of events a second, not less than zero")]
    Capacity,
    #[error("the number of replicas must be at least 1")]
    Replicas,
    #[error("the weight of `{name}` must be more than zero and at most 1000000")]
    Weight { name: String },
    #[error("the cap of `{name}` must be a number of events a second, not less than zero")]
    Cap { name: String },
}

impl Default for Limit {
    fn default() -> Self {
        Self { weight: 1.0, cap: f64::INFINITY }
    }
}

impl Table {
    /// Without weights or caps.
    pub fn new(capacity: f64, replicas: u32) -> Self {
        Self { capacity, replicas, tracers: BTreeMap::new(), tenants: BTreeMap::new() }
    }

    /// # Errors
    /// What is wrong, and whose.
    pub fn check(self) -> Result<Self, Invalid> {
        if !(self.capacity.is_finite() && self.capacity >= 0.0) {
            return Err(Invalid::Capacity);
        }
        if self.replicas == 0 {
            return Err(Invalid::Replicas);
        }
        for (name, limit) in self.tracers.iter().chain(&self.tenants) {
            if !(limit.weight > 0.0 && limit.weight <= 1e6) {
                return Err(Invalid::Weight { name: name.clone() });
            }
            if limit.cap.is_nan() || limit.cap < 0.0 {
                return Err(Invalid::Cap { name: name.clone() });
            }
        }
        Ok(self)
    }

    pub(crate) fn tracer(&self, name: &str) -> Limit {
        self.tracers.get(name).copied().unwrap_or_default()
    }

    pub(crate) fn tenant(&self, name: &str) -> Limit {
        self.tenants.get(name).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_that_makes_no_sense_is_refused_by_name() {
        assert!(Table::new(0.0, 1).check().is_ok());
        for capacity in [-1.0, f64::NAN, f64::INFINITY] {
            assert_eq!(Table::new(capacity, 1).check(), Err(Invalid::Capacity));
        }
        assert_eq!(Table::new(1.0, 0).check(), Err(Invalid::Replicas));
        let mut table = Table::new(1.0, 1);
        table.tenants.insert("prod".into(), Limit { weight: 0.0, ..Limit::default() });
        assert_eq!(table.clone().check(), Err(Invalid::Weight { name: "prod".into() }));
        table.tenants.insert("prod".into(), Limit { cap: -1.0, ..Limit::default() });
        assert_eq!(table.check(), Err(Invalid::Cap { name: "prod".into() }));
    }
}
