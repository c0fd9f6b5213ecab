//! What came of the storm, against what was told.

use std::{
    io::{self, Write},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use galen_proto::v1::{Incident, Ledger, ListIncidentsResponse};
use galen_simulate::Fleet;

use super::{super::Error, Addresses, Cause, Usage};
use crate::output::{Colour, Style};

pub(super) struct Outcome<'a> {
    /// The common and the rare one, and who told of them.
    pub(super) causes: [&'a Arc<Cause>; 2],
    pub(super) fleets: [&'a Fleet; 2],
    pub(super) incidents: ListIncidentsResponse,
    pub(super) ledger: Ledger,
    /// How long the nodes told.
    pub(super) told_for: Duration,
    /// After its first event the rare one was an incident.
    pub(super) visible: Duration,
    pub(super) usage: Usage,
    pub(super) addresses: &'a Addresses,
}

/// What a cause must have come to.
#[derive(Debug, PartialEq, Eq)]
struct Counts {
    runs: u64,
    events: u64,
    captures: u64,
    nodes: u64,
}

impl Outcome<'_> {
    pub(super) fn write(&self, out: &mut impl Write, style: Style) -> io::Result<()> {
        let [recorded, acknowledged] = [Fleet::recorded, Fleet::acknowledged].map(|of| self.sum(of));
        let captures: u64 = self.causes.iter().map(|cause| told(cause).captures).sum();
        let rate = recorded as f64 / self.told_for.as_secs_f64();
        let Ledger { observed, delivered, unaccounted, .. } = self.ledger;
        let micros = self.usage.cpu.as_secs_f64() * 1e6 / recorded.max(1) as f64;
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let (resident, peak) = (mib(self.usage.resident_bytes), mib(self.usage.peak_bytes));
        let Addresses { grpc, http } = self.addresses;
        let [common, rare] = self.causes.map(|cause| self.counted(cause, style));
        let storm = [
            ("events", format!("{recorded} sent, {acknowledged} acknowledged, {rate:.0} a second")),
            ("ledger", format!("{observed} observed, {delivered} delivered, {unaccounted} unaccounted for")),
            ("common", common),
            ("rare", rare),
            ("", format!("visible {:.2} s after its first event", self.visible.as_secs_f64())),
            ("captures", captures.to_string()),
            ("aggregator", format!("{micros:.0} µs of CPU time an event")),
            ("", format!("{resident:.0} MiB resident, {peak:.0} MiB at most")),
        ];
        let look = [
            ("page", style.paint(Colour::Green, format_args!("http://{http}/incidents"))),
            ("query", format!("galen --aggregator http://{grpc} incidents")),
            ("ledger", format!("galen --aggregator http://{grpc} ledger")),
        ];
        for (heading, lines) in [("Storm", &storm[..]), ("Look at it", &look)] {
            writeln!(out, "\n{}", style.paint(Colour::Bold, heading))?;
            lines.iter().try_for_each(|(name, text)| writeln!(out, "  {name:<12}{text}"))?;
        }
        Ok(())
    }

    /// What was told of a cause, and whether that is what was counted.
    fn counted(&self, cause: &Cause, style: Style) -> String {
        let Counts { runs, nodes, .. } = told(cause);
        let verdict = match self.wrong(cause) {
            None => style.paint(Colour::Green, "counted exactly"),
            Some(found) => style.paint(Colour::Red, found),
        };
        let plural = if nodes == 1 { "" } else { "s" };
        format!("{runs} runs on {nodes} node{plural} in {}: {verdict}", cause.workload())
    }

    /// # Errors
    /// If something differs from what was told.
    pub(super) fn check(&self) -> Result<(), Error> {
        let recorded = self.sum(Fleet::recorded);
        let Ledger { observed, delivered, unaccounted, .. } = self.ledger;
        let wrong = self.causes.iter().find_map(|cause| Some(format!("{}: {}", cause.workload(), self.wrong(cause)?)));
        let wrong = wrong
            .or_else(|| (self.incidents.total != 2).then(|| format!("{} incidents and not 2", self.incidents.total)))
            .or_else(|| {
                let adds_up = (observed, delivered, unaccounted) == (recorded, recorded, 0);
                (!adds_up).then(|| format!("the ledger does not add up to {recorded} events"))
            });
        wrong.map_or(Ok(()), |wrong| Err(Error::Inexact(wrong)))
    }

    fn sum(&self, of: fn(&Fleet) -> u64) -> u64 {
        self.fleets.iter().map(|fleet| of(fleet)).sum()
    }

    /// What was found of a cause, if that is not what was told.
    fn wrong(&self, cause: &Cause) -> Option<String> {
        let mut found = self.incidents.incidents.iter().filter(|incident| incident.workload == cause.workload());
        let (incident, others) = (found.next(), found.count());
        match incident.map(counted) {
            Some(counts) if counts == told(cause) && others == 0 => None,
            Some(counts) if others == 0 => Some(format!("counted {counts:?} where {:?} were told", told(cause))),
            Some(_) => Some(format!("{} incidents and not one", others + 1)),
            None => Some("no incident".into()),
        }
    }
}

fn told(cause: &Cause) -> Counts {
    let [runs, captures, nodes] =
        [&cause.told.runs, &cause.told.captures, &cause.told.nodes].map(|count| count.load(Ordering::Relaxed));
    Counts { runs, events: runs + captures, captures, nodes }
}

fn counted(incident: &Incident) -> Counts {
    Counts { runs: incident.runs, events: incident.events, captures: incident.captures, nodes: incident.nodes }
}
