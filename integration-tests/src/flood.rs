//! A tracer that records without pause: the load of the tests. Each event has a number and bytes that follow from it,
//! so that any event that is found can be checked.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    time::Duration,
};

use galen_agent::{
    Factory, Tracer, TracerSet,
    host::Environment,
    recorder::{Record, RunId},
    tracer::{BoxError, Context, Outcome, RawSettings, Support},
};
use galen_proto::v1::{Event, EventKind, Severity, SuppressionReason, Times};
use prost::Message;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::time::{MissedTickBehavior, interval};

/// Between two helpings of events.
const PACE: Duration = Duration::from_millis(10);
/// Bytes of JSON that bring an event to about 1 KiB.
const FILLER: usize = 880;

/// What an event of the flood carries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Data {
    pub number: u64,
    /// The process that recorded it.
    pub pid: u32,
    pub filler: String,
}

impl Data {
    pub fn new(number: u64, pid: u32) -> Self {
        let mut random = fastrand::Rng::with_seed(number ^ u64::from(pid) << 32);
        Self { number, pid, filler: (0..FILLER).map(|_| random.alphanumeric()).collect() }
    }

    /// Whether it is, byte for byte, what was recorded under this number.
    pub fn is_intact(&self) -> bool {
        *self == Self::new(self.number, self.pid)
    }
}

/// `[tracers.flood]`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Raw {
    pub enabled: bool,
    /// Events every 10 ms.
    pub helping: u32,
    /// First number.
    pub first: u64,
    /// Observations every 10 ms that are left out, as if they had been told a short time ago.
    pub left_out: u32,
    /// Directory with a file a process that says how much it has observed; none if empty.
    pub tally: PathBuf,
}

impl Default for Raw {
    fn default() -> Self {
        Self { enabled: true, helping: 10, first: 0, left_out: 0, tally: PathBuf::new() }
    }
}

impl RawSettings for Raw {
    fn enabled(&self) -> bool {
        self.enabled
    }
}

pub struct Flood(Raw);

impl Tracer for Flood {
    const NAME: &'static str = "flood";
    const RESTART: Duration = Duration::from_secs(1);

    type Raw = Raw;
    type Settings = Raw;

    fn new(settings: Raw) -> Self {
        Self(settings)
    }

    fn support(_settings: &Raw, _environment: &Environment) -> Support {
        Support::Full
    }

    async fn run(self, context: Context) -> Result<Outcome, BoxError> {
        let (run, pid) = (RunId::new(), std::process::id());
        let mut pace = interval(PACE);
        pace.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut number = self.0.first;
        let mut tally = Tally::open(&self.0.tally, pid)?;
        loop {
            pace.tick().await;
            for _ in 0..self.0.left_out {
                tally.raise()?;
                context.suppressed(SuppressionReason::Cooldown);
            }
            for _ in 0..self.0.helping {
                tally.raise()?;
                context.record(Record {
                    run,
                    kind: EventKind::Event,
                    severity: Severity::Info,
                    summary: format!("number {number} of the flood"),
                    explanation: String::new(),
                    container: None,
                    observed: context.clock.now(),
                    data: Data::new(number, pid),
                    attachments: Vec::new(),
                })?;
                number += 1;
            }
        }
    }
}

/// How much a process has observed, counted before it is told: what is in the file survives a kill.
struct Tally {
    file: Option<File>,
    count: u64,
}

impl Tally {
    fn open(dir: &Path, pid: u32) -> io::Result<Self> {
        if dir.as_os_str().is_empty() {
            return Ok(Self { file: None, count: 0 });
        }
        std::fs::create_dir_all(dir)?;
        let file =
            File::options().create(true).write(true).read(true).truncate(false).open(dir.join(pid.to_string()))?;
        let mut before = [0; 8];
        let known = file.read_exact_at(&mut before, 0).is_ok();
        Ok(Self { file: Some(file), count: if known { u64::from_le_bytes(before) } else { 0 } })
    }

    fn raise(&mut self) -> io::Result<()> {
        self.count += 1;
        self.file.as_ref().map_or(Ok(()), |file| file.write_all_at(&self.count.to_le_bytes(), 0))
    }
}

/// What all processes of an agent have observed, as their files in `dir` say.
pub fn observed(dir: &Path) -> io::Result<u64> {
    let mut sum = 0;
    for file in std::fs::read_dir(dir)? {
        let bytes = std::fs::read(file?.path())?;
        sum += bytes.try_into().map_or(0, u64::from_le_bytes);
    }
    Ok(sum)
}

/// The flood alone.
pub struct OnlyFlood;

impl TracerSet for OnlyFlood {
    fn factories() -> Vec<Factory> {
        vec![Factory::of::<Flood>()]
    }
}

/// An encoded event of about 1 KiB, as an agent would record it.
pub fn event(number: u64) -> Vec<u8> {
    let data = serde_json::to_vec(&Data::new(number, 0)).unwrap_or_default();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_nanos() as i64;
    let event = Event {
        tracer: Flood::NAME.to_owned(),
        kind: EventKind::Event.into(),
        severity: Severity::Info.into(),
        summary: format!("number {number} of the flood"),
        times: Some(Times { observed_boot_nanos: 1, observed_unix_nanos: now, recorded_unix_nanos: now }),
        data: data.into(),
        ..Default::default()
    };
    event.encode_to_vec()
}
