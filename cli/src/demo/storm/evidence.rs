//! What the nodes of the storm have to tell: a trigger and a capture of each cause.
//!
//! As root it is caught here and now, by the agent: a process that spins in a function of its own, and one that calls
//! the kernel nearly without pause. Where that is not possible, or does not stand out on a busy machine, the same two as
//! an agent recorded them on a machine of two CPUs with Linux 6.18: a `Batch` of the two events each.

use std::{path::PathBuf, time::Duration};

use galen_proto::v1::{Batch, Event, EventKind, GetEventRequest};
use galen_provoke::Cgroup;
use prost::Message;
use tokio::time::sleep;

use super::super::{
    Error, Stage,
    story::{CPUS, DETECTION, Opened, QUIET, Story, start_load, told},
};
use crate::{client::Client, error, moment::now_unix_nanos};

pub(super) const TRACER: &str = "cpuidle";
/// Short captures: all nodes tell the same.
const SETTINGS: &str = "[tracers.cpuidle]\nrun_tracing_tool_timeout = \"3s\"\n";
/// What spins in the two cgroups.
const LOADS: [(&str, &[&str]); 2] =
    [("common", &["spin", "--threads=1"]), ("rare", &["spin", "--system", "--threads=1"])];
const RECORDED: [&[u8]; 2] = [include_bytes!("common.pb"), include_bytes!("rare.pb")];
/// From a trigger to its capture, with its names.
const CAPTURE: Duration = Duration::from_secs(30);
/// A machine that does much else may drown a burst once.
const ATTEMPTS: usize = 2;

pub(super) struct Evidence {
    pub(super) trigger: Event,
    pub(super) capture: Event,
}

impl Evidence {
    fn recorded(batch: &[u8]) -> Result<Self, Error> {
        let mut events = Batch::decode(batch)?.events.into_iter();
        let mut next = || Event::decode(events.next().unwrap_or_default());
        Ok(Self { trigger: next()?, capture: next()? })
    }
}

impl Story {
    /// Of the common and of the rare cause.
    pub(super) async fn find_evidence(
        &mut self,
        stage: &mut Stage,
        programs: &[PathBuf; 2],
    ) -> Result<[Evidence; 2], error::Error> {
        let mut caught = [None, None];
        if rustix::process::geteuid().is_root() {
            let Opened { mut client, node, .. } = self.open(stage, programs, SETTINGS).await?;
            let begun = now_unix_nanos();
            for attempt in 1..=ATTEMPTS {
                self.step(&format!("node {} watches; waits until it has seen a quiet window", node.name))?;
                sleep(QUIET).await;
                self.step("children are busy in cgroups of their own, in user space and in the kernel")?;
                catch(stage, &mut client, begun, attempt, &mut caught).await?;
                stage.calm().await;
                if caught.iter().all(Option::is_some) {
                    break;
                }
            }
            stage.end_daemons().await;
        }
        let is_real = caught.iter().all(Option::is_some);
        self.step(match is_real {
            true => "both were captured: that is what the nodes will tell",
            false => "the nodes will tell, of what was not captured, what an agent has recorded on another machine",
        })?;
        let [common, rare] = caught;
        let or_recorded = |caught: Option<Evidence>, recorded| caught.map_or_else(|| Evidence::recorded(recorded), Ok);
        Ok([or_recorded(common, RECORDED[0])?, or_recorded(rare, RECORDED[1])?])
    }
}

/// What the agent tells of those that are not caught yet.
async fn catch(
    stage: &mut Stage,
    client: &mut Client,
    begun: i64,
    attempt: usize,
    caught: &mut [Option<Evidence>; 2],
) -> Result<(), error::Error> {
    let mut missing = Vec::new();
    for ((name, words), caught) in LOADS.into_iter().zip(caught).filter(|(_, caught)| caught.is_none()) {
        let path = format!("/galen-demo-{}-{name}-{attempt}", std::process::id());
        let cgroup = Cgroup::everywhere(&path).map_err(Error::from)?;
        cgroup.prefer().map_err(Error::from)?;
        cgroup.limit_cpus(CPUS).map_err(Error::from)?;
        stage.loads.push(start_load(name, stage, &cgroup, words.iter().map(Into::into))?);
        missing.push((cgroup.path.clone(), caught));
        stage.cgroups.push(cgroup);
    }
    for (path, caught) in missing {
        let is_of = |event: &Event, kind| {
            event.kind() == kind && event.container.as_ref().is_some_and(|container| container.cgroup == path)
        };
        let is_trigger = |event: &Event| is_of(event, EventKind::Trigger);
        let Some(trigger) = told(stage, client, TRACER, begun, DETECTION, is_trigger).await? else { continue };
        let is_capture = |event: &Event| is_of(event, EventKind::Capture);
        if let Some(capture) = told(stage, client, TRACER, begun, CAPTURE, is_capture).await? {
            let id = capture.id.map(|id| id.to_string()).unwrap_or_default();
            let capture = client.get_event(GetEventRequest { id }).await?.into_inner();
            *caught = Some(Evidence { trigger, capture });
        }
    }
    Ok(())
}
