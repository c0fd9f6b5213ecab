//! Where tasks in uninterruptible sleep are looked for: a BPF iterator, or procfs.

use std::{collections::HashMap, sync::Arc, time::Duration};

use galen_bpf::tasks::{Look, State, Tasks};

use super::{
    crowd::{Blocked, Crowd, Stack},
    load::HOST,
    owners::{Ids, Owners},
    walk::Walker,
};
use crate::tracer::BoxError;

pub(super) enum Source {
    Iterator(Tasks),
    Procfs(Walker),
}

/// A look that has begun.
pub(super) enum Begun {
    Iterator(Look),
    Procfs,
}

/// What the tasks of an entity are doing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct States {
    pub running: u32,
    pub sleeping: u32,
    pub stopped: u32,
}

impl Source {
    /// Begins a look. It is also the cheap question how many tasks there are: see [`Begun::total`].
    pub(super) fn begin(&mut self) -> Result<Begun, BoxError> {
        Ok(match self {
            Self::Iterator(tasks) => Begun::Iterator(tasks.blocked()?),
            Self::Procfs(_) => Begun::Procfs,
        })
    }

    pub(super) fn look(&mut self, begun: Begun, now: Duration, owners: &mut Owners) -> Result<Crowd, BoxError> {
        match (self, begun) {
            (Self::Procfs(walker), _) => Ok(walker.walk(now, owners)?),
            (Self::Iterator(_), Begun::Procfs) => Ok(Crowd::default()),
            (Self::Iterator(_), Begun::Iterator(look)) => {
                let mut crowd = Crowd::default();
                look.each(|task| {
                    if !crowd.has_room() {
                        return;
                    }
                    let stack = crowd.stack(Stack::Addresses(task.stack().collect()));
                    crowd.tasks.push(Blocked {
                        pid: task.pid,
                        tid: task.tid,
                        name: task.comm.text().into_owned(),
                        owner: owners.of_ids(Ids { unified: task.unified, cpu: task.cpu }, task.pid, task.tid),
                        waiting: task.waiting,
                        iowait: task.iowait,
                        stack,
                    });
                })?;
                Ok(crowd)
            }
        }
    }

    /// What the tasks of each of these entities are doing; `None` where that would cost too much to find out.
    pub(super) fn states(
        &mut self,
        entities: &[Arc<str>],
        owners: &mut Owners,
    ) -> Result<Option<HashMap<Arc<str>, States>>, BoxError> {
        let Self::Iterator(tasks) = self else { return Ok(None) };
        let mut states: HashMap<Arc<str>, States> =
            entities.iter().map(|entity| (Arc::clone(entity), States::default())).collect();
        let only_host = entities.iter().all(|entity| &**entity == HOST);
        tasks.everyone()?.each(|task| {
            let count = |states: &mut States| match task.state {
                State::Running => states.running += 1,
                State::Sleeping => states.sleeping += 1,
                State::Stopped => states.stopped += 1,
                State::Uninterruptible | State::Other => {}
            };
            if only_host {
                states.values_mut().for_each(count);
                return;
            }
            let owner = owners.of_ids(Ids { unified: task.unified, cpu: task.cpu }, task.pid, task.tid);
            for entity in owner.entities.iter() {
                if let Some(states) = states.get_mut(entity) {
                    count(states);
                }
            }
        })?;
        Ok(Some(states))
    }
}

impl Begun {
    /// Tasks in uninterruptible sleep on the whole machine; `None` if it takes the look to find out.
    pub(super) fn total(&self) -> Option<u32> {
        match self {
            Self::Iterator(look) => look.uninterruptible(),
            Self::Procfs => None,
        }
    }
}
