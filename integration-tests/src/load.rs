//! Many agents on real connections from one process: what an aggregator takes for each of them, and how long it needs
//! for all when they come back at once.
//!
//! The agents are [`galen_simulate`]'s, with the figures and the tracers of a real one, and record numbered events, the flood's unless told otherwise.
//! `run` is the measurement, as `galen-load` and the benchmarks make it.

mod certificates;
mod run;

use std::{net::SocketAddr, ops::Range, sync::Arc};

use anyhow::Result;
use bytes::Bytes;
use galen_agent::{TracerSet, figures, tracers::Shipped};
use galen_proto::v1::{Label, Measure, MeasureKind, Support, TracerStatus};
use galen_simulate::{Budget, Fleet, Habits, Identity, Source};

use crate::flood;
use certificates::Certificates;

pub use run::{Arguments, Report, run};

/// The encoded event of the agent at a place with a number: the first has the number 1.
pub type Numbered = fn(usize, u64) -> Vec<u8>;

/// Connects the agents with these numbers, all at once, and waits until each is welcomed.
pub async fn connect(aggregator: SocketAddr, agents: Range<usize>) -> Result<Fleet> {
    connect_with(Habits::of_agents(aggregator), |_, number| flood::event(number), agents).await
}

/// As [`connect`], with habits and events of their own.
pub async fn connect_with(habits: Habits, event: Numbered, agents: Range<usize>) -> Result<Fleet> {
    Ok(Fleet::start(habits, nodes(event, agents, None)?).await?)
}

/// What connects, with a certificate of its own if there are any.
fn nodes(
    event: Numbered,
    agents: Range<usize>,
    certificates: Option<&Certificates>,
) -> Result<Vec<(Identity, Counting)>> {
    let words = Arc::new(Words::new()?);
    let node = |place| {
        let name = format!("load-{place:06}");
        let dialler = certificates.map(|certificates| certificates.node(&name)).transpose()?;
        Ok((Identity { name, dialler }, Counting { words: Arc::clone(&words), place, event, recorded: 0 }))
    };
    agents.map(node).collect()
}

/// Records one numbered event at a time.
struct Counting {
    words: Arc<Words>,
    place: usize,
    event: Numbered,
    recorded: u64,
}

/// What each agent says of itself.
struct Words {
    tracers: Vec<TracerStatus>,
    measures: Vec<Measure>,
}

impl Source for Counting {
    fn tracers(&self) -> Vec<TracerStatus> {
        self.words.tracers.clone()
    }

    fn measures(&self) -> Vec<Measure> {
        self.words.measures.clone()
    }

    fn record(&mut self, _budget: &mut Budget) -> Vec<Bytes> {
        self.recorded += 1;
        vec![(self.event)(self.place, self.recorded).into()]
    }
}

impl Words {
    /// As many figures as a real agent has, under the same names: its gauges for each tracer, and of what is counted by
    /// label that it happened once.
    fn new() -> Result<Self> {
        let names: Vec<_> = Shipped::factories().into_iter().map(|factory| factory.name).collect();
        let mut measures = Vec::new();
        for metric in figures::reference()? {
            let kind = if metric.kind == "counter" { MeasureKind::Counter } else { MeasureKind::Gauge };
            let tracers =
                if kind == MeasureKind::Gauge && !metric.labels.is_empty() { &names[..] } else { &names[..1] };
            measures.extend(tracers.iter().map(|tracer| {
                Measure {
                    name: metric.name.clone(),
                    kind: kind.into(),
                    labels: metric
                        .labels
                        .iter()
                        .map(|label| Label { name: label.clone(), value: (*tracer).to_owned() })
                        .collect(),
                    value: 1.0,
                }
            }));
        }
        let support = Support::Full.into();
        let tracer = |name: &&str| TracerStatus { name: (*name).into(), support, enabled: true, ..Default::default() };
        Ok(Self { tracers: names.iter().map(tracer).collect(), measures })
    }
}
