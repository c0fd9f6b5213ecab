//! Memory that grows and is held: anonymous, shared, or the page cache of a file.

use std::{
    fs::{self, File},
    io::Write,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use clap::{Args, ValueEnum};
use galen_runtime::Size;
use rustix::fs::{MemfdFlags, memfd_create};

use crate::error::{Context, Error};

const STEP: usize = 1 << 20;

#[derive(Debug, Args)]
pub(crate) struct Grow {
    #[arg(long, required_unless_present = "percent_of_used")]
    bytes: Option<Size>,
    /// Instead of bytes, so much of what the machine holds of such memory already, but no less than a twentieth of all
    /// its memory.
    #[arg(long, conflicts_with = "bytes")]
    percent_of_used: Option<u8>,
    /// Spread over this time; none: as fast as it goes.
    #[arg(long, default_value_t = 0.0)]
    over_seconds: f64,
    #[arg(long, value_enum, default_value = "anon")]
    kind: Kind,
    /// Of `file`; it stays.
    #[arg(long, required_if_eq("kind", "file"))]
    file: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Kind {
    Anon,
    File,
    Shmem,
}

impl Grow {
    pub(crate) fn run(self, lasts: Duration) -> Result<(), Error> {
        let start = Instant::now();
        let bytes = match (self.percent_of_used, self.bytes) {
            (Some(percent), _) => Memory::read()?.part(percent),
            (None, bytes) => bytes.map_or(0, |bytes| bytes.0),
        };
        let steps = bytes.div_ceil(STEP as u64);
        let pause = Duration::from_secs_f64(self.over_seconds / steps.max(1) as f64);
        let mut held = Vec::new();
        let mut file = match self.kind {
            Kind::Anon => None,
            Kind::File => Some(File::create(self.file.unwrap_or_default()).to(|| "make a file".into())?),
            Kind::Shmem => Some(File::from(memfd_create("grow", MemfdFlags::CLOEXEC).to(|| "make a memfd".into())?)),
        };
        for _ in 0..steps {
            match &mut file {
                Some(file) => file.write_all(&[1; STEP]).to(|| "write".into())?,
                // Written to, so that each page is there.
                None => held.push(vec![1_u8; STEP]),
            }
            thread::sleep(pause);
        }
        thread::sleep(lasts.saturating_sub(start.elapsed()));
        std::hint::black_box(&held);
        Ok(())
    }
}

/// Of the machine, in bytes.
struct Memory {
    total: u64,
    /// Anonymous and shared.
    held: u64,
}

impl Memory {
    fn read() -> Result<Self, Error> {
        let text = fs::read_to_string("/proc/meminfo").to(|| "read /proc/meminfo".into())?;
        let bytes = |key: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(key));
            line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok()).unwrap_or(0) << 10
        };
        Ok(Self { total: bytes("MemTotal:"), held: bytes("Active(anon):") + bytes("Inactive(anon):") })
    }

    /// On a machine that does nothing, what is held is too little to be noticed.
    fn part(&self, percent: u8) -> u64 {
        (self.held / 100 * u64::from(percent)).max(self.total / 20)
    }
}
