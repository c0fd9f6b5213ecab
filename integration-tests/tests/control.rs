//! Changes to what runs on nodes, from the command line to the agent and back.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result};
use galen_integration_tests::{
    burst::{Burst, HOT_FUNCTION},
    fleet::{Agent, Aggregator},
    process::{Process, program},
    query, wait,
};
use galen_proto::v1::{EventKind, Node, Severity, TracerStatus};
use rustix::process::Signal;
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_secs(60);
const NODE: &str = "web-1";

/// An aggregator and an agent, in directories that survive their restarts.
struct Fleet {
    dir: TempDir,
    aggregator: Aggregator,
    agent: Agent,
}

impl Fleet {
    async fn start(settings: &[&str]) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        fs::create_dir(dir.path().join("agent"))?;
        let aggregator = Self::aggregator(dir.path()).await?;
        let agent = Self::agent(dir.path(), &aggregator, settings)?;
        let fleet = Self { dir, aggregator, agent };
        fleet.node("connect with its tracers", |node| node.connected && !node.tracers.is_empty()).await?;
        Ok(fleet)
    }

    async fn aggregator(dir: &Path) -> Result<Aggregator> {
        Aggregator::start(dir, &["sessions.heartbeat=\"500ms\""]).await
    }

    fn agent(dir: &Path, aggregator: &Aggregator, settings: &[&str]) -> Result<Agent> {
        Agent::start("galen-agent", NODE, &dir.join("agent"), aggregator.addresses.grpc, settings)
    }

    async fn node(&self, what: &str, is_so: impl Fn(&Node) -> bool) -> Result<Node> {
        let what = format!("the node to {what}");
        let found = wait::until(&what, LIMIT, || {
            let mut query = self.aggregator.query.clone();
            let is_so = &is_so;
            async move { Ok(query::node(&mut query, NODE).await?.filter(is_so)) }
        });
        found.await.with_context(|| self.agent.process.tail()).with_context(|| self.aggregator.process.tail())
    }

    async fn tracer(&self, what: &str, name: &str, is_so: impl Fn(&TracerStatus) -> bool) -> Result<()> {
        let is_so = |tracer: &TracerStatus| tracer.name == name && is_so(tracer);
        self.node(what, |node| node.connected && node.tracers.iter().any(is_so)).await.map(drop)
    }

    /// What the aggregator's metrics are now, at this path.
    fn metrics(&self, path: &str) -> Result<String> {
        let mut stream = TcpStream::connect(self.aggregator.addresses.http)?;
        stream.set_read_timeout(Some(LIMIT))?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.aggregator.addresses.http)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }

    /// Runs `galen`: its exit code, and what it said.
    fn galen(&self, arguments: &[&str]) -> Result<(i32, String)> {
        let url = format!("http://{}", self.aggregator.addresses.grpc);
        let output = Command::new(program("galen")?)
            .args(["--aggregator", &url])
            .args(arguments)
            .stdin(Stdio::null())
            .output()?;
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        Ok((output.status.code().context("an exit code")?, said))
    }

    /// As [`galen`](Self::galen), and it has to succeed.
    fn done(&self, arguments: &[&str]) -> Result<String> {
        let (code, said) = self.galen(arguments)?;
        anyhow::ensure!(code == 0, "{arguments:?} ended with {code}: {said}\n{}", self.agent.process.tail());
        Ok(said)
    }
}

#[tokio::test]
async fn a_tracer_stays_disabled_through_restarts_of_both_until_it_is_reset() -> Result<()> {
    let mut fleet = Fleet::start(&[]).await?;
    let said = fleet.done(&["tracers", "disable", "memburst", "--node", NODE])?;
    assert!(said.contains("`memburst` is disabled"), "{said}");
    // What it changed is known before the answer is given.
    let listed = fleet.done(&["tracers"])?;
    let line = listed.lines().find(|line| line.starts_with("memburst")).context("the tracer is listed")?;
    assert!(line.contains("no, overridden"), "{listed}");
    let disabled = |tracer: &TracerStatus| !tracer.enabled && tracer.overridden;

    fleet.agent.process.kill()?;
    fleet.agent = Fleet::agent(fleet.dir.path(), &fleet.aggregator, &[])?;
    fleet.tracer("be told again after its restart", "memburst", disabled).await?;

    fleet.aggregator.process.kill()?;
    fleet.agent.process.kill()?;
    fleet.aggregator = Fleet::aggregator(fleet.dir.path()).await?;
    fleet.agent = Fleet::agent(fleet.dir.path(), &fleet.aggregator, &[])?;
    fleet.tracer("be told by an aggregator that was restarted", "memburst", disabled).await?;

    fleet.done(&["tracers", "reset", "memburst", "--node", NODE])?;
    fleet.tracer("follow its settings", "memburst", |tracer| tracer.enabled && !tracer.overridden).await?;
    let evaluations = |tracer: &TracerStatus| tracer.evaluations > 0;
    fleet.tracer("evaluate again", "memburst", evaluations).await?;

    let audit = fs::read_to_string(fleet.dir.path().join("data/audit.jsonl"))?;
    let lines: Vec<serde_json::Value> = audit.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    assert_eq!(lines.len(), 4, "{audit}");
    for (line, enabled) in lines.iter().zip([false.into(), false.into(), serde_json::Value::Null]) {
        assert_eq!((&line["call"], &line["node"]), (&"set_tracer".into(), &NODE.into()), "{audit}");
        assert_eq!(line["request"], serde_json::json!({ "tracer": "memburst", "enabled": enabled }), "{audit}");
        assert_eq!((&line["who"], &line["role"]), (&"local".into(), &"admin".into()), "{audit}");
        assert!(line["address"].as_str().is_some_and(|address| address.starts_with("127.0.0.1:")), "{audit}");
    }
    assert_eq!((&lines[0]["outcome"], &lines[1]["outcome"]), (&serde_json::Value::Null, &"done".into()));
    Ok(())
}

#[tokio::test]
async fn what_is_asked_of_a_node_that_is_away_is_done_when_it_comes() -> Result<()> {
    let mut fleet = Fleet::start(&["tracers.memburst.enabled=false"]).await?;
    fleet.tracer("have it disabled", "memburst", |tracer| !tracer.enabled && !tracer.overridden).await?;
    fleet.agent.process.kill()?;
    fleet.node("be away", |node| !node.connected).await?;
    let said = fleet.done(&["tracers", "enable", "memburst", "--node", NODE])?;
    assert!(said.contains("away: kept"), "{said}");
    let listed = fleet.done(&["tracers"])?;
    assert!(listed.contains("no, yes when it comes"), "{listed}");
    let (code, said) = fleet.galen(&["tracers", "trigger", "cpuidle", "--node", NODE])?;
    assert_eq!((code, said.contains("is away")), (1, true), "{said}");

    fleet.agent = Fleet::agent(fleet.dir.path(), &fleet.aggregator, &["tracers.memburst.enabled=false"])?;
    let runs = |tracer: &TracerStatus| tracer.enabled && tracer.overridden && tracer.evaluations > 0;
    fleet.tracer("run it", "memburst", runs).await
}

#[tokio::test]
async fn what_cannot_be_done_says_why() -> Result<()> {
    let fleet = Fleet::start(&[]).await?;
    for (arguments, code, why) in [
        (&["tracers", "disable", "oom", "--node", "web-2"][..], 3, "node `web-2` was not heard of"),
        (&["tracers", "disable", "omm", "--node", NODE], 3, "no tracer `omm`; it has"),
        (&["tracers", "disable", "oom"], 2, "--node"),
        (
            &["tracers", "trigger", "oom", "--node", NODE],
            1,
            "`oom` cannot be asked to capture: a kill is over when it is known",
        ),
    ] {
        let (ended, said) = fleet.galen(arguments)?;
        assert_eq!(ended, code, "{arguments:?}: {said}");
        assert!(said.contains(why), "{arguments:?}: {said}");
    }
    Ok(())
}

#[tokio::test]
async fn settings_are_read_again_on_sighup_and_by_the_command_line_and_wrong_ones_are_told() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (agent_dir, file) = (dir.path().join("agent"), dir.path().join("agent/agent.toml"));
    fs::create_dir(&agent_dir)?;
    fs::write(&file, "")?;
    let aggregator = Fleet::aggregator(dir.path()).await?;
    let agent = Agent::start_with_file(NODE, &agent_dir, aggregator.addresses.grpc)?;
    let mut fleet = Fleet { dir, aggregator, agent };
    fleet.tracer("run", "memburst", |tracer| tracer.evaluations > 0).await?;

    fs::write(&file, "[tracers.memburst]\nenabled = false\n")?;
    fleet.agent.process.signal(Signal::HUP)?;
    fleet.tracer("disable it", "memburst", |tracer| !tracer.enabled && !tracer.overridden).await?;

    fs::write(&file, "[tracers.memburst]\nenabeld = true\n")?;
    fleet.agent.process.signal(Signal::HUP)?;
    let wrong = |node: &Node| {
        node.settings_error.contains("agent.toml:2") && node.settings_error.contains("`tracers.memburst.enabled`")
    };
    fleet.node("tell what is wrong", wrong).await?;
    let (code, said) = fleet.galen(&["reload", NODE])?;
    assert!(code == 1 && said.contains("agent.toml:2"), "{said}");
    assert!(fleet.done(&["nodes", "--output", "json"])?.contains("agent.toml:2"));

    fs::write(&file, "[tracers.memburst]\nenabled = false\n[buffer]\nmax_bytes = '2GiB'\n")?;
    let said = fleet.done(&["reload", NODE])?;
    assert!(said.contains("needs a restart of the agent: buffer.max_bytes"), "{said}");
    fleet.node("have right settings", |node| node.settings_error.is_empty()).await?;

    // What is laid over the file holds over a restart, until it is taken away; what is refused is not kept.
    let set = "tracers.memburst.enabled=true";
    fleet.done(&["reload", NODE, "--set", set])?;
    fleet.tracer("enable it", "memburst", |tracer| tracer.enabled && !tracer.overridden).await?;
    let (code, said) = fleet.galen(&["reload", NODE, "--set", "tracers.memburst.wrong=1"])?;
    assert!(code == 1 && said.contains("tracers.memburst.wrong"), "{said}");
    fleet.agent.process.kill()?;
    fleet.agent = Agent::start_with_file(NODE, &agent_dir, fleet.aggregator.addresses.grpc)?;
    let enabled_anew = |tracer: &TracerStatus| tracer.enabled && tracer.evaluations > 0;
    fleet.tracer("be told again", "memburst", enabled_anew).await?;
    fleet.done(&["reload", NODE, "--unset", "tracers.memburst.enabled"])?;
    fleet.tracer("follow its file", "memburst", |tracer| !tracer.enabled).await?;
    let (code, said) = fleet.galen(&["reload", NODE, "--unset", "tracers.memburst.enabled"])?;
    assert_eq!(code, 3, "{said}");
    Ok(())
}

#[tokio::test]
async fn an_aggregator_takes_a_new_log_filter_on_sighup_and_names_what_needs_a_restart() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("aggregator.toml");
    let data = format!("data_dir = '{}'\n[listen]\ngrpc = '127.0.0.1:0'\nhttp = '127.0.0.1:0'\n", dir.path().display());
    fs::write(&file, &data)?;
    let log = dir.path().join("aggregator.log");
    let process = Process::start(&program("galen-aggregator")?, &["--config", &file.display().to_string()], log)?;
    let says = async |text: &str| {
        let has = || std::future::ready(Ok(process.log().contains(text).then_some(())));
        wait::until(text, LIMIT, has).await.with_context(|| process.tail())
    };
    says("listening").await?;
    fs::write(&file, format!("{data}[log]\nretention_age = 'soon'\n"))?;
    process.signal(Signal::HUP)?;
    says("the settings were refused").await?;
    fs::write(&file, format!("{data}[log]\nretention_age = '3days'\n[telemetry]\nfilter = 'warn'\n"))?;
    process.signal(Signal::HUP)?;
    says("need a restart of the aggregator were changed keys=\"log.retention_age\"").await?;
    // By then messages below a warning pass no more, such as the one that says that the settings were read.
    assert!(!process.log().contains("settings were read again"), "{}", process.tail());
    Ok(())
}

#[tokio::test]
async fn the_figures_of_an_agent_are_shown_by_node_and_in_those_of_the_fleet_until_it_leaves() -> Result<()> {
    let mut fleet = Fleet::start(&[]).await?;
    let series = |name: &str| format!("{name}{{node=\"{NODE}\"}} ");
    let shown = |metrics: &str, name: &str| metrics.lines().any(|line| line.starts_with(&series(name)));
    wait::until("figures of the node", LIMIT, || {
        let metrics = fleet.metrics("/metrics/nodes");
        let found = metrics.map(|metrics| shown(&metrics, "galen_agent_uplink_begun_sessions_total").then_some(()));
        std::future::ready(found)
    })
    .await?;
    let metrics = fleet.metrics("/metrics/nodes")?;
    for name in [
        "galen_agent_buffer_size_bytes",
        "galen_agent_recorder_written_lines_total",
        "galen_agent_process_resident_bytes",
    ] {
        assert!(shown(&metrics, name), "{name}: {metrics}");
        assert_eq!(metrics.lines().filter(|line| line.starts_with(&format!("# TYPE {name} "))).count(), 1, "{metrics}");
    }
    let metrics = fleet.metrics("/metrics")?;
    assert!(!metrics.contains(NODE), "{metrics}");
    assert!(metrics.contains("\ngalen_fleet_process_resident_bytes_max "), "{metrics}");
    assert!(metrics.lines().any(|line| line == "galen_aggregator_fleet_left_out_figures 0"), "{metrics}");
    assert!(!metrics.contains("fleet_refused_figures_total{"), "{metrics}");
    fleet.agent.process.kill()?;
    wait::until("the figures to go with the node", LIMIT, || {
        let metrics = fleet.metrics("/metrics");
        let found = metrics.map(|metrics| (!metrics.contains("galen_fleet_process_resident_bytes_max ")).then_some(()));
        std::future::ready(found)
    })
    .await
}

#[tokio::test]
async fn a_capture_on_demand_is_of_the_cgroup_or_of_the_node_and_the_flight_recorder_can_be_frozen() -> Result<()> {
    if !galen_scratch::has_root("captures on demand") {
        return Ok(());
    }
    // No rule is met: what is captured is what was asked for.
    let settings = [
        "tracers.cpuidle.run_tracing_tool_timeout=\"1s\"",
        "tracers.cpuidle.user_threshold=1000",
        "tracers.cpuidle.usage_threshold=1000",
    ];
    let fleet = Fleet::start(&settings).await?;
    let path = format!("/galen-test-{}-demand", std::process::id());
    let burst = Burst::start(&path, 1, LIMIT, fleet.dir.path().join("burst.log"))?;
    wait::until("the burst to spin", LIMIT, || {
        let members = fs::read_to_string(burst.cgroup.folders[0].join("cgroup.procs"));
        std::future::ready(members.map(|members| (!members.is_empty()).then_some(())).map_err(Into::into))
    })
    .await?;
    for (arguments, tracer, cgroup) in [
        (&["tracers", "trigger", "cpuidle", "--node", NODE, "--cgroup", &path][..], "cpuidle", path.as_str()),
        (&["tracers", "trigger", "cpuidle", "--node", NODE], "cpuidle", ""),
        (&["record", NODE], "flight", ""),
    ] {
        let said = fleet.done(arguments)?;
        let run = said.split_whitespace().nth(1).context("a run's id")?.trim_end_matches(':').to_owned();
        let text = format!("tracer:{tracer} AND run_id:\"{run}\"");
        let capture = query::first(&fleet.aggregator.query, &text, EventKind::Capture, LIMIT)
            .await
            .with_context(|| fleet.agent.process.tail())?;
        assert_eq!(capture.container.unwrap_or_default().cgroup, cgroup, "{}", capture.summary);
        assert!(capture.explanation.contains("asked"), "{}", capture.explanation);
        let id = capture.id.context("an event has an id")?.to_string();
        let folded = fleet.done(&["flame", &id, "--format", "folded"])?;
        assert!(folded.contains(HOT_FUNCTION), "{arguments:?}: {folded}");
    }
    for (cgroup, why) in [("/galen-no-such", "there is no cgroup"), ("/../etc", "not a path from the root")] {
        let (code, said) = fleet.galen(&["tracers", "trigger", "cpuidle", "--node", NODE, "--cgroup", cgroup])?;
        assert!(code == 1 && said.contains(why), "{said}");
    }
    Ok(())
}

#[tokio::test]
async fn what_is_asked_for_is_paid_from_the_budget_until_there_is_none_left() -> Result<()> {
    if !galen_scratch::has_root("captures on demand") {
        return Ok(());
    }
    let mut settings = vec!["budget.captures_per_hour=3".to_owned()];
    // What they capture would be paid from it too.
    let others = ["cpuidle", "cpusys", "dload", "iotracer", "memburst", "oom", "waitrate"];
    settings.extend(others.iter().map(|tracer| format!("tracers.{tracer}.enabled=false")));
    let fleet = Fleet::start(&settings.iter().map(String::as_str).collect::<Vec<_>>()).await?;
    let reduced = |said: &str| said.contains("% of the budget of captures an hour of the node are left");
    for _ in 0..2 {
        let said = fleet.done(&["record", NODE])?;
        assert!(said.starts_with("run ") && !reduced(&said), "{said}");
    }
    let said = fleet.done(&["record", NODE])?;
    assert!(reduced(&said), "{said}");
    let run = said.split_whitespace().nth(1).context("a run's id")?.trim_end_matches(':');
    let short = query::first(&fleet.aggregator.query, &format!("run_id:\"{run}\""), EventKind::Capture, LIMIT).await?;
    let data: serde_json::Value = serde_json::from_slice(&short.data)?;
    assert!(data["short_capture_because"].as_str().is_some_and(reduced), "{data}");
    let (code, said) = fleet.galen(&["record", NODE])?;
    assert!(code == 1 && said.contains("the budget of captures an hour of the node is used up"), "{said}");
    Ok(())
}

#[tokio::test]
async fn every_tracer_that_has_evidence_captures_it_when_it_is_asked_to() -> Result<()> {
    if !galen_scratch::has_root("captures on demand") {
        return Ok(());
    }
    let settings = [
        // No rule is met by what is provoked here.
        "tracers.dload.threshold_load=100000",
        "tracers.waitrate.min_waitrate=100",
        "tracers.waitrate.run_tracing_tool_timeout=\"2s\"",
        "tracers.iotracer.window=\"2s\"",
        "tracers.iotracer.run_tracing_tool_timeout=\"1s\"",
    ];
    let fleet = Fleet::start(&settings).await?;
    let path = |name: &str| format!("/galen-test-{}-demand-{name}", std::process::id());
    let (slow, stuck) = (path("slow"), galen_provoke::Cgroup::cpu(&path("stuck"))?);
    // Throttled, and so it waits whatever else runs.
    let _slow = Burst::start_limited(&slow, 2, 0.2, LIMIT * 3, fleet.dir.path().join("slow.log"))?;
    let folders = stuck.folders.iter().map(|folder| format!("--cgroup={}", folder.display()));
    let arguments: Vec<_> = folders.chain(["--lasts=3min", "block", "--tasks=2"].map(str::to_owned)).collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let blocked = Process::start(&program("galen-fault")?, &arguments, fleet.dir.path().join("stuck.log"))?;
    wait::until("two threads to be stuck", LIMIT, || {
        let tasks =
            fs::read_dir(format!("/proc/{}/task", blocked.pid())).map(|tasks| tasks.flatten().collect::<Vec<_>>());
        let states =
            tasks.unwrap_or_default().into_iter().filter_map(|task| fs::read_to_string(task.path().join("stat")).ok());
        let stuck = states.filter(|stat| stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('D'))).count();
        std::future::ready(Ok((stuck == 2).then_some(())))
    })
    .await?;
    let stuck = path("stuck");
    type IsRight = fn(&serde_json::Value, &str) -> bool;
    let cases: [(&str, Option<&str>, IsRight); 6] = [
        ("dload", Some(&stuck), |data, _| data["nr_uninterruptible"] == 2 && data["stacks"][0]["count"] == 2),
        ("dload", None, |data, _| data["nr_uninterruptible"].as_u64() >= Some(2)),
        ("memburst", None, |data, _| data["processes"][0]["pid"].is_number()),
        ("waitrate", Some(&slow), |data, slow| {
            data["workloads"][0]["cgroup"] == slow && data["workloads"][0]["throttled_ms"].as_f64() > Some(0.0)
        }),
        ("waitrate", None, |data, slow| {
            data["workloads"].as_array().is_some_and(|all| all.iter().any(|one| one["cgroup"] == slow))
        }),
        ("iotracer", None, |data, _| data["device"].is_string()),
    ];
    for (tracer, cgroup, is_right) in cases {
        let mut arguments = vec!["tracers", "trigger", tracer, "--node", NODE];
        arguments.extend(cgroup.iter().flat_map(|path| ["--cgroup", path]));
        // What a disk does is known only after two windows.
        let said = wait::until(tracer, LIMIT, || {
            let asked = fleet.galen(&arguments).and_then(|(code, said)| match code {
                0 => Ok(Some(said)),
                _ if said.contains("no disk was watched") => Ok(None),
                _ => anyhow::bail!("{arguments:?} ended with {code}: {said}\n{}", fleet.agent.process.tail()),
            });
            std::future::ready(asked)
        })
        .await?;
        let run = said.split_whitespace().nth(1).context("a run's id")?;
        let text = format!("tracer:{tracer} AND run_id:\"{run}\"");
        let capture = query::first(&fleet.aggregator.query, &text, EventKind::Capture, LIMIT)
            .await
            .with_context(|| fleet.agent.process.tail())?;
        let data: serde_json::Value = serde_json::from_slice(&capture.data)?;
        assert!(is_right(&data, &slow), "{arguments:?}: {data:#}");
        assert_eq!(capture.severity(), Severity::Info, "{}", capture.summary);
        assert!(capture.explanation.contains("asked"), "{}", capture.explanation);
        // That of a disk names whose IO it is.
        if tracer != "iotracer" {
            assert_eq!(capture.container.unwrap_or_default().cgroup, cgroup.unwrap_or_default(), "{}", capture.summary);
        }
        fleet.tracer("count it", tracer, |tracer| tracer.captures > 0).await?;
    }
    for (tracer, why) in [("iotracer", "not `/"), ("dload", "there is no cgroup"), ("waitrate", "there is no cgroup")] {
        let (code, said) =
            fleet.galen(&["tracers", "trigger", tracer, "--node", NODE, "--cgroup", "/galen-no-such"])?;
        assert!(code == 1 && said.contains(why), "{tracer}: {said}");
    }
    Ok(())
}
