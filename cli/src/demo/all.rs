//! `galen demo --all`: each tracer catches its anomaly, one after the other.
//!
//! What this machine does not support, or what cannot be provoked on it, is named with its reason and is no failure.

use std::{
    io::{self, Write},
    path::PathBuf,
    time::Duration,
};

use galen_proto::v1::{Event, EventKind, Support};
use galen_runtime::Chain;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::{
    Error, Stage,
    anomalies::{ANOMALIES, Anomaly, Place, SETTINGS},
    story::{Opened, QUIET, Story, told},
};
use crate::{
    client::Client,
    error,
    moment::now_unix_nanos,
    output::{Colour, plain},
};

/// A trigger that did not come after this time will not come.
const DETECTION: Duration = Duration::from_secs(30);
/// The evidence of a trigger, with its names.
const EVIDENCE: Duration = Duration::from_secs(60);
/// A machine that does much else may drown an anomaly once.
const ATTEMPTS: usize = 2;

/// What became of an anomaly.
enum Fate {
    Caught {
        after: Duration,
    },
    Missed,
    /// Why it could not be tried.
    LeftOut(String),
}

impl Story {
    pub(super) async fn tell_all(&mut self, stage: &mut Stage, programs: &[PathBuf; 2]) -> Result<(), error::Error> {
        let Opened { mut client, addresses, node } = self.open(stage, programs, SETTINGS).await?;
        self.step(&format!("node {} watches; waits until it has seen a quiet window", node.name))?;
        sleep(QUIET).await;
        let mut fates = Vec::new();
        for anomaly in &ANOMALIES {
            let support = node.tracers.iter().find(|tracer| tracer.name == anomaly.tracer);
            let fate = match support {
                None => Fate::LeftOut("the agent does not have it".into()),
                Some(tracer) if tracer.support() == Support::Unsupported => Fate::LeftOut(tracer.reason.clone()),
                Some(_) => self.provoke(anomaly, stage, &mut client).await?,
            };
            fates.push((anomaly.tracer, fate));
        }
        self.sum_up(&fates)?;
        let (grpc, http) = (addresses.grpc, addresses.http);
        writeln!(io::stdout(), "\n  page    http://{http}/\n  query   galen --aggregator http://{grpc} events")?;
        let missed = fates.iter().filter(|(_, fate)| matches!(fate, Fate::Missed)).map(|(tracer, _)| *tracer);
        match missed.collect::<Vec<_>>() {
            missed if missed.is_empty() => Ok(()),
            missed => Err(Error::Missed(missed.join(", ")).into()),
        }
    }

    async fn provoke(
        &mut self,
        anomaly: &Anomaly,
        stage: &mut Stage,
        client: &mut Client,
    ) -> Result<Fate, error::Error> {
        for attempt in 1..=ATTEMPTS {
            if attempt > 1 {
                self.step("it did not stand out, because the machine is busy: tries again")?;
                sleep(QUIET).await;
            }
            self.step(&format!("{}: {}", self.style().paint(Colour::Bold, anomaly.tracer), anomaly.what))?;
            let (begun, started) = (now_unix_nanos(), Instant::now());
            if let Err(error) = anomaly.begin(stage, attempt) {
                stage.calm().await;
                return Ok(Fate::LeftOut(Chain(&error).to_string()));
            }
            let cgroup = stage.cgroups.first().map(|cgroup| cgroup.path.clone());
            let disk = stage.disk.as_ref().map(|disk| disk.name().to_owned());
            let is_it = |event: &Event| {
                let named = match anomaly.told_of {
                    Place::Cgroup => event.container.as_ref().map(|container| &container.cgroup) == cgroup.as_ref(),
                    Place::Host => event.container.is_none(),
                    Place::Disk => data(event)["reason_snapshot"]["device"].as_str() == disk.as_deref(),
                };
                named && event.kind() != EventKind::Capture
            };
            let found = told(stage, client, anomaly.tracer, begun, DETECTION, is_it).await?;
            let after = started.elapsed();
            if let Some(event) = found {
                let evidence = self.evidence(&event, anomaly, stage, client, begun).await?;
                stage.calm().await;
                self.show(&event, evidence.as_ref())?;
                return Ok(Fate::Caught { after });
            }
            stage.calm().await;
        }
        Ok(Fate::Missed)
    }

    /// The capture that belongs to it; `None` if there is to be none, or none came.
    async fn evidence(
        &self,
        event: &Event,
        anomaly: &Anomaly,
        stage: &mut Stage,
        client: &mut Client,
        begun: i64,
    ) -> Result<Option<Event>, error::Error> {
        if event.kind() != EventKind::Trigger || data(event)["capture"] == false {
            return Ok(None);
        }
        let of_run = |other: &Event| other.kind() == EventKind::Capture && other.run_id == event.run_id;
        told(stage, client, anomaly.tracer, begun, EVIDENCE, of_run).await
    }

    fn show(&self, event: &Event, evidence: Option<&Event>) -> io::Result<()> {
        let mut out = io::stdout().lock();
        let id = evidence.unwrap_or(event).id.as_ref().map(ToString::to_string).unwrap_or_default();
        writeln!(out, "         {}", self.style().paint(Colour::Yellow, plain(&event.summary)))?;
        writeln!(out, "         why    {}", plain(&event.explanation))?;
        if let Some(evidence) = evidence {
            writeln!(out, "         shows  {}", plain(&evidence.summary))?;
        }
        writeln!(out, "         event  {}", plain(&id))
    }

    fn sum_up(&self, fates: &[(&str, Fate)]) -> io::Result<()> {
        let mut out = io::stdout().lock();
        writeln!(out, "\n{}", self.style().paint(Colour::Bold, "Tracers"))?;
        for (tracer, fate) in fates {
            let (colour, text) = match fate {
                Fate::Caught { after } => (Colour::Green, format!("caught after {:.1} s", after.as_secs_f64())),
                Fate::Missed => (Colour::Red, "not caught".into()),
                Fate::LeftOut(why) => (Colour::Dim, format!("left out: {}", plain(why))),
            };
            writeln!(out, "  {tracer:<10}{}", self.style().paint(colour, text))?;
        }
        Ok(())
    }
}

fn data(event: &Event) -> Value {
    serde_json::from_slice(&event.data).unwrap_or_default()
}
