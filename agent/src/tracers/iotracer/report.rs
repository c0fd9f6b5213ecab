//! What the event of a capture says.

use std::{io, io::Write};

use flate2::{Compression, write::GzEncoder};
use galen_bpf::block_io::Direction;
use galen_proto::v1::{Attachment, Container};
use serde::Serialize;

use super::{
    disk::Disk,
    evidence::{Evidence, LONG_WAIT, LONG_WAITS},
    latency::{Latencies, seconds},
    names::Names,
    settings::Settings,
    trigger::mebibytes,
    waits::{LongWait, Wait, long_waits, waits},
    who::{Group, User, bytes, groups, requests, users},
};
use crate::containers::Containers;

/// Containers, and places where tasks waited, that are told; attachments hold all.
const CONTAINERS: usize = 20;
const WAITS: usize = 10;

/// `data` of a capture.
#[derive(Debug, Serialize)]
pub(super) struct Capture {
    device: String,
    major_num: u32,
    minor_num: u32,
    duration_seconds: f64,
    /// Whether the agent was stopped before the capture was complete.
    cut_short: bool,
    /// Why it was shorter than the setting.
    #[serde(skip_serializing_if = "Option::is_none")]
    reduced_because: Option<String>,
    read_bytes: u64,
    write_bytes: u64,
    requests: u64,
    /// Requests that failed.
    errors: u64,
    /// Those with the most bytes first.
    processes: Vec<User>,
    containers: Vec<Group>,
    /// `null` if requests were left out.
    latency: Option<Latencies>,
    in_flight: InFlight,
    io_waits: IoWaits,
    lost: Lost,
    /// Evidence that this kernel does not give, and why.
    left_out: Vec<String>,
}

/// What the device had when the capture ended.
#[derive(Debug, Serialize)]
struct InFlight {
    requests: usize,
    bytes: u64,
    oldest_seconds: f64,
}

/// Waits for IO of the whole machine.
#[derive(Debug, Serialize)]
struct IoWaits {
    /// Waits of 100 ms or more that ended.
    long: u64,
    /// The newest of these and those that last, the longest first.
    longest: Vec<LongWait>,
    /// By process and place, the longest altogether first.
    by_place: Vec<Wait>,
}

/// What is not in the figures.
#[derive(Debug, Serialize)]
struct Lost {
    table_full: u64,
    ring_full: u64,
    bad_record: u64,
    /// Waits for IO whose place is not known.
    no_stack: u64,
    /// Not a loss: requests that began before the capture.
    begun_before: u64,
}

/// All of a capture.
pub(super) struct Report {
    pub data: Capture,
    pub attachments: Vec<Attachment>,
    /// The container that most of the bytes are of.
    pub culprit: Option<Container>,
}

impl Report {
    /// # Errors
    /// A table could not be written as JSON.
    pub(super) async fn new(
        disk: &Disk,
        evidence: Evidence,
        reduced: Option<String>,
        settings: &Settings,
        containers: &Containers,
    ) -> io::Result<Self> {
        let names = Names::resolve(&evidence, containers).await;
        let (mut users, mut groups, mut waits) =
            (users(&evidence, &names), groups(&evidence, &names), waits(&evidence, &names));
        let attachments = vec![table("processes.json", &users)?, table("io_waits.json", &waits)?];
        users.truncate(settings.processes);
        users.iter_mut().for_each(|user| user.files.truncate(settings.files));
        groups.truncate(CONTAINERS);
        waits.truncate(WAITS);
        let culprit = groups.first().filter(|group| group.percent > 50.0 && !group.place.cgroup.is_empty());
        let culprit = culprit.and_then(|group| names.container(&group.place.cgroup)).cloned();
        let longest = long_waits(&evidence, &names, LONG_WAIT.as_secs_f64(), LONG_WAITS);
        let data = Capture {
            device: disk.name.clone(),
            major_num: disk.major,
            minor_num: disk.minor,
            duration_seconds: seconds(evidence.lasted),
            cut_short: reduced.is_none() && evidence.lasted < settings.capture,
            reduced_because: reduced,
            read_bytes: bytes(&evidence, Direction::Read),
            write_bytes: bytes(&evidence, Direction::Write),
            requests: evidence.usage.iter().map(requests).sum(),
            errors: evidence.usage.iter().map(|usage| usage.errors).sum(),
            processes: users,
            containers: groups,
            latency: evidence.histograms.as_ref().map(Latencies::of),
            in_flight: InFlight {
                requests: evidence.flights.len(),
                bytes: evidence.flights.iter().map(|flight| flight.bytes).sum(),
                oldest_seconds: evidence.flights.iter().map(|flight| seconds(flight.age)).fold(0.0, f64::max),
            },
            io_waits: IoWaits { long: evidence.stalls_seen, longest, by_place: waits },
            lost: Lost {
                table_full: evidence.lost.table_full,
                ring_full: evidence.lost.ring_full,
                bad_record: evidence.lost.bad_record,
                no_stack: evidence.lost.no_stack,
                begun_before: evidence.lost.begun_before,
            },
            left_out: evidence.left_out,
        };
        Ok(Self { data, attachments, culprit })
    }

    /// Who, where, how much.
    pub(super) fn summary(&self) -> String {
        let data = &self.data;
        let all = format!(
            "{}: {} read and {} written in {:.0} s",
            data.device,
            mebibytes(data.read_bytes as f64),
            mebibytes(data.write_bytes as f64),
            data.duration_seconds
        );
        let Some(first) = data.processes.first() else { return format!("{all}, by nobody that was seen") };
        let pid = first.pid.map(|pid| format!(" ({pid})")).unwrap_or_default();
        let container = &first.place.container;
        let place = if container.is_empty() { String::new() } else { format!(" in {container}") };
        format!("{all}, {:.0}% by {}{pid}{place}", first.percent, first.name)
    }
}

/// Compressed, as tables repeat themselves.
fn table(name: &str, rows: &impl Serialize) -> io::Result<Attachment> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::new(5));
    gzip.write_all(&serde_json::to_vec(rows)?)?;
    Ok(Attachment {
        name: name.into(),
        media_type: "application/json".into(),
        encoding: "gzip".into(),
        content: gzip.finish()?.into(),
    })
}
