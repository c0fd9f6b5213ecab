//! `galen tracers enable|disable|reset|trigger`, `galen reload`, `galen record`: changes to what runs on a node.

use std::io::{self, Write};

use galen_proto::v1::{
    CommandOutcome, ControlResponse, RecordNowRequest, ReloadSettingsRequest, SetTracerRequest, Setting,
    TriggerTracerRequest,
};

use crate::{
    arguments::{Record, Reload, TracerChange, TracerOfNode},
    client::Control,
    error::Error,
    output::plain,
};

pub(crate) async fn tracer(mut control: Control, change: TracerChange) -> Result<(), Error> {
    let set = |TracerOfNode { tracer, node }, enabled| SetTracerRequest { node, tracer, enabled };
    let set = match change {
        TracerChange::Enable(which) => set(which, Some(true)),
        TracerChange::Disable(which) => set(which, Some(false)),
        TracerChange::Reset(which) => set(which, None),
        TracerChange::Trigger { which: TracerOfNode { tracer, node }, cgroup } => {
            let request = TriggerTracerRequest { node, tracer, cgroup: cgroup.unwrap_or_default() };
            return say(control.trigger_tracer(request).await?.into_inner());
        }
    };
    say(control.set_tracer(set).await?.into_inner())
}

pub(crate) async fn reload(mut control: Control, reload: Reload) -> Result<(), Error> {
    let Reload { node, set, unset } = reload;
    let set = set.into_iter().map(|(key, value)| Setting { key, value }).collect();
    say(control.reload_settings(ReloadSettingsRequest { node, set, unset }).await?.into_inner())
}

pub(crate) async fn record(mut control: Control, record: Record) -> Result<(), Error> {
    say(control.record_now(RecordNowRequest { node: record.node }).await?.into_inner())
}

fn say(response: ControlResponse) -> Result<(), Error> {
    let outcome = response.outcome();
    let detail = plain(&response.detail);
    let said = match outcome {
        _ if response.kept => "the node is away: kept until it comes",
        CommandOutcome::Done if detail.is_empty() => "done",
        CommandOutcome::Done => &detail,
        CommandOutcome::Unknown => return Err(Error::NotDone("its agent does not know this command".into())),
        CommandOutcome::Failed | CommandOutcome::Unspecified => return Err(Error::NotDone(detail.into_owned())),
    };
    Ok(writeln!(io::stdout(), "{said}")?)
}
