//! Captures that somebody asks for: of a cgroup with all below it, or of all of the node. No rule is met by them, so they
//! have no trigger.

use galen_profile::{Scope, Target};
use galen_proto::v1::EventKind;

use super::settings::Settings;
use crate::{
    cgroup::{self, Hierarchies},
    flight::Running,
    recorder::Record,
    tracer::{BoxError, Cause, Context, Demand},
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
    let begun = Running::demanded(&context, demand, scope, settings.capture).await?;
    let Some((run, running)) = begun else { return Ok(()) };
    let container = match &cgroup {
        Some(path) => Some(context.containers.resolve(path).await),
        None => None,
    };
    let captured = running.end(&context).await?;
    let name = container.as_ref().map_or("the machine", |container| &container.name);
    context.record(Record {
        run,
        kind: EventKind::Capture,
        severity: Cause::Demand.severity(),
        summary: captured.summary(name),
        explanation: Cause::Demand.explanation(),
        observed: context.clock.now(),
        data: captured.data(),
        container,
        attachments: captured.attachments(),
    })?;
    Ok(())
}

/// The cgroup of that path, in the first hierarchy that has it.
fn scope(path: &str, hierarchies: &Hierarchies) -> Result<Scope, String> {
    let roots = hierarchies.cpu_usage().map(|(_, root)| root);
    let found = cgroup::find(path, roots).map_err(|error| error.to_string())?;
    Target::from_path(found).map(Scope::from).map_err(|error| galen_runtime::Chain(&error).to_string())
}
