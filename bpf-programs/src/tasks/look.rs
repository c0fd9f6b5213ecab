//! Looking at the tasks.
//!
//! A [`Look`] is one iteration. The kernel goes on with it as far as it is read, and its beginning is already read:
//! dropping a look that has nothing to show, because [`Look::uninterruptible`] is 0, costs no more than opening it did.

use std::{
    fs::File,
    io::{ErrorKind, Read},
};

use aya::{Ebpf, programs::Iter};

use super::{OBJECT, Task, record};
use crate::{BadRecord, Error, Kernel, layout};

const PROGRAM: &str = "tasks";
/// The kernel hands out 8 pages at most.
const READ: usize = 32 << 10;

/// The loaded programs. Nothing runs in the kernel but while a [`Look`] is read.
#[derive(Debug)]
pub struct Tasks(Ebpf);

/// One iteration.
#[derive(Debug)]
pub struct Look {
    uninterruptible: Option<u32>,
    rest: File,
}

impl Tasks {
    /// # Errors
    /// The kernel has no task iterators (they came with 5.8, stacks of tasks with 5.9) or refuses the programs.
    pub fn load(kernel: &Kernel) -> Result<Self, Error> {
        let cpus = aya::util::nr_cpus().map_or(1, |cpus| u32::try_from(cpus).unwrap_or(u32::MAX));
        let offsets = kernel.per_cpu_offsets();
        let mut object = kernel.load(PROGRAM, OBJECT, |loader| {
            loader.override_global("cpus", &cpus, true).override_global("per_cpu_offsets", &offsets, true);
        })?;
        let btf = kernel.btf()?;
        for name in ["blocked", "everyone"] {
            program(&mut object, name)?.load("task", &btf).map_err(refused)?;
        }
        Ok(Self(object))
    }

    /// At the tasks in uninterruptible sleep, with their stacks and how long they have been waiting.
    ///
    /// # Errors
    /// The kernel cannot begin an iteration.
    pub fn blocked(&mut self) -> Result<Look, Error> {
        self.look("blocked")
    }

    /// At every task, without stacks.
    ///
    /// # Errors
    /// The kernel cannot begin an iteration.
    pub fn everyone(&mut self) -> Result<Look, Error> {
        self.look("everyone")
    }

    fn look(&mut self, name: &str) -> Result<Look, Error> {
        let program = program(&mut self.0, name)?;
        let link = program.attach().and_then(|link| program.take_link(link)).map_err(refused)?;
        let mut rest = link.into_file().map_err(|source| Error::Link { program: PROGRAM, source: Box::new(source) })?;
        let mut bytes = [0; layout::TASKS__HEAD__SIZE];
        rest.read_exact(&mut bytes).map_err(|source| Error::Read { program: PROGRAM, source })?;
        Ok(Look { uninterruptible: record::head(&bytes)?, rest })
    }
}

impl Look {
    /// How many tasks are in uninterruptible sleep, as the kernel counts them for its load average; `None` where it
    /// does not tell.
    #[must_use]
    pub fn uninterruptible(&self) -> Option<u32> {
        self.uninterruptible
    }

    /// Goes on to the end of the iteration.
    ///
    /// # Errors
    /// The kernel broke off, or a record is not what the header says.
    pub fn each(mut self, mut see: impl FnMut(Task<'_>)) -> Result<(), Error> {
        let mut bytes = vec![0; READ];
        let mut filled = 0;
        loop {
            let read = match self.rest.read(&mut bytes[filled..]) {
                Ok(0) => break,
                Ok(read) => read,
                // The kernel lets go after a million tasks that had nothing to tell.
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => continue,
                Err(source) => return Err(Error::Read { program: PROGRAM, source }),
            };
            filled += read;
            let mut at = 0;
            while let Some((task, taken)) = Task::parse(&bytes[at..filled])? {
                see(task);
                at += taken;
            }
            bytes.copy_within(at..filled, 0);
            filled -= at;
        }
        match filled {
            0 => Ok(()),
            found => Err(BadRecord::Short { name: "tasks_task", found, wanted: layout::TASKS__TASK__SIZE }.into()),
        }
    }
}

fn program<'a>(object: &'a mut Ebpf, name: &str) -> Result<&'a mut Iter, Error> {
    let program = object.program_mut(name).ok_or(aya::programs::ProgramError::NotLoaded).map_err(refused)?;
    program.try_into().map_err(refused)
}

fn refused(source: aya::programs::ProgramError) -> Error {
    Error::Program { program: PROGRAM, source: Box::new(source) }
}
