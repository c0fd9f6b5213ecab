//! The agent's own figures: registered in one place, described for the reference, and told to the aggregator with each
//! heartbeat, because the agent opens no port.
//!
//! Names are `galen_agent_<subsystem or tracer>_<noun>_<unit>`, with `_total` behind a counter. What travels is bounded:
//! [`PER_NAME`] series of a name, so that one that grows hides no other, and [`IN_ALL`]. What is beyond, and histograms,
//! which the wire does not know, is left out and counted.

mod own;
mod registry;

use galen_proto::v1::{Label, Measure, MeasureKind};
use prometheus::proto::{MetricFamily, MetricType};

pub use registry::{Metric, Registry};

pub(crate) use own::{Sources, register};

const PER_NAME: usize = 64;
const IN_ALL: usize = 512;

/// What a heartbeat tells.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Measures {
    pub measures: Vec<Measure>,
    pub left_out: u64,
}

impl Measures {
    fn of(families: &[MetricFamily]) -> Self {
        let mut all = Self::default();
        for family in families {
            let metrics = family.get_metric();
            let kind = match family.get_field_type() {
                MetricType::COUNTER => MeasureKind::Counter,
                MetricType::GAUGE => MeasureKind::Gauge,
                _ => {
                    all.left_out += metrics.len() as u64;
                    continue;
                }
            };
            let taken = metrics.len().min(PER_NAME).min(IN_ALL - all.measures.len());
            all.left_out += (metrics.len() - taken) as u64;
            all.measures.extend(metrics[..taken].iter().map(|metric| {
                Measure {
                    name: family.name().to_owned(),
                    kind: kind.into(),
                    labels: metric
                        .get_label()
                        .iter()
                        .map(|label| Label { name: label.name().to_owned(), value: label.value().to_owned() })
                        .collect(),
                    value: match kind {
                        MeasureKind::Counter => metric.get_counter().get_value(),
                        _ => metric.get_gauge().get_value(),
                    },
                }
            }));
        }
        all
    }
}

/// Every metric of the agent and of the tracers that it ships, by name. Nothing is started for it.
///
/// # Errors
/// Two metrics have the same name.
pub fn reference() -> Result<Vec<Metric>, prometheus::Error> {
    let registry = Registry::default();
    register(&registry, Sources::default)?;
    crate::uplink::Figures::register(&registry)?;
    crate::budget::Figures::register(&registry)?;
    crate::containers::Metrics::new()?.register(&registry)?;
    registry.register(Box::new(crate::tls::Figures::of(None)?))?;
    for section in crate::Config::<crate::tracers::Shipped>::default().tracers.iter() {
        if let Some(collector) = section.tracer.collector() {
            registry.register(collector)?;
        }
    }
    Ok(registry.described())
}

#[cfg(test)]
mod tests {
    use prometheus::{Histogram, HistogramOpts, IntCounterVec, IntGauge, Opts};

    use super::*;

    #[test]
    fn one_name_that_grows_hides_no_other_and_what_is_left_out_is_counted() {
        let registry = Registry::default();
        let many = IntCounterVec::new(Opts::new("galen_agent_a_events_total", "Many."), &["which"]).unwrap();
        (0..PER_NAME + 3).for_each(|which| many.with_label_values(&[&which.to_string()]).inc());
        let gauge = IntGauge::new("galen_agent_b_bytes", "One.").unwrap();
        gauge.set(7);
        let histogram = Histogram::with_opts(HistogramOpts::new("galen_agent_c_seconds", "None.")).unwrap();
        registry.register(Box::new(many)).unwrap();
        registry.register(Box::new(gauge)).unwrap();
        registry.register(Box::new(histogram)).unwrap();
        let all = registry.measures();
        assert_eq!((all.measures.len(), all.left_out), (PER_NAME + 1, 3 + 1));
        let last = all.measures.last().unwrap();
        assert_eq!((last.name.as_str(), last.kind(), last.value), ("galen_agent_b_bytes", MeasureKind::Gauge, 7.0));
        assert_eq!(all.measures[0].labels, [Label { name: "which".into(), value: "0".into() }]);

        for name in 0..IN_ALL {
            let gauge = IntGauge::new(format!("galen_agent_d_{name}_bytes"), "One of many.").unwrap();
            registry.register(Box::new(gauge)).unwrap();
        }
        let all = registry.measures();
        assert_eq!((all.measures.len(), all.left_out), (IN_ALL, 3 + 1 + PER_NAME as u64 + 1));
    }

    #[test]
    fn names_are_built_by_the_rule() {
        let metrics = reference().unwrap();
        assert!(metrics.len() > 15, "{}", metrics.len());
        for metric in metrics {
            let name = metric.name.strip_prefix("galen_agent_").expect(&metric.name);
            assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'), "{name}");
            assert!(metric.help.ends_with('.'), "{name}: {}", metric.help);
            assert!(!metric.labels.iter().any(|label| label == "node"), "{name}");
        }
    }
}
