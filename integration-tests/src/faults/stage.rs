//! Where a case happens: its cgroups, its directory and its loads, gone with the handle.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result};
use galen_provoke::{Cgroup, Disk, Shape};
use tempfile::TempDir;

use super::{Case, Load};
use crate::process::{Process, program};

pub(super) struct Stage {
    /// Path of the cgroup that holds all others.
    pub(super) root: String,
    /// Before the loads, which do not end while they wait for one.
    disks: BTreeMap<String, Disk>,
    /// By their place in the case. Before the cgroups, which can be removed only when they are empty.
    loads: Vec<Option<Running>>,
    /// Children first, so that they are removed first.
    cgroups: Vec<(String, Cgroup)>,
    /// Last, as all else is in it.
    dir: TempDir,
}

struct Running {
    began: i64,
    process: Process,
}

#[derive(Clone, Copy)]
pub(super) struct Moment {
    pub(super) instant: Instant,
    pub(super) unix_nanos: i64,
}

impl Moment {
    pub(super) fn now() -> Result<Self> {
        let unix_nanos = SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos().try_into()?;
        Ok(Self { instant: Instant::now(), unix_nanos })
    }
}

impl Stage {
    pub(super) fn set(case: &Case) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix(&format!("galen-fault-{}-", case.name)).tempdir()?;
        // A name of its own each time: who was told is left alone for a while.
        let root = format!("/{}", dir.path().file_name().unwrap_or_default().to_string_lossy());
        let loads = case.loads.iter().map(|_| None).collect();
        let mut stage = Self { root: root.clone(), disks: BTreeMap::new(), loads, cgroups: Vec::new(), dir };
        if !case.cgroups.is_empty() {
            let cgroup = Cgroup::everywhere(&root)?;
            // What a case may use it gets, however busy the machine is.
            cgroup.prefer()?;
            stage.cgroups.insert(0, (String::new(), cgroup));
        }
        // The map is in order, so that parents come before their children.
        for (name, limits) in &case.cgroups {
            let cgroup = Cgroup::everywhere(&format!("{root}/{name}"))?;
            if let Some(cpus) = limits.cpus {
                cgroup.limit_cpus(cpus)?;
            }
            if let Some(memory) = limits.memory {
                cgroup.limit_memory(memory.0)?;
            }
            stage.cgroups.insert(0, (name.clone(), cgroup));
        }
        let folders: Vec<_> = stage.cgroups.iter().flat_map(|(_, cgroup)| cgroup.folders.clone()).collect();
        for (name, medium) in &case.disks {
            let shape = Shape {
                bytes: medium.bytes.0,
                bytes_a_second: medium.bytes_a_second.map_or(0, |bytes| bytes.0),
                filesystem: medium.filesystem || medium.frozen,
                frozen: medium.frozen,
            };
            let disk = Disk::make(&stage.dir.path().join(name), shape, &folders)?;
            stage.disks.insert(name.clone(), disk);
        }
        Ok(stage)
    }

    /// Begins what is due `since` the case began, and removes cgroups that are to vanish with their loads.
    pub(super) fn go_on(&mut self, case: &Case, since: Duration) -> Result<()> {
        for (place, load) in case.loads.iter().enumerate() {
            if self.loads[place].is_none() && since >= load.after.0 {
                let (began, process) = (Moment::now()?.unix_nanos, self.launch(case, load)?);
                self.loads[place] = Some(Running { began, process });
            }
        }
        for (name, _) in case.cgroups.iter().filter(|(_, limits)| limits.vanishes) {
            let of_it = case.loads.iter().zip(&mut self.loads).filter(|(load, _)| load.cgroup.as_ref() == Some(name));
            let mut ended = true;
            for (_, running) in of_it {
                ended &= match running {
                    Some(running) => running.process.ended()?.is_some(),
                    None => false,
                };
            }
            if ended {
                self.cgroups.retain(|(known, _)| known != name);
            }
        }
        Ok(())
    }

    fn launch(&self, case: &Case, load: &Load) -> Result<Process> {
        let mut arguments = vec![format!("--lasts={}", load.lasts.unwrap_or(case.lasts))];
        if let Some(name) = &load.cgroup {
            let (_, cgroup) = self.cgroups.iter().find(|(known, _)| known == name).context("the cgroup is gone")?;
            arguments.extend(cgroup.folders.iter().map(|folder| format!("--cgroup={}", folder.display())));
        }
        arguments.extend(load.does.iter().map(|argument| self.with_paths(case, argument)));
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        Process::start(&program("galen-fault")?, &arguments, self.dir.path().join("load.log"))
    }

    fn with_paths(&self, case: &Case, argument: &str) -> String {
        let mut argument = argument.replace("{dir}", &self.dir.path().to_string_lossy());
        for (name, disk) in &self.disks {
            let medium = &case.disks[name];
            let path = if medium.filesystem || medium.frozen { &disk.folder } else { &disk.device };
            argument = argument.replace(&format!("{{{name}}}"), &path.to_string_lossy());
        }
        argument
    }

    /// When a load began, in nanoseconds since 1970-01-01 UTC.
    pub(super) fn began(&self, load: usize) -> Result<i64> {
        let running = self.loads.get(load).and_then(Option::as_ref);
        Ok(running.with_context(|| format!("load {load} has not begun"))?.began)
    }

    /// Path of a cgroup by its name, as events have it.
    pub(super) fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.root)
    }

    /// The disk with this name in the case, as events call it.
    pub(super) fn disk(&self, name: &str) -> &str {
        self.disks.get(name).map_or("", Disk::name)
    }

    pub(super) fn has_disk(&self, device: &str) -> bool {
        self.disks.values().any(|disk| disk.name() == device)
    }

    /// `text` with `{root}` replaced by the path of the case's cgroup.
    pub(super) fn expand(&self, text: &str) -> String {
        text.replace("{root}", &self.root)
    }
}
