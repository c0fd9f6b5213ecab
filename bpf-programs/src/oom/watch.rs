//! Loading the program by the best hook that the kernel has, and reading its ring.
//!
//! The ring wakes its reader at each kill: wait until [`Watch`] is readable (`AsFd`), then take all that is there.

use std::os::fd::{AsFd, BorrowedFd};

use aya::{
    Btf, Ebpf,
    maps::{Array, MapData, RingBuf},
    programs::{ProgramError, TracePoint},
};

use super::{OBJECT, Record};
use crate::{
    BadRecord, Error, Kernel, Support,
    object::{attach_btf, take_map},
};

const PROGRAM: &str = "oom";

/// Where the program hangs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// The tracepoint hands over the task of the victim.
    Task,
    /// It hands over the number of the victim only (up to 6.8).
    Pid,
    /// As `Pid`, by the classic tracepoint, which takes a mounted tracefs.
    Classic,
}

/// The loaded and attached program. Dropping it detaches.
pub struct Watch {
    hook: Hook,
    ring: RingBuf<MapData>,
    lost: Array<MapData, u64>,
    /// Owns the program and its link.
    _object: Ebpf,
}

impl Watch {
    /// # Errors
    /// No hook took the program; the error is that of the best one.
    pub fn attach(kernel: &Kernel) -> Result<Self, Error> {
        Self::attach_by(kernel, &[Hook::Task, Hook::Pid, Hook::Classic])
    }

    /// As [`Watch::attach`], by the first of these hooks that takes the program.
    ///
    /// # Errors
    /// None of the hooks took the program; the error is that of the first.
    pub fn attach_by(kernel: &Kernel, hooks: &[Hook]) -> Result<Self, Error> {
        let mut object = kernel.load(PROGRAM, OBJECT, |_| {})?;
        let hook = attach(&mut object, &kernel.btf()?, hooks)?;
        let ring = take_map(&mut object, PROGRAM, "kills")?;
        let lost = take_map(&mut object, PROGRAM, "lost")?;
        Ok(Self { hook, ring, lost, _object: object })
    }

    #[must_use]
    pub fn hook(&self) -> Hook {
        self.hook
    }

    #[must_use]
    pub fn support(&self) -> Support {
        match self.hook {
            Hook::Task => Support::Full,
            Hook::Pid | Hook::Classic => Support::Degraded(
                "this kernel tells only the pid of an OOM victim: its memory counters and cgroup are not known"
                    .to_owned(),
            ),
        }
    }

    /// The next kill; `None` when there is none yet.
    pub fn next_kill(&mut self) -> Option<Result<Record, BadRecord>> {
        self.ring.next().map(|bytes| Record::parse(&bytes))
    }

    /// Kills since the program was attached that found the ring full.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost.get(&0, 0).unwrap_or_default()
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ring.as_fd()
    }
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch").field("hook", &self.hook).finish_non_exhaustive()
    }
}

fn attach(object: &mut Ebpf, btf: &Btf, hooks: &[Hook]) -> Result<Hook, Error> {
    let mut first = None;
    for hook in hooks {
        let attached = match hook {
            Hook::Task => attach_btf(object, btf, "kill_task", "mark_victim"),
            Hook::Pid => attach_btf(object, btf, "kill_pid", "mark_victim"),
            Hook::Classic => attach_classic(object),
        };
        match attached {
            Ok(()) => return Ok(*hook),
            Err(error) => first = first.or(Some(error)),
        }
    }
    let source = first.unwrap_or(ProgramError::NotLoaded);
    Err(Error::Program { program: PROGRAM, source: Box::new(source) })
}

fn attach_classic(object: &mut Ebpf) -> Result<(), ProgramError> {
    let program: &mut TracePoint = object.program_mut("kill_classic").ok_or(ProgramError::NotLoaded)?.try_into()?;
    program.load()?;
    program.attach("oom", "mark_victim")?;
    Ok(())
}
