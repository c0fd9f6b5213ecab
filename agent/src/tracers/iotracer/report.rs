//! What the event of a capture says: who uses the disk, and how long requests wait.

use std::{collections::HashMap, time::Duration};

use galen_bpf::{
    Owner,
    block_io::{Direction, Phase, SLOTS, Totals, Usage},
};
use galen_proto::v1::Container;
use serde::Serialize;

use super::{disk::Disk, evidence::Evidence, settings::Settings, trigger::mebibytes};
use crate::containers::Containers;

/// Containers that are told.
const CONTAINERS: usize = 20;

/// `data` of a capture.
#[derive(Debug, Serialize)]
pub(super) struct Capture {
    device: String,
    major_num: u32,
    minor_num: u32,
    duration_seconds: f64,
    /// Whether the agent was stopped before the capture was complete.
    cut_short: bool,
    read_bytes: u64,
    write_bytes: u64,
    requests: u64,
    /// Requests that failed.
    errors: u64,
    /// Those with the most bytes first.
    processes: Vec<Process>,
    containers: Vec<Group>,
    latency: Latencies,
    in_flight: InFlight,
    lost: Lost,
    /// Evidence that this kernel does not give, and why.
    left_out: Vec<String>,
    #[serde(skip)]
    culprit: Option<Container>,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct Process {
    /// `null` if the kernel does not tell who makes a request.
    pid: Option<u32>,
    name: String,
    /// A thread of the kernel: it works for the container.
    kernel_thread: bool,
    /// Empty for the machine itself.
    container: String,
    cgroup: String,
    read_bytes: u64,
    write_bytes: u64,
    /// Share of all bytes.
    percent: f64,
    errors: u64,
    read: Option<Timing>,
    write: Option<Timing>,
    other: Option<Timing>,
}

/// How long the requests of one direction took, in seconds.
#[derive(Debug, Clone, Serialize)]
struct Timing {
    requests: u64,
    /// From the making of a request until the driver has it.
    q2d_mean_seconds: f64,
    q2d_max_seconds: f64,
    /// From there to its end.
    d2c_mean_seconds: f64,
    d2c_max_seconds: f64,
}

/// Processes of one container, or of the machine itself.
#[derive(Debug, Clone, Serialize)]
struct Group {
    /// Empty for the machine itself.
    name: String,
    id: String,
    cgroup: String,
    read_bytes: u64,
    write_bytes: u64,
    requests: u64,
    percent: f64,
}

#[derive(Debug, Serialize)]
struct Latencies {
    read: Histograms,
    write: Histograms,
    other: Histograms,
}

#[derive(Debug, Serialize)]
struct Histograms {
    q2d: Vec<Bar>,
    d2c: Vec<Bar>,
    q2c: Vec<Bar>,
}

/// Requests that took less than this, and not less than the bar before.
#[derive(Debug, Serialize)]
struct Bar {
    below_seconds: f64,
    requests: u64,
}

/// What the device had when the capture ended.
#[derive(Debug, Serialize)]
struct InFlight {
    requests: usize,
    bytes: u64,
    oldest_seconds: f64,
}

/// Requests that are not in the figures.
#[derive(Debug, Serialize)]
struct Lost {
    table_full: u64,
    begun_before: u64,
}

impl Capture {
    pub(super) async fn new(disk: &Disk, evidence: Evidence, settings: &Settings, containers: &Containers) -> Self {
        let names = Names::resolve(&evidence, containers).await;
        let total = |direction| evidence.usage.iter().map(|usage| usage.totals(direction).bytes).sum::<u64>();
        let (read_bytes, write_bytes) = (total(Direction::Read), total(Direction::Write));
        let whole = read_bytes + write_bytes;
        let mut processes: Vec<_> = evidence.usage.iter().map(|usage| process(usage, &names, whole)).collect();
        processes.sort_by_key(|process| std::cmp::Reverse(process.read_bytes + process.write_bytes));
        let groups = groups(&evidence, &names, whole);
        let culprit = groups.first().filter(|group| group.percent > 50.0 && !group.cgroup.is_empty());
        let culprit = culprit.and_then(|group| names.by_cgroup(&group.cgroup));
        processes.truncate(settings.processes);
        Self {
            device: disk.name.clone(),
            major_num: disk.major,
            minor_num: disk.minor,
            duration_seconds: seconds(evidence.lasted),
            cut_short: evidence.lasted < settings.capture,
            read_bytes,
            write_bytes,
            requests: evidence.usage.iter().map(requests).sum(),
            errors: evidence.usage.iter().map(|usage| usage.errors).sum(),
            processes,
            containers: groups,
            latency: Latencies {
                read: histograms(&evidence, Direction::Read),
                write: histograms(&evidence, Direction::Write),
                other: histograms(&evidence, Direction::Other),
            },
            in_flight: InFlight {
                requests: evidence.flights.len(),
                bytes: evidence.flights.iter().map(|flight| flight.bytes).sum(),
                oldest_seconds: evidence.flights.iter().map(|flight| seconds(flight.age)).fold(0.0, f64::max),
            },
            lost: Lost {
                table_full: evidence.lost.users_full + evidence.lost.flights_full,
                begun_before: evidence.lost.begun_before,
            },
            left_out: evidence.left_out,
            culprit,
        }
    }

    /// The container that most of the bytes are of.
    pub(super) fn culprit(&self) -> Option<Container> {
        self.culprit.clone()
    }

    /// Who, where, how much.
    pub(super) fn summary(&self) -> String {
        let all = format!(
            "{}: {} read and {} written in {:.0} s",
            self.device,
            mebibytes(self.read_bytes as f64),
            mebibytes(self.write_bytes as f64),
            self.duration_seconds
        );
        let Some(first) = self.processes.first() else { return format!("{all}, by nobody that was seen") };
        let pid = first.pid.map(|pid| format!(" ({pid})")).unwrap_or_default();
        let place = if first.container.is_empty() { String::new() } else { format!(" in {}", first.container) };
        format!("{all}, {:.0}% by {}{pid}{place}", first.percent, first.name)
    }
}

/// Whom cgroups belong to.
struct Names {
    by_owner: HashMap<Owner, Container>,
}

impl Names {
    async fn resolve(evidence: &Evidence, containers: &Containers) -> Self {
        let mut by_owner = HashMap::new();
        for owner in evidence.usage.iter().filter_map(|usage| usage.user.owner) {
            if by_owner.contains_key(&owner) {
                continue;
            }
            let container = match evidence.cgroups.get(&owner) {
                Some(path) => containers.resolve(path).await,
                None => {
                    let name = format!("a cgroup that is gone ({})", owner.cgroup);
                    Container { name: name.clone(), cgroup: name, ..Default::default() }
                }
            };
            by_owner.insert(owner, container);
        }
        Self { by_owner }
    }

    fn get(&self, owner: Option<Owner>) -> Option<&Container> {
        self.by_owner.get(&owner?)
    }

    fn by_cgroup(&self, cgroup: &str) -> Option<Container> {
        self.by_owner.values().find(|container| container.cgroup == cgroup).cloned()
    }
}

fn process(usage: &Usage, names: &Names, whole: u64) -> Process {
    let (read, write) = (usage.totals(Direction::Read), usage.totals(Direction::Write));
    let container = names.get(usage.user.owner);
    Process {
        pid: usage.user.pid,
        name: usage.user.comm.text().into_owned(),
        kernel_thread: usage.user.is_kernel_thread,
        container: container.map(|container| container.name.clone()).unwrap_or_default(),
        cgroup: container.map(|container| container.cgroup.clone()).unwrap_or_default(),
        read_bytes: read.bytes,
        write_bytes: write.bytes,
        percent: percent(read.bytes + write.bytes, whole),
        errors: usage.errors,
        read: timing(read),
        write: timing(write),
        other: timing(usage.totals(Direction::Other)),
    }
}

fn groups(evidence: &Evidence, names: &Names, whole: u64) -> Vec<Group> {
    let mut groups: HashMap<&str, Group> = HashMap::new();
    for usage in &evidence.usage {
        let container = names.get(usage.user.owner);
        let cgroup = container.map_or("", |container| container.cgroup.as_str());
        let group = groups.entry(cgroup).or_insert_with(|| Group {
            name: container.map(|container| container.name.clone()).unwrap_or_default(),
            id: container.map(|container| container.id.clone()).unwrap_or_default(),
            cgroup: cgroup.to_owned(),
            read_bytes: 0,
            write_bytes: 0,
            requests: 0,
            percent: 0.0,
        });
        group.read_bytes += usage.totals(Direction::Read).bytes;
        group.write_bytes += usage.totals(Direction::Write).bytes;
        group.requests += requests(usage);
        group.percent = percent(group.read_bytes + group.write_bytes, whole);
    }
    let mut groups: Vec<_> = groups.into_values().collect();
    groups.sort_by_key(|group| std::cmp::Reverse(group.read_bytes + group.write_bytes));
    groups.truncate(CONTAINERS);
    groups
}

fn requests(usage: &Usage) -> u64 {
    Direction::ALL.iter().map(|direction| usage.totals(*direction).requests).sum()
}

/// `None` without a request.
fn timing(totals: &Totals) -> Option<Timing> {
    let requests = u32::try_from(totals.requests).ok()?;
    let mean = |sum: Duration| sum.checked_div(requests).map(seconds);
    Some(Timing {
        requests: totals.requests,
        q2d_mean_seconds: mean(totals.queued)?,
        q2d_max_seconds: seconds(totals.queued_max),
        d2c_mean_seconds: mean(totals.device)?,
        d2c_max_seconds: seconds(totals.device_max),
    })
}

fn histograms(evidence: &Evidence, direction: Direction) -> Histograms {
    let bars = |phase| {
        let slots = evidence.histograms.slots(direction, phase).iter().zip(0..SLOTS as i32);
        let bar = |(requests, slot): (&u64, i32)| Bar { below_seconds: 2f64.powi(slot + 1) / 1e6, requests: *requests };
        slots.filter(|(requests, _)| **requests > 0).map(bar).collect()
    };
    Histograms { q2d: bars(Phase::Queued), d2c: bars(Phase::Device), q2c: bars(Phase::Total) }
}

fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { (10_000.0 * part as f64 / whole as f64).round() / 100.0 }
}

/// To the microsecond.
fn seconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e6
}
