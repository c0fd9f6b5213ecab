//! What an iteration tells.

use std::time::Duration;

use crate::{
    bytes::{BadRecord, Comm, Fields},
    layout,
};

/// What a task is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Running,
    Sleeping,
    /// It counts for the load average.
    Uninterruptible,
    Stopped,
    /// Dead, an idle kernel thread, frozen.
    Other,
}

/// One task.
#[derive(Debug, Clone, Copy)]
pub struct Task<'a> {
    /// Id of its cgroup in the unified hierarchy.
    pub unified: u64,
    /// The same in the version 1 hierarchy of the `cpu` controller, if there is one.
    pub cpu: Option<u64>,
    /// Since it last ran, to about a tick of the kernel's clock; `None` if it was not asked for or is not known.
    pub waiting: Option<Duration>,
    pub pid: u32,
    pub tid: u32,
    pub state: State,
    /// It waits for IO, by the kernel's own reckoning.
    pub iowait: bool,
    /// 0, or the negative errno of the walk.
    pub stack_error: i32,
    pub comm: Comm,
    stack: &'a [u8],
}

/// The kernel's count of tasks in uninterruptible sleep; `None` where it does not tell.
pub(super) fn head(bytes: &[u8]) -> Result<Option<u32>, BadRecord> {
    let fields = Fields::new("tasks_head", bytes, layout::TASKS__HEAD__SIZE)?;
    let counted = fields.u32(layout::TASKS__HEAD__FLAGS) as usize & layout::TASKS_COUNTED != 0;
    // While a task moves between CPUs the sum may be one too low.
    Ok(counted.then(|| u32::try_from(fields.i32(layout::TASKS__HEAD__UNINTERRUPTIBLE)).unwrap_or(0)))
}

impl<'a> Task<'a> {
    /// The first task of `bytes` and how many bytes it takes; `None` while it is not complete.
    ///
    /// # Errors
    /// Its stack is longer than any can be.
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Option<(Self, usize)>, BadRecord> {
        const NAME: &str = "tasks_task";
        let size = layout::TASKS__TASK__SIZE;
        let Ok(fields) = Fields::new(NAME, bytes, size) else { return Ok(None) };
        let found = fields.u32(layout::TASKS__TASK__STACK_BYTES) as usize;
        if found > layout::TASKS_MAX_FRAMES * 8 || !found.is_multiple_of(8) {
            return Err(BadRecord::Stack { name: NAME, found });
        }
        let Some(stack) = bytes.get(size..size + found) else { return Ok(None) };
        let flags = fields.u32(layout::TASKS__TASK__FLAGS) as usize;
        let waiting = Duration::from_nanos(fields.u64(layout::TASKS__TASK__WAITING));
        let cpu = fields.u64(layout::TASKS__TASK__CPU);
        let task = Self {
            unified: fields.u64(layout::TASKS__TASK__UNIFIED),
            cpu: (cpu != 0).then_some(cpu),
            waiting: (flags & layout::TASKS_WAITING_KNOWN != 0).then_some(waiting),
            pid: fields.u32(layout::TASKS__TASK__PID),
            tid: fields.u32(layout::TASKS__TASK__TID),
            state: match fields.u32(layout::TASKS__TASK__STATE) as usize {
                layout::TASKS_RUNNING => State::Running,
                layout::TASKS_SLEEPING => State::Sleeping,
                layout::TASKS_UNINTERRUPTIBLE => State::Uninterruptible,
                layout::TASKS_STOPPED => State::Stopped,
                _ => State::Other,
            },
            iowait: flags & layout::TASKS_IOWAIT != 0,
            stack_error: fields.i32(layout::TASKS__TASK__STACK_ERROR),
            comm: fields.comm(layout::TASKS__TASK__COMM),
            stack,
        };
        Ok(Some((task, size + found)))
    }

    /// Addresses of its kernel stack, the innermost first.
    pub fn stack(&self) -> impl ExactSizeIterator<Item = u64> + use<'a> {
        self.stack.as_chunks::<8>().0.iter().map(|frame| u64::from_ne_bytes(*frame))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(stack_bytes: u32, frames: u64) -> Vec<u8> {
        let mut bytes = vec![0; layout::TASKS__TASK__SIZE];
        let at = layout::TASKS__TASK__STACK_BYTES;
        bytes[at..at + 4].copy_from_slice(&stack_bytes.to_ne_bytes());
        bytes.extend((0..frames).flat_map(u64::to_ne_bytes));
        bytes
    }

    #[test]
    fn a_task_that_is_cut_anywhere_is_not_complete() {
        let bytes = record(16, 2);
        for length in 0..bytes.len() {
            assert!(Task::parse(&bytes[..length]).unwrap().is_none(), "{length}");
        }
        let (task, taken) = Task::parse(&bytes).unwrap().unwrap();
        assert_eq!((task.stack().collect::<Vec<_>>(), taken), (vec![0, 1], bytes.len()));
    }

    #[test]
    fn a_stack_that_cannot_be_is_refused() {
        for stack_bytes in [7, 4096, u32::MAX] {
            assert!(matches!(Task::parse(&record(stack_bytes, 600)), Err(BadRecord::Stack { .. })), "{stack_bytes}");
        }
    }

    #[test]
    fn what_the_kernel_does_not_tell_is_absent() {
        let bytes = record(0, 0);
        let (task, _) = Task::parse(&bytes).unwrap().unwrap();
        assert_eq!((task.waiting, task.cpu, task.iowait), (None, None, false));
        assert_eq!(head(&[0; layout::TASKS__HEAD__SIZE]), Ok(None));
    }
}
