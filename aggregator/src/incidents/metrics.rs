//! Figures of incidents. What counts is part of their state, so it goes on after a restart.

use std::collections::BTreeMap;

use galen_incidents::Totals;

use crate::metrics::Family;

/// What is known now.
#[derive(Default)]
pub(crate) struct Figures {
    /// By severity.
    pub(super) open: BTreeMap<&'static str, u64>,
    pub(super) quiet: u64,
    pub(super) closed: u64,
    pub(super) totals: Totals,
    pub(super) bytes: u64,
    pub(super) lag: u64,
    pub(super) failed_saves: u64,
}

pub(crate) fn families(figures: &Figures) -> Vec<Family> {
    let Figures { open, quiet, closed, totals, bytes, lag, failed_saves } = figures;
    let open = open.iter().map(|(severity, count)| (vec![(*severity).to_owned()], *count)).collect();
    vec![
        Family::gauges("incident_open_incidents", "Incidents that are open, by severity.", &["severity"], open),
        Family::gauge("incident_quiet_incidents", "Incidents of which nothing came for a while.", *quiet),
        Family::gauge("incident_closed_incidents", "Closed incidents that are still kept.", *closed),
        Family::counter("incident_opened_incidents_total", "Incidents that were opened.", totals.opened),
        Family::counter("incident_joined_events_total", "Events that were counted.", totals.events),
        Family::counter("incident_joined_runs_total", "Runs that were counted.", totals.runs),
        Family::counter(
            "incident_overflow_incidents_total",
            "Incidents that were pushed out before they were closed, because there was no room.",
            totals.overflow.incidents,
        ),
        Family::counter(
            "incident_overflow_events_total",
            "Events of incidents that were pushed out before they were closed.",
            totals.overflow.events,
        ),
        Family::counter(
            "incident_past_incidents_total",
            "Closed incidents that are kept no more.",
            totals.past.incidents,
        ),
        Family::counter(
            "incident_forgotten_runs_total",
            "Runs that were forgotten before their capture came: at most so many are counted twice.",
            totals.forgotten_runs,
        ),
        Family::counter(
            "incident_unreadable_events_total",
            "Events that could not be decoded, and belong to no incident.",
            totals.unreadable,
        ),
        Family::counter(
            "incident_skipped_events_total",
            "Events that had left the log, or were damaged there, before they were counted.",
            totals.skipped,
        ),
        Family::counter(
            "incident_save_failures_total",
            "Times that the file of incidents could not be written.",
            *failed_saves,
        ),
        Family::gauge("incident_size_bytes", "Bytes of memory of all incidents.", *bytes),
        Family::gauge("incident_lag_events", "Events in the log that are not counted yet.", *lag),
    ]
}
