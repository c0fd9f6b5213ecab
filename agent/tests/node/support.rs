//! Cgroups, processes and agents that clean up after themselves.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use galen_agent::{
    Agent, Settings, TracerSet,
    cgroup::{Hierarchies, Version},
    clock::Clock,
    tracers::Shipped,
};
use galen_proto::v1::{Event, EventKind};
use prost::Message;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::time::Instant;

/// Longest wait for anything, on a machine that does much else.
const DEADLINE: Duration = Duration::from_secs(60);

/// A cgroup at one path in several hierarchies. Removed when dropped, with what runs in it.
pub(crate) struct Cgroup {
    directories: Vec<PathBuf>,
    pub(crate) path: String,
}

impl Cgroup {
    /// `name` is a path below the root; this process's id makes its first part unique.
    pub(crate) fn create(roots: &[&Path], name: &str) -> Self {
        let path = format!("/galen-test-{}-{name}", std::process::id());
        let mut directories = Vec::new();
        for root in roots {
            let mut directory = root.to_path_buf();
            for part in path.split('/').filter(|part| !part.is_empty()) {
                directory.push(part);
                // A part may be shared with another cgroup of the test: the last of them removes it.
                let _ = fs::create_dir(&directory);
                directories.push(directory.clone());
            }
        }
        Self { directories, path }
    }

    pub(crate) fn set(&self, file: &str, value: &str) {
        for directory in self.own().filter(|directory| directory.join(file).exists()) {
            fs::write(directory.join(file), value).unwrap();
        }
    }

    /// Starts a program in it.
    pub(crate) fn start(&self, script: &str) -> Process {
        let join: String =
            self.own().map(|directory| format!("echo $$ > {}/cgroup.procs; ", directory.display())).collect();
        let mut command = Command::new("sh");
        command.args(["-c", &format!("{join} {script}")]).stdout(Stdio::null()).stderr(Stdio::null());
        Process(command.spawn().unwrap())
    }

    /// Whether something runs in it.
    pub(crate) fn has_members(&self) -> bool {
        self.own().all(|directory| fs::read_to_string(directory.join("cgroup.procs")).is_ok_and(|all| !all.is_empty()))
    }

    /// In the first of its hierarchies.
    pub(crate) fn directory(&self) -> &Path {
        self.own().next().unwrap()
    }

    fn own(&self) -> impl Iterator<Item = &PathBuf> {
        self.directories.iter().filter(|directory| directory.to_string_lossy().ends_with(&self.path))
    }

    pub(crate) fn spin(&self) -> Process {
        self.start("while :; do :; done")
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let until = std::time::Instant::now() + Duration::from_secs(10);
        // What has used up its time would be long in ending.
        for directory in self.own().filter(|directory| directory.join("cpu.cfs_quota_us").exists()) {
            let _ = fs::write(directory.join("cpu.cfs_quota_us"), "-1");
        }
        for directory in self.directories.iter().rev() {
            let members = || fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
            while !members().is_empty() && std::time::Instant::now() < until {
                for pid in members().lines() {
                    signal(pid.parse().unwrap(), Signal::KILL);
                }
            }
            let _ = fs::remove_dir(directory);
        }
    }
}

/// An agent that has looked at the cgroups, so that what comes later is new to it. `include` begins the paths that it
/// watches, after `/galen-test-PID-`.
pub(crate) async fn agent_that_has_looked<S: TracerSet>(include: &str, settings: &[(&str, &str)]) -> TestAgent {
    let hierarchies = hierarchies();
    let (_, root) = hierarchies.cpu_usage().next().expect("no hierarchy tells CPU usage");
    let sentinel = Cgroup::create(&[root], &format!("{include}-sentinel"));
    let test = TestAgent::start::<S>(settings).await;
    let its_files = sentinel.directories[0].clone();
    until("the agent has looked at the cgroups", || {
        let open =
            fs::read_dir("/proc/self/fd").unwrap().flatten().filter_map(|entry| fs::read_link(entry.path()).ok());
        open.into_iter().any(|file| file.starts_with(&its_files))
    })
    .await;
    test
}

/// A child that is killed when dropped.
pub(crate) struct Process(pub Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// An agent in a directory of its own, without an aggregator.
pub(crate) struct TestAgent {
    pub(crate) agent: Agent,
    pub(crate) dir: TempDir,
}

impl TestAgent {
    pub(crate) async fn start<S: TracerSet>(settings: &[(&str, &str)]) -> Self {
        Self::start_with_clock::<S>(settings, Clock::system()).await
    }

    /// With the shipped tracer `tracer` and no other.
    pub(crate) async fn only(tracer: &str, settings: &[(&str, &str)]) -> Self {
        let off = others_of(tracer);
        let off = off.iter().map(|key| (key.as_str(), "false"));
        Self::start::<Shipped>(&off.chain(settings.iter().copied()).collect::<Vec<_>>()).await
    }

    pub(crate) async fn start_with_clock<S: TracerSet>(settings: &[(&str, &str)], clock: Clock) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let own = [
            ("data_dir", dir.path().to_str().unwrap()),
            ("aggregator.endpoint", "http://127.0.0.1:1"),
            ("node", "test"),
        ];
        let all = own.iter().chain(settings).map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let settings = Settings::<S>::load(None, &all.collect::<Vec<_>>()).unwrap();
        Self { agent: Agent::start_with_clock(settings, clock).await.unwrap(), dir }
    }

    /// Every event in the buffer.
    pub(crate) fn events(&self) -> Vec<Event> {
        let buffer = self.agent.buffer();
        let queue = buffer.queues().pop().unwrap();
        let read = buffer.read(queue.epoch, queue.first_unacked, 10_000, 64 << 20).unwrap();
        read.into_iter().map(|(_, bytes)| Event::decode(bytes).unwrap()).collect()
    }

    /// The first event that is looked for, once it is there.
    pub(crate) async fn event(&self, what: &str, is_it: impl Fn(&Event) -> bool) -> Event {
        let mut durable = self.agent.buffer().durable();
        let until = Instant::now() + DEADLINE;
        loop {
            if let Some(event) = self.events().into_iter().find(|event| is_it(event)) {
                return event;
            }
            if tokio::time::timeout_at(until, durable.changed()).await.is_err() {
                let had: Vec<_> = self.events().into_iter().map(|event| event.summary).collect();
                panic!(
                    "no {what} within {DEADLINE:?}; events: {had:?}; tracers: {:?}",
                    self.agent.statuses().snapshot()
                );
            }
        }
    }

    pub(crate) async fn kind_in(&self, kind: EventKind, cgroup: &str) -> Event {
        let is_it =
            |event: &Event| event.kind() == kind && event.container.as_ref().is_some_and(|c| c.cgroup == cgroup);
        self.event(&format!("{kind:?} in {cgroup}"), is_it).await
    }
}

/// Waits until `done`, looking again and again.
pub(crate) async fn until(what: &str, done: impl FnMut() -> bool) {
    until_within(DEADLINE, what, done).await;
}

/// As [`until`], for what takes long.
pub(crate) async fn until_within(deadline: Duration, what: &str, mut done: impl FnMut() -> bool) {
    let until = Instant::now() + deadline;
    while !done() {
        assert!(Instant::now() < until, "not within {deadline:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The settings that switch every shipped tracer on or off but `tracer`.
pub(crate) fn others_of(tracer: &str) -> Vec<String> {
    let others = Shipped::factories().into_iter().filter(|factory| factory.name != tracer);
    others.map(|factory| format!("tracers.{}.enabled", factory.name)).collect()
}

/// Waits until the agent's tracers have had so many ticks.
pub(crate) async fn ticks(test: &TestAgent, count: usize) {
    let mut ticker = test.agent.ticker();
    for _ in 0..count {
        tokio::time::timeout(DEADLINE, ticker.tick()).await.expect("the agent ticks");
    }
}

pub(crate) fn data(event: &Event) -> serde_json::Value {
    serde_json::from_slice(&event.data).unwrap()
}

pub(crate) fn hierarchies() -> Hierarchies {
    Hierarchies::detect().unwrap()
}

/// The roots in which a cgroup of this version has to be to be accounted and limited; says so if there are none.
/// The file that limits memory, handed down to the root's children.
pub(crate) fn memory_limit_file(version: Version, root: &Path) -> &'static str {
    match version {
        Version::V1 => "memory.limit_in_bytes",
        Version::V2 => {
            std::fs::write(root.join("cgroup.subtree_control"), "+memory").unwrap();
            "memory.max"
        }
    }
}

pub(crate) fn cpu_roots(version: Version) -> Option<Vec<PathBuf>> {
    let hierarchies = hierarchies();
    let roots: Vec<PathBuf> = match version {
        Version::V1 => [hierarchies.cpu, hierarchies.cpuacct].into_iter().flatten().collect(),
        Version::V2 => hierarchies.unified.into_iter().collect(),
    };
    if roots.is_empty() {
        galen_scratch::skip(&format!("cgroup {version:?} is not mounted on this machine"));
    }
    (!roots.is_empty()).then_some(roots)
}

/// A process that has ended is left alone.
pub(crate) fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid as i32) {
        let _ = kill_process(pid, signal);
    }
}

/// A program whose functions have names and frame pointers.
pub(crate) fn workload() -> &'static Path {
    static BUILT: std::sync::LazyLock<PathBuf> = std::sync::LazyLock::new(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("profile/tests/workload.c");
        let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("workload");
        // Another run of the tests may be at it.
        let unfinished = program.with_extension(std::process::id().to_string());
        let built =
            Command::new("cc").args(["-O0", "-fno-omit-frame-pointer", "-o"]).arg(&unfinished).arg(source).status();
        assert!(built.is_ok_and(|status| status.success()), "cannot compile workload.c with cc");
        fs::rename(unfinished, &program).unwrap();
        program
    });
    &BUILT
}
