//! Tasks in state D: each waits in vfork for a child that only sleeps.

use std::{io, time::Duration};

use clap::Args;

use crate::{
    Again,
    error::{Context, Error},
    in_threads,
};

#[derive(Debug, Args)]
pub(crate) struct Block {
    #[arg(long, default_value_t = 1)]
    tasks: usize,
    /// Processes of a thread each, instead of threads of one.
    #[arg(long)]
    processes: bool,
}

impl Block {
    pub(crate) fn run(self, lasts: Duration, again: &Again<'_>) -> Result<(), Error> {
        if !self.processes {
            return in_threads(self.tasks, |_| wait_for_child(lasts).to(|| "make a child".into()));
        }
        let start = |_| again.command(lasts, &["block"])?.spawn().to(|| "start a process".into());
        let children: Vec<_> = (0..self.tasks).map(start).collect::<Result<_, Error>>()?;
        children.into_iter().try_for_each(|mut child| child.wait().map(drop).to(|| "wait for a process".into()))
    }
}

/// As vfork, but without shared memory: the child cannot harm its parent, which is blocked in the same way.
#[allow(unsafe_code, reason = "no safe interface makes a child that its parent waits for in state D")]
fn wait_for_child(lasts: Duration) -> io::Result<()> {
    let seconds = libc::timespec { tv_sec: lasts.as_secs().min(86_400) as libc::time_t, tv_nsec: 0 };
    // SAFETY: the child has a memory of its own and calls only async-signal-safe functions before it ends; the parent
    // goes on when it has. All pointers are null or point to locals that live until then.
    let child = unsafe {
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
        child
    };
    if child > 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
