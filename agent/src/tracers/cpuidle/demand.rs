//! Captures that somebody asks for: of a cgroup with all below it, or of all of the node. No rule is met by them, so they
//! have no trigger.

use std::path::{Component, Path};

use galen_profile::{Scope, Target};
use galen_proto::v1::{EventKind, Severity};

use super::settings::Settings;
use crate::{
    cgroup::{Hierarchies, directory},
    flight::{Begun, Running},
    recorder::{Record, RunId},
    tracer::{BoxError, Context, Demand},
};

pub(super) async fn asked_for(demand: Demand, settings: Settings, context: Context) -> Result<(), BoxError> {
    let cgroup = demand.cgroup.clone();
    let scope = match cgroup.as_deref().map(|path| scope(path, &context.environment.hierarchies)) {
        None => Scope::Host,
        Some(Ok(scope)) => scope,
        Some(Err(why)) => {
            demand.refuse(why);
            return Ok(());
        }
    };
    let running = match Running::begin(&context, scope, settings.capture, f64::INFINITY).await {
        Ok(Begun::Running(running)) => running,
        Ok(Begun::Refused(why)) => {
            demand.refuse(why);
            return Ok(());
        }
        Err(error) => {
            demand.refuse(galen_runtime::Chain(&error).to_string());
            return Ok(());
        }
    };
    let run = RunId::new();
    demand.accept(format!("run {run}"));
    let container = match &cgroup {
        Some(path) => Some(context.containers.resolve(path).await),
        None => None,
    };
    let captured = running.end(&context).await?;
    let name = container.as_ref().map_or("the machine", |container| &container.name);
    context.record(Record {
        run,
        kind: EventKind::Capture,
        severity: Severity::Info,
        summary: captured.summary(name),
        explanation: "Somebody asked for it; no rule was met.".into(),
        observed: context.clock.now(),
        data: captured.data(),
        container,
        attachments: captured.attachments(),
    })?;
    Ok(())
}

/// The cgroup of that path, in the first hierarchy that has it.
fn scope(path: &str, hierarchies: &Hierarchies) -> Result<Scope, String> {
    let inside = |part| matches!(part, Component::RootDir | Component::Normal(_));
    if !path.starts_with('/') || !Path::new(path).components().all(inside) {
        return Err(format!("`{path}` is not a path from the root of a hierarchy"));
    }
    let mut directories = hierarchies.cpu_usage().map(|(_, root)| directory(root, path));
    let Some(found) = directories.find(|directory| directory.is_dir()) else {
        return Err(format!("there is no cgroup `{path}`"));
    };
    Target::from_path(found).map(Scope::from).map_err(|error| galen_runtime::Chain(&error).to_string())
}
