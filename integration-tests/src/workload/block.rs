//! Tasks in state D: each waits in vfork for a child that only sleeps.

use std::{process::Command, thread, time::Duration};

use anyhow::{Context, Result, ensure};
use clap::Args;
use galen_runtime::Span;

#[derive(Args)]
pub(super) struct Block {
    #[arg(long, default_value_t = 1)]
    tasks: usize,
    /// Processes of a thread each, instead of threads of one.
    #[arg(long)]
    processes: bool,
}

impl Block {
    pub(super) fn run(self, lasts: Duration) -> Result<()> {
        if self.processes {
            return self.in_processes(lasts);
        }
        let waiting: Vec<_> = (0..self.tasks).map(|_| thread::spawn(move || wait_for_child(lasts))).collect();
        for thread in waiting {
            let waited = thread.join().map_err(|_| anyhow::anyhow!("a waiting thread panicked"))?;
            ensure!(waited, "clone failed: {}", std::io::Error::last_os_error());
        }
        Ok(())
    }

    fn in_processes(&self, lasts: Duration) -> Result<()> {
        let (own, lasts) = (std::env::current_exe()?, format!("--lasts={}", Span(lasts)));
        let start = |_| Command::new(&own).args([&lasts, "block"]).spawn().context("failed to start a process");
        let children: Vec<_> = (0..self.tasks).map(start).collect::<Result<_>>()?;
        children.into_iter().try_for_each(|mut child| child.wait().map(drop)).map_err(Into::into)
    }
}

/// As vfork, but without shared memory: the child cannot harm its parent, which is blocked in the same way.
#[allow(unsafe_code, reason = "no safe interface makes a child that its parent waits for in state D")]
fn wait_for_child(lasts: Duration) -> bool {
    let seconds = libc::timespec { tv_sec: lasts.as_secs().min(86_400) as libc::time_t, tv_nsec: 0 };
    // SAFETY: the child has a memory of its own and calls only async-signal-safe functions before it ends; the parent
    // goes on when it has. All pointers are null or point to locals that live until then.
    unsafe {
        let child = libc::syscall(libc::SYS_clone, libc::CLONE_VFORK | libc::SIGCHLD, 0, 0, 0, 0);
        if child == 0 {
            // A child without its parent would be left behind.
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            libc::nanosleep(&raw const seconds, std::ptr::null_mut());
            libc::_exit(0);
        }
        if child > 0 {
            libc::waitpid(child as libc::pid_t, std::ptr::null_mut(), 0);
        }
        child > 0
    }
}
