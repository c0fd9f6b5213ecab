//! Many threads that do nothing.

use std::{thread, time::Duration};

use clap::Args;

use crate::error::{Context, Error};

/// Enough for a thread that only sleeps.
const STACK: usize = 16 << 10;

#[derive(Debug, Args)]
pub(crate) struct Crowd {
    #[arg(long, default_value_t = 10_000)]
    threads: usize,
}

impl Crowd {
    pub(crate) fn run(self, lasts: Duration) -> Result<(), Error> {
        let start = |_| thread::Builder::new().stack_size(STACK).spawn(move || thread::sleep(lasts));
        let threads = (0..self.threads).map(start).collect::<Result<Vec<_>, _>>().to(|| "start a thread".into())?;
        for thread in threads {
            // To sleep does not panic.
            let _ = thread.join();
        }
        Ok(())
    }
}
