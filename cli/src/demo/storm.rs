//! `galen demo --storm`: many nodes tell of one cause at once and a few of another beneath it, and the aggregator makes
//! two incidents of it.
//!
//! The nodes are simulated, what they tell is real: the events of bursts that an agent has caught on this machine just
//! before, or, without root, of bursts that were recorded on another. How many incidents there are, with which counts,
//! is compared with what was told; whatever differs fails the demo.

mod cause;
mod evidence;
mod outcome;
mod usage;

use std::{path::PathBuf, sync::Arc, time::Duration};

use galen_proto::v1::{GetLedgerRequest, ListIncidentsRequest};
use galen_simulate::{Fleet, Habits, Identity};
use tokio::time::{Instant, sleep};

use self::{
    cause::{Cause, Struck},
    outcome::Outcome,
    usage::Usage,
};
use super::{
    Error, Stage,
    story::{Addresses, Story, addresses, pause, start_aggregator},
};
use crate::{
    arguments::{self, Access, Listing, Output},
    client, commands, error,
};

/// Without `--for`.
pub(super) const LASTS: Duration = Duration::from_secs(60);
/// Of so many nodes one tells of the rare cause.
const RARE: u32 = 300;
/// A turn of those comes so much more seldom.
const SELDOM: u32 = 10;
/// They begin after this part of the storm.
const BENEATH: u32 = 3;
/// What the settings of each node allow.
const CAPTURES_PER_HOUR: u32 = 1;
/// Between two looks at what is to be seen at once.
const LOOK: Duration = Duration::from_millis(20);

impl Story {
    pub(super) async fn tell_storm(
        &mut self,
        stage: &mut Stage,
        programs: &[PathBuf; 2],
        storm: &arguments::Storm,
        lasts: Duration,
    ) -> Result<(), error::Error> {
        let [common, rare] = self.find_evidence(stage, programs).await?;
        let (common, rare) = (Cause::new("web", common), Cause::new("checkout", rare));
        self.step("starts an aggregator")?;
        let dir = stage.dir.path().join("storm");
        std::fs::create_dir(&dir)
            .map_err(|source| Error::Machine { what: format!("make {}", dir.display()), source })?;
        let aggregator = stage.aggregator.insert(start_aggregator(&programs[0], &dir)?);
        let pid = aggregator.id();
        let addresses = addresses(stage, &dir).await?;
        let access = Access::local(format!("http://{}", addresses.grpc));
        let mut client = client::connect(&access).await?;

        let few = storm.nodes.div_ceil(RARE);
        self.step(&format!("{} nodes connect", storm.nodes))?;
        let many = fleet(&addresses, 0..storm.nodes - few, &common).await?;
        let few = fleet(&addresses, storm.nodes - few..storm.nodes, &rare).await?;
        let before = Usage::of(pid)?;
        let every = Duration::from_secs(1) / storm.rate;
        self.step(&format!("each tells {} events a second of one cause", storm.rate))?;
        let begun = Instant::now();
        many.record(every);
        sleep(lasts / BENEATH).await;
        self.step("a few tell of another")?;
        few.record(every * SELDOM);
        let visible = visible(stage, &access, &rare).await?;
        self.step(&format!("it is an incident of its own after {:.2} s", visible.as_secs_f64()))?;
        sleep((begun + lasts).saturating_duration_since(Instant::now())).await;
        self.step("they tell no more; waits until all is acknowledged and counted")?;
        let told_for = begun.elapsed();
        tokio::try_join!(many.settle(), few.settle()).map_err(Error::from)?;
        counted(stage, &access).await?;
        let usage = Usage::of(pid)?.since(&before);

        self.step("all is counted")?;
        self.show_incidents(&access).await?;
        let request = ListIncidentsRequest { limit: 1000, ..ListIncidentsRequest::default() };
        let outcome = Outcome {
            causes: [&common, &rare],
            fleets: [&many, &few],
            incidents: client::incidents(&access).await?.list_incidents(request).await?.into_inner(),
            ledger: client.get_ledger(GetLedgerRequest::default()).await?.into_inner().total.unwrap_or_default(),
            told_for,
            visible,
            usage,
            addresses: &addresses,
        };
        outcome.write(&mut std::io::stdout().lock(), self.style())?;
        let checked = outcome.check();
        // The nodes stay connected for as long as it is looked at.
        stage.fleets.extend([many, few]);
        Ok(checked?)
    }

    /// As the command does.
    async fn show_incidents(&self, access: &Access) -> Result<(), error::Error> {
        let asked = arguments::Incidents {
            state: Vec::new(),
            tracer: None,
            workload: None,
            node: None,
            severity: None,
            limit: 1000,
            follow: false,
            listing: Listing { output: Output::Table },
        };
        self.heading("Incidents")?;
        commands::incidents::run(client::incidents(access).await?, asked).await
    }
}

async fn fleet(addresses: &Addresses, places: std::ops::Range<u32>, cause: &Arc<Cause>) -> Result<Fleet, Error> {
    let node = |place| {
        let identity = Identity { name: cause::node_name(place), dialler: None };
        (identity, Struck::new(place, Arc::clone(cause)))
    };
    let habits = Habits { captures_per_hour: CAPTURES_PER_HOUR, ..Habits::of_agents(addresses.grpc) };
    Ok(Fleet::start(habits, places.map(node)).await?)
}

/// How long after the first event of a cause there is an incident of its workload.
async fn visible(stage: &mut Stage, access: &Access, cause: &Cause) -> Result<Duration, error::Error> {
    let mut incidents = client::incidents(access).await?;
    let request = ListIncidentsRequest { workload: cause.workload(), ..ListIncidentsRequest::default() };
    loop {
        let found = incidents.list_incidents(request.clone()).await?.into_inner();
        if let (Some(first), 1..) = (cause.told.first(), found.total) {
            return Ok(first.elapsed());
        }
        stage.look()?;
        sleep(LOOK).await;
    }
}

/// Once no event of the log is left to be counted.
async fn counted(stage: &mut Stage, access: &Access) -> Result<(), error::Error> {
    let mut incidents = client::incidents(access).await?;
    while incidents.list_incidents(ListIncidentsRequest::default()).await?.into_inner().lag > 0 {
        pause(stage).await?;
    }
    Ok(())
}
