//! Memory that grows and is held: anonymous, shared, or the page cache of a file.

use std::{
    fs::File,
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
    #[arg(long)]
    bytes: Size,
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
        let steps = self.bytes.0.div_ceil(STEP as u64);
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
