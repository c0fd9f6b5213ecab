//! The runs that one look began: a trigger for each entity at once, the captures as soon as the stacks have names.
//!
//! They share the look and so the cost of the names: the budget is asked once. With less than it allows in full the list
//! of the single tasks is left out, with nothing left the captures are.

use std::{collections::HashMap, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::future::join_all;
use galen_proto::v1::{Attachment, Container, EventKind, Severity};
use procfs::Current;

use super::{
    crowd::Crowd,
    load::HOST,
    report::{self, Capture, Trigger},
    settings::Settings,
    source::States,
    watch::{Over, cpu_time},
};
use crate::{
    budget::{Cost, Grant},
    clock::Moment,
    recorder::{Record, RunId},
    tracer::{Asked, BoxError, Cause, Context, Demand},
};

pub(super) struct Runs {
    pub over: Vec<Over>,
    /// `None` where they are not known.
    pub states: Option<HashMap<Arc<str>, States>>,
    pub crowd: Arc<Crowd>,
    pub observed: Moment,
    pub settings: Settings,
    pub context: Context,
}

/// One whose trigger was told.
struct Told {
    run: RunId,
    path: Arc<str>,
    container: Option<Container>,
}

/// What is captured for it.
struct Captured {
    told: Told,
    summary: String,
    data: Capture,
    tasks: Option<Bytes>,
}

impl Runs {
    pub(super) async fn tell(self) -> Result<(), BoxError> {
        let highest = self.over.iter().map(|over| over.load).fold(0.0, f64::max);
        let (permit, reduced) = match self.context.may_capture(Severity::Warning, highest).await {
            Grant::Full(permit) => (Some(permit), None),
            Grant::Short(permit, _, why) => (Some(permit), Some(why)),
            Grant::None(why) => (None, Some(why)),
        };
        let no_capture = if permit.is_none() { reduced.as_deref() } else { None };
        let triggers = self.over.iter().map(|over| self.trigger(over, no_capture));
        let told = join_all(triggers).await.into_iter().collect::<Result<Vec<_>, _>>()?;
        let Some(mut permit) = permit else { return Ok(()) };
        let Self { crowd, settings, context, observed, .. } = self;
        let taken = tokio::task::spawn_blocking(move || capture(&crowd, told, reduced.as_deref(), &settings));
        let (captured, cost) = taken.await?;
        permit.spent(cost);
        captured.into_iter().try_for_each(|captured| captured.record(&context, observed, Cause::Rule))
    }

    async fn trigger(&self, over: &Over, no_capture: Option<&str>) -> Result<Told, BoxError> {
        let run = RunId::new();
        let container = match &*over.path {
            HOST => None,
            path => Some(self.context.containers.resolve(path).await),
        };
        let states = self.states.as_ref().and_then(|states| states.get(&over.path).copied());
        let load_avg = procfs::LoadAverage::current().ok().map(|load| f64::from(load.one));
        self.context.record(Record {
            run,
            kind: EventKind::Trigger,
            severity: Severity::Warning,
            summary: report::summary(over, place(container.as_ref())),
            explanation: report::explanation(over, &self.settings),
            container: container.clone(),
            observed: self.observed,
            data: Trigger::new(over, states, load_avg, no_capture, &self.settings),
            attachments: Vec::new(),
        })?;
        Ok(Told { run, path: Arc::clone(&over.path), container })
    }
}

impl Captured {
    fn record(self, context: &Context, observed: Moment, cause: Cause) -> Result<(), BoxError> {
        let attachment = |content| Attachment {
            name: "tasks.json".into(),
            media_type: "application/json".into(),
            encoding: String::new(),
            content,
        };
        context.record(Record {
            run: self.told.run,
            kind: EventKind::Capture,
            severity: cause.severity(),
            summary: self.summary,
            explanation: cause.explanation(),
            container: self.told.container,
            observed,
            data: self.data,
            attachments: self.tasks.map(attachment).into_iter().collect(),
        })?;
        Ok(())
    }
}

/// What a look found of the demanded cgroup, or of the host.
pub(super) async fn asked_for(
    demand: Demand,
    crowd: Arc<Crowd>,
    observed: Moment,
    settings: Settings,
    context: Context,
) -> Result<(), BoxError> {
    let Some(Asked { run, cgroup, mut permit, short }) = demand.begin(&context).await else { return Ok(()) };
    let container = match &cgroup {
        Some(path) => Some(context.containers.resolve(path).await),
        None => None,
    };
    let told = Told { run, path: cgroup.as_deref().unwrap_or(HOST).into(), container };
    let reduced = short.map(|(_, why)| why);
    let take = move || capture(&crowd, vec![told], reduced.as_deref(), &settings);
    let (captured, cost) = tokio::task::spawn_blocking(take).await?;
    permit.spent(cost);
    captured.into_iter().try_for_each(|captured| captured.record(&context, observed, Cause::Demand))
}

/// Blocks for some 100 ms. With a reason to be `reduced` the single tasks are left out.
fn capture(crowd: &Crowd, told: Vec<Told>, reduced: Option<&str>, settings: &Settings) -> (Vec<Captured>, Cost) {
    let before = cpu_time();
    let names = galen_profile::kernel_functions(report::addresses(crowd));
    let of = |told: Told| {
        let data = Capture::new(crowd, &told.path, &names, reduced, &settings.issues);
        let tasks = match reduced {
            None => serde_json::to_vec(&report::listed(crowd, &told.path, &names)).ok().map(Bytes::from),
            Some(_) => None,
        };
        Captured { summary: data.summary(place(told.container.as_ref())), data, tasks, told }
    };
    let captured: Vec<Captured> = told.into_iter().map(of).collect();
    let bytes = captured.iter().filter_map(|captured| captured.tasks.as_ref()).map(|tasks| tasks.len() as u64).sum();
    let cpu: Duration = cpu_time().saturating_sub(before);
    (captured, Cost { cpu, bytes })
}

fn place(container: Option<&Container>) -> &str {
    container.map_or("the host", |container| container.name.as_str())
}
