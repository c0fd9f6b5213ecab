//! The demo's course: each step says what it waits for, and goes on when that is seen.

use std::{
    ffi::OsString,
    fs,
    io::{self, Write},
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use galen_proto::v1::{
    Event, EventKind, GetProfileRequest, ListNodesRequest, Node, ProfileFormat, SearchEventsRequest, Support,
};
use galen_provoke::{Cgroup, HOT_FUNCTION};
use serde::Deserialize;
use tokio::time::{Instant, sleep};

use super::{Child, Error, LOAD, Stage, summary};
use crate::{
    arguments::Access,
    client::{self, Client},
    error,
    moment::now_unix_nanos,
    output::{Colour, StackTree, Style},
};

const TRACER: &str = "cpuidle";
/// Between two looks at a condition.
const POLL: Duration = Duration::from_millis(100);
/// The detector compares a window of 5 s with the one before, so it must have seen one quiet window, and the ticks at
/// its ends.
pub(super) const QUIET: Duration = Duration::from_secs(7);
/// A burst that was not detected after this time will not be: the window before is no longer quiet.
pub(super) const DETECTION: Duration = Duration::from_secs(12);
/// Longer than detections and captures take. A load is ended when what it is for is there.
const LASTS: &str = "--lasts=120s";
/// What the burst may use, as a container might: so much that the machine keeps room for its own work.
pub(super) const CPUS: f64 = 0.5;

/// Where the aggregator listens, as it says in `addresses.json`.
#[derive(Deserialize)]
pub(super) struct Addresses {
    pub(super) grpc: SocketAddr,
    pub(super) http: SocketAddr,
}

/// What the daemons are and say.
pub(super) struct Opened {
    pub(super) client: Client,
    pub(super) addresses: Addresses,
    pub(super) node: Node,
}

pub(super) struct Story {
    started: Instant,
    style: Style,
    now: String,
}

impl Story {
    pub(super) fn new(started: Instant) -> Self {
        Self { started, style: Style::of_stdout(), now: String::new() }
    }

    /// The step that it has come to.
    pub(super) fn now(&self) -> &str {
        &self.now
    }

    /// From the start of the daemons to the summary.
    pub(super) async fn tell(&mut self, stage: &mut Stage, programs: &[PathBuf; 2]) -> Result<(), error::Error> {
        let Opened { mut client, addresses, node } = self.open(stage, programs, "").await?;
        let known = node.tracers.iter().find(|tracer| tracer.name == TRACER);
        if let Some(tracer) = known.filter(|tracer| tracer.support() == Support::Unsupported) {
            return Err(Error::Unsupported(tracer.reason.clone()).into());
        }
        self.step(&format!("node {} watches; waits until it has seen a quiet window", node.name))?;
        let begun = now_unix_nanos();
        let trigger = loop {
            sleep(QUIET).await;
            let cgroup = Cgroup::everywhere(&format!("/galen-demo-{}", std::process::id())).map_err(Error::from)?;
            cgroup.prefer().map_err(Error::from)?;
            let limited = cgroup.limit_cpus(CPUS).map_err(Error::from)?;
            let (threads, capacity) = if limited { ("--threads=1", "half a CPU") } else { ("--threads=0", "all CPUs") };
            self.step(&format!("a child is busy in the cgroup {}, which may use {capacity}", cgroup.path))?;
            stage.loads.push(start_load("galen-burst", stage, &cgroup, ["spin".into(), threads.into()])?);
            let is_ours = {
                let path = cgroup.path.clone();
                move |event: &Event| {
                    event.kind() == EventKind::Trigger && event.container.as_ref().is_some_and(|c| c.cgroup == path)
                }
            };
            stage.cgroups.push(cgroup);
            if let Some(trigger) = told(stage, &mut client, TRACER, begun, DETECTION, is_ours).await? {
                break trigger;
            }
            stage.calm().await;
            self.step("the burst did not stand out, because the machine is busy: tries again")?;
        };

        self.step("the trigger is at the aggregator; waits for the capture of the same run")?;
        let of_run = |event: &Event| event.kind() == EventKind::Capture && event.run_id == trigger.run_id;
        let capture = loop {
            if let Some(capture) = find(&mut client, TRACER, begun, of_run).await? {
                break capture;
            }
            pause(stage).await?;
        };
        stage.calm().await;
        self.step("the capture is at the aggregator")?;

        let id = capture.id.as_ref().map(ToString::to_string).unwrap_or_default();
        let request = GetProfileRequest { id, format: ProfileFormat::Folded.into(), ..Default::default() };
        let folded = client.get_profile(request).await?.into_inner().content;
        let stacks = StackTree::from_folded(&String::from_utf8_lossy(&folded))?;
        summary::write(
            &mut io::stdout().lock(),
            self.style,
            &summary::Caught {
                trigger: &trigger,
                capture: &capture,
                stacks: &stacks,
                grpc: addresses.grpc,
                http: addresses.http,
            },
        )?;
        if stacks.contains(HOT_FUNCTION) { Ok(()) } else { Err(Error::WrongProfile(HOT_FUNCTION).into()) }
    }

    /// Starts the daemons, and waits until they know of each other.
    pub(super) async fn open(
        &mut self,
        stage: &mut Stage,
        programs: &[PathBuf; 2],
        settings: &str,
    ) -> Result<Opened, error::Error> {
        let [aggregator, agent] = programs;
        let dir = stage.dir.path().to_owned();
        self.step("starts an aggregator and an agent")?;
        stage.aggregator = Some(start_aggregator(aggregator, &dir)?);
        let addresses = addresses(stage, &dir).await?;
        let url = format!("http://{}", addresses.grpc);
        stage.agent = Some(start_agent(agent, &dir, &url, settings)?);
        let mut client = client::connect(&Access::local(url)).await?;
        self.step("waits for the agent to connect")?;
        let node = connected(stage, &mut client).await?;
        Ok(Opened { client, addresses, node })
    }

    pub(super) fn style(&self) -> Style {
        self.style
    }

    pub(super) fn heading(&self, text: &str) -> io::Result<()> {
        writeln!(io::stdout(), "\n{}", self.style.paint(Colour::Bold, text))
    }

    pub(super) fn step(&mut self, what: &str) -> io::Result<()> {
        self.now = what.to_owned();
        let elapsed = format!("{:>6.1}s", self.started.elapsed().as_secs_f64());
        writeln!(io::stdout(), "{}  {what}", self.style.paint(Colour::Dim, elapsed))
    }
}

pub(super) fn start_aggregator(program: &Path, dir: &Path) -> Result<Child, Error> {
    let settings = format!(
        "data_dir = {}\n\n[listen]\ngrpc = \"127.0.0.1:0\"\nhttp = \"127.0.0.1:0\"\n",
        quoted(&dir.join("aggregator"))
    );
    start("galen-aggregator", program, dir, &settings)
}

fn start_agent(program: &Path, dir: &Path, aggregator: &str, settings: &str) -> Result<Child, Error> {
    let settings = format!(
        "data_dir = {}\n\n[records]\ndir = {}\n\n[aggregator]\nendpoint = \"{aggregator}\"\n{settings}",
        quoted(&dir.join("agent")),
        quoted(&dir.join("records")),
    );
    start("galen-agent", program, dir, &settings)
}

fn start(name: &'static str, program: &Path, dir: &Path, settings: &str) -> Result<Child, Error> {
    let file = dir.join(format!("{name}.toml"));
    fs::write(&file, settings)
        .map_err(|source| Error::Machine { what: format!("write {}", file.display()), source })?;
    Child::start(name, program, &["--config".into(), file.into()], dir)
}

/// This program once more, as a load in a cgroup.
pub(super) fn start_load(
    name: &'static str,
    stage: &Stage,
    cgroup: &Cgroup,
    words: impl IntoIterator<Item = OsString>,
) -> Result<Child, Error> {
    let own = std::env::current_exe()
        .map_err(|source| Error::Machine { what: "find this program's own file".into(), source })?;
    let mut all: Vec<OsString> = LOAD.into_iter().chain([LASTS]).map(Into::into).collect();
    for folder in &cgroup.folders {
        all.extend(["--cgroup".into(), folder.into()]);
    }
    all.extend(words);
    Child::start(name, &own, &all, stage.dir.path())
}

pub(super) async fn addresses(stage: &mut Stage, dir: &Path) -> Result<Addresses, Error> {
    loop {
        // Written as a whole: what is there is complete.
        if let Ok(text) = fs::read(dir.join("aggregator/addresses.json"))
            && let Ok(addresses) = serde_json::from_slice(&text)
        {
            return Ok(addresses);
        }
        pause(stage).await?;
    }
}

/// The node, once its agent is connected and watches for bursts.
async fn connected(stage: &mut Stage, client: &mut Client) -> Result<Node, error::Error> {
    loop {
        let nodes = client.list_nodes(ListNodesRequest {}).await?.into_inner().nodes;
        let is_there = |node: &Node| node.connected && node.tracers.iter().any(|tracer| tracer.name == TRACER);
        if let Some(node) = nodes.into_iter().find(is_there) {
            return Ok(node);
        }
        pause(stage).await?;
    }
}

/// The first event of a tracer that is looked for; `None` if it does not come in time.
pub(super) async fn told(
    stage: &mut Stage,
    client: &mut Client,
    tracer: &str,
    begun: i64,
    within: Duration,
    matches: impl Fn(&Event) -> bool,
) -> Result<Option<Event>, error::Error> {
    let deadline = Instant::now() + within;
    while Instant::now() < deadline {
        if let Some(event) = find(client, tracer, begun, &matches).await? {
            return Ok(Some(event));
        }
        pause(stage).await?;
    }
    Ok(None)
}

async fn find(
    client: &mut Client,
    tracer: &str,
    begun: i64,
    matches: impl Fn(&Event) -> bool,
) -> Result<Option<Event>, error::Error> {
    let request = SearchEventsRequest {
        query: format!("tracer:{tracer}"),
        since_unix_nanos: Some(begun),
        limit: 1000,
        ..SearchEventsRequest::default()
    };
    Ok(client.search_events(request).await?.into_inner().events.into_iter().find(|event| matches(event)))
}

/// A moment before the next look, and a look at the daemons: nothing comes of one that has ended.
pub(super) async fn pause(stage: &mut Stage) -> Result<(), Error> {
    sleep(POLL).await;
    stage.look()
}

/// As a TOML string. Quotes and backslashes are escaped as in JSON.
fn quoted(path: &Path) -> String {
    serde_json::Value::from(path.to_string_lossy()).to_string()
}
