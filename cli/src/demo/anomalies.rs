//! What `galen demo --all` provokes: an anomaly for each tracer, small enough for any machine.

use std::ffi::OsString;

use galen_provoke::{Cgroup, Disk, Shape};

use super::{Error, Stage, story::start_load};

/// Captures that are short, as there are many of them. What the machine itself does in the kernel must not keep the demo
/// from being told.
pub(super) const SETTINGS: &str = "\
    [tracers.cpuidle]\nrun_tracing_tool_timeout = \"3s\"\n\
    [tracers.cpusys]\nrun_tracing_tool_timeout = \"3s\"\ninterval_tracing = \"10s\"\n\
    [tracers.waitrate]\nrun_tracing_tool_timeout = \"3s\"\n\
    [tracers.iotracer]\nrun_tracing_tool_timeout = \"3s\"\n";

const MIB: u64 = 1 << 20;

pub(super) struct Anomaly {
    pub(super) tracer: &'static str,
    /// For people, after "waits for it to notice that".
    pub(super) what: &'static str,
    pub(super) told_of: Place,
    disk: Option<Shape>,
    loads: &'static [Load],
}

/// Whom the event must name.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Place {
    /// Of the first load.
    Cgroup,
    Disk,
    Host,
}

/// A process in a cgroup of its own.
struct Load {
    /// Ends the cgroup's name.
    cgroup: &'static str,
    cpus: Option<f64>,
    memory: Option<u64>,
    /// `{disk}` is the device.
    words: &'static [&'static str],
}

const FREE: Load = Load { cgroup: "", cpus: None, memory: None, words: &[] };

pub(super) const ANOMALIES: [Anomaly; 7] = [
    Anomaly {
        tracer: "cpuidle",
        what: "a process is suddenly busy in a cgroup that may use half a CPU",
        told_of: Place::Cgroup,
        disk: None,
        loads: &[Load { cgroup: "busy", cpus: Some(0.5), words: &["spin"], ..FREE }],
    },
    Anomaly {
        tracer: "cpusys",
        what: "all CPUs are busy in the kernel, for a process that calls it nearly without pause",
        told_of: Place::Host,
        disk: None,
        // The rest is for the agent.
        loads: &[Load { cgroup: "calling", words: &["spin", "--system", "--threads=0", "--share=0.8"], ..FREE }],
    },
    Anomaly {
        tracer: "waitrate",
        what: "four threads of a neighbour want the CPU that a process is on",
        told_of: Place::Cgroup,
        disk: None,
        loads: &[
            Load { cgroup: "starved", words: &["spin", "--cpu=0"], ..FREE },
            Load { cgroup: "neighbour", words: &["spin", "--cpu=0", "--threads=4"], ..FREE },
        ],
    },
    Anomaly {
        tracer: "dload",
        what: "80 threads wait uninterruptibly",
        told_of: Place::Cgroup,
        disk: None,
        loads: &[Load { cgroup: "stuck", words: &["block", "--tasks=80"], ..FREE }],
    },
    Anomaly {
        tracer: "iotracer",
        what: "a process writes to a disk of its own that takes 1 MiB a second",
        told_of: Place::Disk,
        disk: Some(Shape { bytes: 64 * MIB, bytes_a_second: MIB, filesystem: false, frozen: false }),
        loads: &[Load {
            cgroup: "writing",
            words: &["io", "write", "--direct", "--block=512KiB", "--file={disk}"],
            ..FREE
        }],
    },
    Anomaly {
        tracer: "memburst",
        what: "a process takes 104 of the 128 MiB of its cgroup",
        told_of: Place::Cgroup,
        disk: None,
        loads: &[Load {
            cgroup: "growing",
            memory: Some(128 * MIB),
            words: &["grow", "--bytes=104MiB", "--over-seconds=3"],
            ..FREE
        }],
    },
    Anomaly {
        tracer: "oom",
        what: "a process wants three times the 64 MiB of its cgroup",
        told_of: Place::Cgroup,
        disk: None,
        loads: &[Load { cgroup: "greedy", memory: Some(64 * MIB), words: &["grow", "--bytes=192MiB"], ..FREE }],
    },
];

impl Anomaly {
    /// Lets it begin. `attempt` makes the cgroups others than before.
    pub(super) fn begin(&self, stage: &mut Stage, attempt: usize) -> Result<(), Error> {
        for load in self.loads {
            let path = format!("/galen-demo-{}-{}-{attempt}", std::process::id(), load.cgroup);
            let cgroup = Cgroup::everywhere(&path)?;
            cgroup.prefer()?;
            if let Some(cpus) = load.cpus {
                cgroup.limit_cpus(cpus)?;
            }
            if load.memory.is_some_and(|bytes| !cgroup.limit_memory(bytes).unwrap_or(false)) {
                return Err(Error::NoLimit);
            }
            stage.cgroups.push(cgroup);
        }
        if let Some(shape) = self.disk {
            let folders: Vec<_> = stage.cgroups.iter().flat_map(|cgroup| cgroup.folders.clone()).collect();
            let dir = stage.dir.path().join(format!("{}-{attempt}", self.tracer));
            stage.disk = Some(Disk::make(&dir, shape, &folders)?);
        }
        let device = stage.disk.as_ref().map(|disk| disk.device.to_string_lossy().into_owned()).unwrap_or_default();
        for (place, load) in self.loads.iter().enumerate() {
            let words = load.words.iter().map(|word| OsString::from(word.replace("{disk}", &device)));
            let child = start_load(load.cgroup, stage, &stage.cgroups[place], words)?;
            stage.loads.push(child);
        }
        Ok(())
    }
}
