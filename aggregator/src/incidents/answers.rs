//! What is asked about incidents, by whichever door.
//!
//! Whether an incident is open depends on the time. That is the wall clock's, unless events wait to be counted: then
//! it is the time that the reader has reached, so that nothing is called quiet only because the reader is late.

use std::{collections::BTreeMap, sync::atomic::Ordering, time::Duration};

use galen_incidents::{Exemplar, Incident, Kept, Observation, State};
use galen_proto::v1::{
    self, Event, FollowIncidentsRequest, IncidentState, ListIncidentsRequest, ListIncidentsResponse, LogRecord,
    Overflow,
};
use galen_store::severity_name;
use tokio::{sync::OwnedSemaphorePermit, task::spawn_blocking};
use tokio_stream::Stream;

use super::{Figures, Incidents};
use crate::{ingest::now_unix_nanos, query::Error};

/// Incidents of an answer, unless asked otherwise.
const DEFAULT_LIMIT: usize = 100;
/// Most incidents of an answer, and most that a follower gets at a time.
const MAX_LIMIT: usize = 1000;
/// How often a follower is told.
const FOLLOW_EVERY: Duration = Duration::from_secs(1);

/// What a follower hears.
#[derive(Debug)]
pub struct Change {
    pub incident: v1::Incident,
    /// Of the incident, at this replica: rises whenever something joins or leaves it, not with its state.
    pub version: u64,
}

/// Which incidents.
#[derive(Debug, Clone)]
struct Filter {
    tracer: String,
    workload: String,
    node: String,
    severity: i32,
}

impl Filter {
    fn takes(&self, incident: &Incident) -> bool {
        (self.tracer.is_empty() || self.tracer == incident.tracer)
            && (self.workload.is_empty() || self.workload == incident.workload)
            && (self.node.is_empty() || incident.is_on(&self.node))
            && incident.severity >= self.severity
    }
}

impl Incidents {
    /// Incidents that match, the one that changed last first.
    ///
    /// # Errors
    /// If the request is wrong, or incidents are turned off.
    pub fn list(&self, request: ListIncidentsRequest) -> Result<ListIncidentsResponse, Error> {
        self.are_counted()?;
        let limit = match request.limit as usize {
            0 => DEFAULT_LIMIT,
            limit if limit <= MAX_LIMIT => limit,
            _ => return Err(Error::Invalid(format!("`limit` is at most {MAX_LIMIT}"))),
        };
        let wanted: Vec<IncidentState> = match request.states.is_empty() {
            true => vec![IncidentState::Open, IncidentState::Quiet],
            false => request.states().collect(),
        };
        let ListIncidentsRequest { tracer, workload, node, severity, .. } = request;
        let filter = Filter { tracer, workload, node, severity };
        let kept = self.0.kept();
        let (now, lag) = self.now(&kept);
        let mut answer = ListIncidentsResponse { lag, ..ListIncidentsResponse::default() };
        for incident in kept.table().changed_since(0).filter(|incident| filter.takes(incident)) {
            let state = told(incident.state(now, self.0.limits.silence));
            if wanted.contains(&state) {
                answer.total += 1;
                if answer.incidents.len() < limit {
                    answer.incidents.push(answered(incident, state));
                }
            }
        }
        let overflow = kept.table().totals().overflow;
        answer.overflow =
            Some(Overflow { incidents: overflow.incidents, runs: overflow.runs, events: overflow.events });
        Ok(answer)
    }

    /// The incident of that id, or the one of that fingerprint that changed last.
    ///
    /// # Errors
    /// If there is none, or incidents are turned off.
    pub fn get(&self, id: &str) -> Result<v1::Incident, Error> {
        self.are_counted()?;
        let kept = self.0.kept();
        let (now, _) = self.now(&kept);
        let print = id.parse().ok().filter(|_| id.len() == 32);
        let found = kept.table().changed_since(0).find(|incident| incident.id == id || Some(incident.print) == print);
        let found = found.ok_or_else(|| Error::NotFound(format!("there is no incident `{id}`, or no more")))?;
        Ok(answered(found, told(found.state(now, self.0.limits.silence))))
    }

    /// The incident of an event's cause that changed last, if there is one. Of a trigger, that is told by the capture of
    /// its run.
    pub async fn of(&self, event: Event) -> Option<v1::Incident> {
        // A profile may have to be unpacked for it.
        let print = spawn_blocking(move || Observation::of(&LogRecord::default(), 0, event).print).await.ok()?;
        self.get(&print.to_string()).ok()
    }

    /// Incidents that match and are not closed, then each that changes or changes its state.
    ///
    /// # Errors
    /// If too many follow already, or incidents are turned off.
    pub fn follow(&self, request: FollowIncidentsRequest) -> Result<impl Stream<Item = Change> + use<>, Error> {
        self.are_counted()?;
        let place = std::sync::Arc::clone(&self.0.followers).try_acquire_owned();
        let place: OwnedSemaphorePermit = place.map_err(|_| Error::Busy("followers"))?;
        let FollowIncidentsRequest { tracer, workload, node, severity } = request;
        let filter = Filter { tracer, workload, node, severity };
        let incidents = self.clone();
        Ok(async_stream::stream! {
            let _place = place;
            let (mut seen, mut looked) = (0, None);
            loop {
                let news = incidents.news(&filter, seen, looked);
                (seen, looked) = (news.seen, Some(news.now));
                for change in news.changes {
                    yield change;
                }
                tokio::time::sleep(FOLLOW_EVERY).await;
            }
        })
    }

    fn are_counted(&self) -> Result<(), Error> {
        let off = || Error::Unavailable("incidents are turned off here: see `incidents.enabled`".into());
        self.0.is_enabled.then_some(()).ok_or_else(off)
    }

    /// What changed after the version `seen`, the oldest change first; and whose state is not what it was at `looked`.
    fn news(&self, filter: &Filter, seen: u64, looked: Option<i64>) -> News {
        let kept = self.0.kept();
        let (now, _) = self.now(&kept);
        let silence = self.0.limits.silence;
        let mut changed: Vec<&Incident> = kept.table().changed_since(seen).collect();
        changed.reverse();
        changed.truncate(MAX_LIMIT);
        let upto = changed.last().map_or(seen, |incident| incident.version);
        let state = |incident: &Incident| incident.state(now, silence);
        let turned = kept.table().changed_since(0).filter(|incident| {
            incident.version <= seen && looked.is_some_and(|looked| incident.state(looked, silence) != state(incident))
        });
        let at_first = looked.is_none();
        let changed = changed.into_iter().filter(|incident| !at_first || state(incident) != State::Closed);
        let all = changed.chain(turned).filter(|incident| filter.takes(incident));
        let change = |incident: &Incident| Change {
            version: incident.version,
            incident: answered(incident, told(state(incident))),
        };
        News { changes: all.map(change).collect(), seen: upto, now }
    }

    /// Which time it is, and how many events are to be counted.
    fn now(&self, kept: &Kept) -> (i64, u64) {
        let lag = self.0.log.bounds().next.saturating_sub(kept.next());
        let reached = kept.table().changed_since(0).next().map(|incident| incident.last);
        (reached.filter(|_| lag > 0).unwrap_or_else(now_unix_nanos), lag)
    }

    pub(super) fn figures(&self) -> Figures {
        let kept = self.0.kept();
        let (now, lag) = self.now(&kept);
        let mut figures = Figures {
            open: BTreeMap::from([("info", 0), ("warning", 0), ("critical", 0)]),
            quiet: 0,
            closed: 0,
            totals: kept.table().totals(),
            bytes: kept.table().bytes() as u64,
            lag: if self.0.is_enabled { lag } else { 0 },
            failed_saves: self.0.failed_saves.load(Ordering::Relaxed),
        };
        for incident in kept.table().changed_since(0) {
            match incident.state(now, self.0.limits.silence) {
                State::Open => *figures.open.entry(severity_name(incident.severity)).or_default() += 1,
                State::Quiet => figures.quiet += 1,
                State::Closed => figures.closed += 1,
            }
        }
        figures
    }
}

struct News {
    changes: Vec<Change>,
    seen: u64,
    now: i64,
}

fn told(state: State) -> IncidentState {
    match state {
        State::Open => IncidentState::Open,
        State::Quiet => IncidentState::Quiet,
        State::Closed => IncidentState::Closed,
    }
}

fn answered(incident: &Incident, state: IncidentState) -> v1::Incident {
    let exemplar = |one: &Exemplar| v1::Exemplar {
        event: one.event.to_string(),
        kind: one.kind,
        container: one.container.clone(),
        observed_unix_nanos: one.observed,
        summary: one.summary.clone(),
    };
    let ((nodes, more_nodes), (containers, more_containers)) = (incident.nodes(), incident.containers());
    v1::Incident {
        id: incident.id.clone(),
        fingerprint: incident.print.to_string(),
        tracer: incident.tracer.clone(),
        workload: incident.workload.clone(),
        frames: incident.frames.clone(),
        severity: incident.severity,
        state: state.into(),
        runs: incident.tally.runs,
        presumed_runs: incident.tally.presumed,
        events: incident.tally.events,
        captures: incident.tally.captures,
        nodes,
        more_nodes,
        containers,
        more_containers,
        first_unix_nanos: incident.first,
        last_unix_nanos: incident.last,
        first_observed_unix_nanos: incident.first_observed,
        last_observed_unix_nanos: incident.last_observed,
        exemplars: incident.exemplars.iter().map(exemplar).collect(),
    }
}
