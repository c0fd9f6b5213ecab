//! Many threads that do nothing.

use std::{thread, time::Duration};

use anyhow::Result;
use clap::Args;

/// Enough for a thread that only sleeps.
const STACK: usize = 16 << 10;

#[derive(Args)]
pub(super) struct Crowd {
    #[arg(long, default_value_t = 10_000)]
    threads: usize,
}

impl Crowd {
    pub(super) fn run(self, lasts: Duration) -> Result<()> {
        let mut threads = Vec::with_capacity(self.threads);
        for _ in 0..self.threads {
            threads.push(thread::Builder::new().stack_size(STACK).spawn(move || thread::sleep(lasts))?);
        }
        for thread in threads {
            thread.join().map_err(|_| anyhow::anyhow!("a sleeping thread panicked"))?;
        }
        Ok(())
    }
}
