//! Kafka as the log, for those who operate it: its figures, and what is wrong with it.

use std::collections::BTreeMap;

use galen_kafka::{Gauge, Mirror, MirrorStats, Stats};

use crate::{archive::LAG_PROBLEM, metrics::Family};

/// Where Kafka is configured. Clones are the same.
#[derive(Debug, Clone)]
pub struct Kafka {
    pub writer: Gauge,
    /// `None` where nothing is kept on this machine.
    pub mirror: Option<Mirror>,
}

impl Kafka {
    /// What is wrong, one line each.
    pub(crate) fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if let Some(why) = self.writer.away() {
            problems.push(format!("Kafka cannot be reached: {why}"));
        }
        problems.extend(self.behind());
        let stats = self.writer.stats();
        if stats.dead_letters > 0 {
            problems.push(format!("{} events were put among Kafka's dead letters", stats.dead_letters));
        }
        problems
    }

    /// Why the copy on this machine does not have what is new, one line each.
    pub(crate) fn behind(&self) -> Vec<String> {
        let Some(mirror) = &self.mirror else { return Vec::new() };
        let lag = mirror.stats().lag;
        let error = mirror.disk_error().map(|error| format!("what comes from Kafka cannot be written here: {error}"));
        let behind = (lag > LAG_PROBLEM).then(|| format!("{lag} records of Kafka are not copied yet"));
        error.into_iter().chain(behind).collect()
    }

    pub(crate) fn families(&self) -> Vec<Family> {
        let is_there = self.writer.away().is_none();
        families(is_there, &self.writer.stats(), &self.mirror.as_ref().map(Mirror::stats).unwrap_or_default())
    }
}

pub(crate) fn families(is_there: bool, writer: &Stats, mirror: &MirrorStats) -> Vec<Family> {
    let errors: BTreeMap<_, _> =
        writer.errors.iter().map(|(reason, count)| (vec![(*reason).to_owned()], *count)).collect();
    vec![
        Family::gauge("kafka_brokers_available", "1 if a broker of Kafka can be reached, else 0.", is_there.into()),
        Family::counter("kafka_written_records_total", "Records that Kafka acknowledged.", writer.records),
        Family::counter("kafka_written_bytes_total", "Bytes of the values of these records.", writer.bytes),
        Family::gauge("kafka_waiting_records", "Records that wait for Kafka, a moment ago.", writer.waiting_records),
        Family::gauge("kafka_waiting_bytes", "Bytes that wait for Kafka, a moment ago.", writer.waiting_bytes),
        Family::counters(
            "kafka_failed_groups_total",
            "Groups of records that were given up, by reason. Their agents send them again.",
            &["reason"],
            errors,
        ),
        Family::counter(
            "kafka_reopened_producers_total",
            "Attempts to make a new producer after a group was given up.",
            writer.reopened,
        ),
        Family::counter(
            "kafka_quarantined_events_total",
            "Events that were put among the dead letters, because they could not be read or sent.",
            writer.dead_letters,
        ),
        Family::counter(
            "kafka_untold_records_total",
            "Records of watermarks that did not reach the other replicas.",
            writer.untold,
        ),
        Family::counter(
            "kafka_client_errors_total",
            "Errors that Kafka's clients reported, of connections most of all.",
            writer.client_errors,
        ),
        Family::counter(
            "kafka_refused_commits_total",
            "Commits that Kafka refused when partitions went: what was done behind their places is done again.",
            writer.refused_commits,
        ),
        Family::counter(
            "kafka_mirrored_events_total",
            "Events that were copied from Kafka to this log.",
            mirror.copied,
        ),
        Family::counter(
            "kafka_mirror_duplicate_events_total",
            "Events in Kafka that this log had already.",
            mirror.duplicates,
        ),
        Family::counter(
            "kafka_mirror_missed_records_total",
            "Records that were gone from Kafka before they were copied: its retention is too short.",
            mirror.missed,
        ),
        Family::counter(
            "kafka_mirror_lost_places_total",
            "Places of the copy in partitions that ended before them, so that they were copied from their begin.",
            mirror.lost_places,
        ),
        Family::gauge("kafka_mirror_lag_records", "Records in Kafka that were not copied yet.", mirror.lag),
        Family::counter(
            "kafka_mirror_unreadable_records_total",
            "Records in Kafka that are not as they should be.",
            mirror.joined.unreadable,
        ),
        Family::counter(
            "kafka_mirror_incomplete_events_total",
            "Events in Kafka of which not all parts came.",
            mirror.joined.incomplete,
        ),
    ]
}
