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
    Event, EventKind, GetProfileRequest, ListNodesRequest, ProfileFormat, SearchEventsRequest, Support,
};
use serde::Deserialize;
use tokio::time::{Instant, sleep};

use super::{Child, Error, Stage, burst::HOT_FUNCTION, summary};
use crate::{
    arguments::CHILD,
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
const QUIET: Duration = Duration::from_secs(7);
/// A burst that was not detected after this time will not be: the window before is no longer quiet.
const DETECTION: Duration = Duration::from_secs(12);
/// Longer than the detection and the capture take. The burst is ended when the capture is there.
const BURST: &str = "60s";

/// Where the aggregator listens, as it says in `addresses.json`.
#[derive(Deserialize)]
struct Addresses {
    grpc: SocketAddr,
    http: SocketAddr,
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
        let [aggregator, agent] = programs;
        let dir = stage.dir.path().to_owned();

        self.step("starts an aggregator and an agent")?;
        stage.aggregator = Some(start_aggregator(aggregator, &dir)?);
        let addresses = addresses(stage, &dir).await?;
        let url = format!("http://{}", addresses.grpc);
        stage.agent = Some(start_agent(agent, &dir, &url)?);
        let mut client = client::connect(&url).await?;

        self.step("waits for the agent to connect")?;
        let node = connected(stage, &mut client).await?;

        self.step(&format!("node {node} watches; waits until it has seen a quiet window"))?;
        let begun = now_unix_nanos();
        let trigger = loop {
            sleep(QUIET).await;
            self.step(&format!(
                "a child is busy in the cgroup {}, which may use {}",
                stage.cgroup.path, stage.cgroup.capacity
            ))?;
            stage.burst = Some(start_burst(stage)?);
            if let Some(trigger) = trigger(stage, &mut client, begun).await? {
                break trigger;
            }
            if let Some(burst) = stage.burst.take() {
                burst.end().await;
            }
            self.step("the burst did not stand out, because the machine is busy: tries again")?;
        };

        self.step("the trigger is at the aggregator; waits for the capture of the same run")?;
        let capture = loop {
            let found =
                find(&mut client, begun, |event| event.kind() == EventKind::Capture && event.run_id == trigger.run_id);
            match found.await? {
                Some(capture) => break capture,
                None => pause(stage).await?,
            }
        };
        if let Some(burst) = stage.burst.take() {
            burst.end().await;
        }
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

    fn step(&mut self, what: &str) -> io::Result<()> {
        self.now = what.to_owned();
        let elapsed = format!("{:>6.1}s", self.started.elapsed().as_secs_f64());
        writeln!(io::stdout(), "{}  {what}", self.style.paint(Colour::Dim, elapsed))
    }
}

fn start_aggregator(program: &Path, dir: &Path) -> Result<Child, Error> {
    let settings = format!(
        "data_dir = {}\n\n[listen]\ngrpc = \"127.0.0.1:0\"\nhttp = \"127.0.0.1:0\"\n",
        quoted(&dir.join("aggregator"))
    );
    start("galen-aggregator", program, dir, &settings)
}

fn start_agent(program: &Path, dir: &Path, aggregator: &str) -> Result<Child, Error> {
    let settings = format!(
        "data_dir = {}\n\n[records]\ndir = {}\n\n[aggregator]\nendpoint = \"{aggregator}\"\n",
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

fn start_burst(stage: &Stage) -> Result<Child, Error> {
    let own = std::env::current_exe()
        .map_err(|source| Error::Machine { what: "find this program's own file".into(), source })?;
    let threads = stage.cgroup.threads.to_string();
    let mut words: Vec<OsString> = [CHILD, "burst", "--for", BURST, "--threads", &threads].map(Into::into).into();
    for procs in stage.cgroup.procs() {
        words.extend(["--join".into(), procs.into()]);
    }
    Child::start("galen-burst", &own, &words, stage.dir.path())
}

async fn addresses(stage: &mut Stage, dir: &Path) -> Result<Addresses, Error> {
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

/// The name of the node, once its agent is connected and watches for bursts.
async fn connected(stage: &mut Stage, client: &mut Client) -> Result<String, error::Error> {
    loop {
        let nodes = client.list_nodes(ListNodesRequest {}).await?.into_inner().nodes;
        if let Some(node) = nodes.into_iter().find(|node| node.connected)
            && let Some(tracer) = node.tracers.iter().find(|tracer| tracer.name == TRACER)
        {
            if tracer.support() == Support::Unsupported {
                return Err(Error::Unsupported(tracer.reason.clone()).into());
            }
            return Ok(node.name);
        }
        pause(stage).await?;
    }
}

/// The trigger of the burst in the demo's cgroup; `None` if it does not come in time.
async fn trigger(stage: &mut Stage, client: &mut Client, begun: i64) -> Result<Option<Event>, error::Error> {
    let cgroup = stage.cgroup.path.clone();
    let deadline = Instant::now() + DETECTION;
    while Instant::now() < deadline {
        let is_ours = |event: &Event| {
            event.kind() == EventKind::Trigger && event.container.as_ref().is_some_and(|c| c.cgroup == cgroup)
        };
        if let Some(trigger) = find(client, begun, is_ours).await? {
            return Ok(Some(trigger));
        }
        pause(stage).await?;
    }
    Ok(None)
}

async fn find(
    client: &mut Client,
    begun: i64,
    matches: impl Fn(&Event) -> bool,
) -> Result<Option<Event>, error::Error> {
    let request = SearchEventsRequest {
        query: format!("tracer:{TRACER}"),
        since_unix_nanos: Some(begun),
        limit: 1000,
        ..SearchEventsRequest::default()
    };
    Ok(client.search_events(request).await?.into_inner().events.into_iter().find(|event| matches(event)))
}

/// A moment before the next look, and a look at the children: nothing comes of one that has ended.
async fn pause(stage: &mut Stage) -> Result<(), Error> {
    sleep(POLL).await;
    for child in [&mut stage.aggregator, &mut stage.agent, &mut stage.burst].into_iter().flatten() {
        if let Some(status) = child.ended() {
            return Err(Error::DaemonEnded(child.name, status));
        }
    }
    Ok(())
}

/// As a TOML string. Quotes and backslashes are escaped as in JSON.
fn quoted(path: &Path) -> String {
    serde_json::Value::from(path.to_string_lossy()).to_string()
}
