//! The cluster's limits at the log's thread: which of a batch's new events are full ones.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use galen_limits::{Figures, Keeper, Limiter, Redis, Shared, Table, Verdict};
use galen_runtime::{BoxError, OnEnd, Supervisor};
use parking_lot::MutexGuard;

use super::owner;
use crate::{config::LimitSettings, metrics::Family};

/// Where limits are set. Clones are the same.
#[derive(Clone)]
pub struct Limits {
    shared: Shared,
    label: Option<Arc<str>>,
}

/// For the events of one batch.
pub(super) struct Door<'a> {
    limiter: MutexGuard<'a, Limiter>,
    now: Duration,
    node: &'a str,
    label: Option<&'a str>,
}

impl Limits {
    /// Begins with a lease, and keeps it going. `replica`: the name of this one among those that share the limits.
    ///
    /// # Errors
    /// A file that Redis needs cannot be used.
    pub(crate) async fn start(
        settings: &LimitSettings,
        replica: String,
        supervisor: &Supervisor,
    ) -> Result<Self, galen_limits::Error> {
        let shared = Shared::new(settings.table.clone());
        let redis = settings.redis.clone().map(|target| Redis::new(target, &settings.prefix, replica));
        let mut keeper = Keeper::new(shared.clone(), redis.transpose()?);
        // What comes first has a lease to be spent.
        keeper.turn().await;
        supervisor.spawn("limits", OnEnd::Shutdown, keep(keeper, supervisor.clone()));
        Ok(Self { shared, label: settings.tenant_label.as_deref().map(Arc::from) })
    }

    /// Another table holds from now on, as a whole.
    pub fn swap(&self, table: Table) {
        self.shared.lock().swap(table);
    }

    /// Whether a table has this setting: it may change while limits are set.
    pub fn may_change(key: &str) -> bool {
        ["limits.events_per_second", "limits.replicas"].contains(&key)
            || ["limits.tracers", "limits.tenants"].iter().any(|table| key.starts_with(table))
    }

    pub(super) fn door<'a>(&'a self, node: &'a str) -> Door<'a> {
        let limiter = self.shared.lock();
        Door { limiter, now: self.shared.now(), node, label: self.label.as_deref() }
    }

    pub(crate) fn families(&self) -> Vec<Family> {
        let now = self.shared.now();
        families(&self.shared.lock().figures(now))
    }
}

impl Door<'_> {
    /// Whose the event is, if it is over a limit: tracer and tenant.
    pub(super) fn over<'e>(&mut self, event: &'e [u8]) -> Option<(&'e str, &'e str)> {
        let (tracer, tenant) = owner::of(event, self.label);
        let verdict = self.limiter.ask(self.now, tracer, tenant, self.node);
        (verdict != Verdict::Pass).then_some((tracer, tenant))
    }
}

async fn keep(mut keeper: Keeper, supervisor: Supervisor) -> Result<(), BoxError> {
    supervisor.token().run_until_cancelled(keeper.run()).await;
    keeper.leave().await;
    Ok(())
}

pub(crate) fn families(figures: &Figures) -> Vec<Family> {
    let over = [("node", figures.over_node), ("group", figures.over_group), ("cluster", figures.over_cluster)];
    let over: BTreeMap<_, _> = over.into_iter().map(|(level, count)| (vec![level.to_owned()], count)).collect();
    vec![
        Family::counter("limits_passed_events_total", "Events that were within the limits.", figures.passed),
        Family::counters(
            "limits_over_events_total",
            "Events that were over a limit, by whose it was: of the `node`, of the `group` (tracer and tenant) or of the `cluster`.",
            &["level"],
            over,
        ),
        Family::counter(
            "limits_crowded_events_total",
            "Events whose group or node was not told apart from others, because there were too many.",
            figures.crowded,
        ),
        Family::gauge("limits_known_groups", "Pairs of tracer and tenant that have a share.", figures.groups),
        Family::gauge("limits_known_nodes", "Nodes that have a share, in all groups.", figures.nodes),
        Family::gauge("limits_leased_events", "Events that may still pass by the lease that holds.", figures.tokens),
        Family::gauge(
            "limits_redis_available",
            "1 if leases are as they should be, 0 while the safe share holds because Redis does not answer.",
            u64::from(!figures.is_safe),
        ),
    ]
}
