//! Reading and writing a disk, around and around.

use std::{
    fs::File,
    io::{ErrorKind, Read, Seek, SeekFrom, Write},
    os::unix::fs::OpenOptionsExt,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use clap::{Args, ValueEnum};
use galen_runtime::Size;
use rustix::fs::{Advice, OFlags, fadvise, syncfs};

use crate::{
    error::{Context, Error},
    in_threads,
};

/// Direct requests must be at such an address and of such a size.
const ALIGNMENT: usize = 4096;

#[derive(Debug, Args)]
pub(crate) struct Io {
    #[arg(value_enum)]
    way: Way,
    /// A device, or a file; each thread but the first has one of its own, with its number at the end.
    #[arg(long)]
    file: PathBuf,
    /// Past the page cache.
    #[arg(long)]
    direct: bool,
    #[arg(long, default_value = "64KiB")]
    block: Size,
    /// Where a round ends; a device may end before.
    #[arg(long, default_value = "16MiB")]
    round: Size,
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Rest this long after each request.
    #[arg(long, default_value_t = 0)]
    rest_millis: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, ValueEnum)]
enum Way {
    Read,
    Write,
}

impl Io {
    pub(crate) fn run(self, lasts: Duration) -> Result<(), Error> {
        let end = Instant::now() + lasts;
        in_threads(self.threads, |place| self.worker(place, end))
    }

    fn worker(&self, place: usize, end: Instant) -> Result<(), Error> {
        let mut file = self.open(place).to(|| format!("open {}", self.file.display()))?;
        let block = (self.block.0 as usize).next_multiple_of(ALIGNMENT);
        let mut buffer = vec![1_u8; block + ALIGNMENT];
        let skip = buffer.as_ptr().align_offset(ALIGNMENT);
        let buffer = &mut buffer[skip..skip + block];
        let mut done = 0;
        while Instant::now() < end {
            let moved = match self.way {
                Way::Read => file.read(buffer),
                Way::Write => file.write(buffer),
            };
            let moved = match moved {
                Err(error) if error.kind() == ErrorKind::StorageFull => 0,
                moved => moved.to(|| format!("read or write {}", self.file.display()))?,
            };
            done += moved as u64;
            if moved == 0 || done >= self.round.0 {
                self.begin_anew(&mut file)?;
                done = 0;
            }
            thread::sleep(Duration::from_millis(self.rest_millis));
        }
        Ok(())
    }

    /// What was written goes to the disk, by the kernel's threads; what was read is read from there again.
    fn begin_anew(&self, file: &mut File) -> Result<(), Error> {
        let done = match self.way {
            _ if self.direct => Ok(()),
            Way::Write => syncfs(&*file),
            Way::Read => fadvise(&*file, 0, None, Advice::DontNeed),
        };
        done.to(|| format!("begin anew with {}", self.file.display()))?;
        file.seek(SeekFrom::Start(0)).map(drop).to(|| "go back to where a file begins".into())
    }

    fn open(&self, place: usize) -> std::io::Result<File> {
        let mut path = self.file.clone().into_os_string();
        if place > 0 && !self.file.starts_with("/dev") {
            path.push(place.to_string());
        }
        let flags = if self.direct { OFlags::DIRECT } else { OFlags::empty() };
        let write = self.way == Way::Write;
        let is_new = write && !self.file.starts_with("/dev");
        File::options().read(!write).write(write).create(is_new).custom_flags(flags.bits().cast_signed()).open(path)
    }
}
