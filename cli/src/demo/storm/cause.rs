//! A cause, the nodes that it strikes, and how much they have told of it: what the incidents must come to.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use bytes::Bytes;
use galen_proto::v1::{Container, Event, Host, Support, Suppression, SuppressionReason, Times, TracerStatus};
use galen_simulate::{Budget, Source};
use prost::Message;
use serde_json::Value;

use super::evidence::{Evidence, TRACER};
use crate::moment::now_unix_nanos;

const NAMESPACE: &str = "shop";
/// Of pods' names, as Kubernetes makes them up.
const LETTERS: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
const NO_BUDGET: &str = "the budget of captures is used up";

pub(super) struct Cause {
    /// The workload that it is found in.
    owner: &'static str,
    /// What a run begins with, if a capture follows, and if none does.
    captured: Event,
    refused: Event,
    capture: Event,
    pub(super) told: Told,
}

/// What all nodes have told.
#[derive(Default)]
pub(super) struct Told {
    pub(super) runs: AtomicU64,
    pub(super) captures: AtomicU64,
    pub(super) nodes: AtomicU64,
    first: OnceLock<Instant>,
}

impl Told {
    /// When the first event was recorded.
    pub(super) fn first(&self) -> Option<Instant> {
        self.first.get().copied()
    }
}

impl Cause {
    /// Found by `evidence`, in all pods of `owner`.
    pub(super) fn new(owner: &'static str, Evidence { trigger, capture }: Evidence) -> Arc<Self> {
        let cgroup = trigger.container.clone().map(|container| container.name).filter(|name| !name.is_empty());
        let named = |event: Event| match &cgroup {
            Some(cgroup) => Event { summary: event.summary.replace(cgroup, owner), ..event },
            None => event,
        };
        let trigger = named(trigger);
        let with = |granted: bool| {
            let mut data: Value = serde_json::from_slice(&trigger.data).unwrap_or_default();
            if let Some(data) = data.as_object_mut() {
                data.remove("short_capture_because");
                data.insert("capture".into(), granted.into());
                if !granted {
                    data.insert("no_capture_because".into(), NO_BUDGET.into());
                }
            }
            Event { data: data.to_string().into(), ..trigger.clone() }
        };
        let (captured, refused) = (with(true), with(false));
        Arc::new(Self { owner, captured, refused, capture: named(capture), told: Told::default() })
    }

    /// As incidents name it.
    pub(super) fn workload(&self) -> String {
        format!("{NAMESPACE}/{}", self.owner)
    }
}

pub(super) fn node_name(place: u32) -> String {
    format!("node-{:05}", place + 1)
}

/// A node that has a pod of the workload.
pub(super) struct Struck {
    cause: Arc<Cause>,
    host: Host,
    container: Container,
    runs: u64,
    captures: u64,
}

impl Struck {
    pub(super) fn new(place: u32, cause: Arc<Cause>) -> Self {
        let owner = cause.owner;
        let pod = format!("{owner}-5d9f7c6b8-{}", suffix(place));
        let container = Container {
            id: format!("{place:064x}"),
            name: owner.into(),
            runtime: "containerd".into(),
            image: format!("registry.example/{NAMESPACE}/{owner}:1.42.0"),
            cgroup: format!("/kubepods/burstable/pod{place:08x}/{place:064x}"),
            pod,
            namespace: NAMESPACE.into(),
            qos: "Burstable".into(),
            ..Container::default()
        };
        let host = Host { name: node_name(place), ..cause.captured.host.clone().unwrap_or_default() };
        Self { cause, host, container, runs: 0, captures: 0 }
    }

    /// An event of a run, as it is on this node.
    fn here(&self, event: &Event) -> Bytes {
        let now = now_unix_nanos();
        let event = Event {
            run_id: format!("{}-{}", self.host.name, self.runs),
            times: Some(Times {
                observed_unix_nanos: now,
                recorded_unix_nanos: now,
                ..event.times.unwrap_or_default()
            }),
            host: Some(self.host.clone()),
            container: Some(self.container.clone()),
            ..event.clone()
        };
        event.encode_to_vec().into()
    }
}

impl Source for Struck {
    fn tracers(&self) -> Vec<TracerStatus> {
        let refused = Suppression { reason: SuppressionReason::Budget.into(), count: self.runs - self.captures };
        vec![TracerStatus {
            name: TRACER.into(),
            support: Support::Full.into(),
            enabled: true,
            triggers: self.runs,
            captures: self.captures,
            suppressed: vec![refused],
            ..TracerStatus::default()
        }]
    }

    /// A run: the trigger, and the capture if the budget allows one.
    fn record(&mut self, budget: &mut Budget) -> Vec<Bytes> {
        let Told { runs, captures, nodes, first } = &self.cause.told;
        first.get_or_init(Instant::now);
        nodes.fetch_add(u64::from(self.runs == 0), Ordering::Relaxed);
        runs.fetch_add(1, Ordering::Relaxed);
        self.runs += 1;
        if !budget.ask(TRACER) {
            return vec![self.here(&self.cause.refused)];
        }
        captures.fetch_add(1, Ordering::Relaxed);
        self.captures += 1;
        vec![self.here(&self.cause.captured), self.here(&self.cause.capture)]
    }
}

/// Five letters, other ones for each place.
fn suffix(place: u32) -> String {
    let digits = (0..5).map(|digit| LETTERS[(place / 27_u32.pow(digit) % 27) as usize]);
    digits.map(char::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pods_of_a_workload_have_names_of_their_own() {
        assert_eq!((suffix(0), suffix(28)), ("bbbbb".into(), "ccbbb".into()));
    }
}
