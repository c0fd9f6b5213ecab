//! How the programs behave as programs: wrong settings, missing privileges, signals.

use std::{
    fs,
    os::unix::process::CommandExt,
    process::{Command, Output, Stdio},
    time::Duration,
};

use anyhow::{Context, Result};
use galen_integration_tests::{
    fleet::{Agent, Aggregator, nowhere},
    oracle,
    process::{Process, program},
    wait,
};
use rustix::process::Signal;

const LIMIT: Duration = Duration::from_secs(30);
/// `nobody`.
const ORDINARY_USER: u32 = 65_534;

fn run(name: &str, arguments: &[&str]) -> Result<(Output, String)> {
    let output = Command::new(program(name)?).args(arguments).stdin(Stdio::null()).output()?;
    let text = String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned();
    Ok((output, text))
}

#[test]
fn a_wrong_setting_is_refused_with_its_file_line_key_and_the_nearest_right_key() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("wrong.toml");
    for (name, text, line, key, nearest) in [
        ("galen-agent", "# ours\n[buffer]\nmax_bytez = \"1GiB\"\n", "3", "max_bytez", "max_bytes"),
        ("galen-agent", "[tracers.cpuidle]\nuser_treshold = 75\n", "2", "user_treshold", "user_threshold"),
        ("galen-aggregator", "\n[listen]\ngrcp = \"127.0.0.1:0\"\n", "3", "grcp", "grpc"),
    ] {
        fs::write(&file, text)?;
        let (output, said) = run(name, &["--config", &file.display().to_string(), "config", "check"])?;
        assert!(!output.status.success(), "{name}");
        for part in ["wrong.toml", line, key, nearest] {
            assert!(said.contains(part), "{name} does not say `{part}`: {said}");
        }
        assert_eq!(said.trim_end().lines().count(), 1, "{said}");
    }
    Ok(())
}

#[test]
fn the_settings_file_may_be_named_by_the_environment() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("wrong.toml");
    fs::write(&file, "nonsense = 1\n")?;
    for (name, variable) in [("galen-agent", "GALEN_AGENT_CONFIG"), ("galen-aggregator", "GALEN_AGGREGATOR_CONFIG")] {
        let mut command = Command::new(program(name)?);
        let output = command.env(variable, &file).args(["config", "check"]).stdin(Stdio::null()).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains("wrong.toml") && said.contains("nonsense"), "{name}: {said}");
    }
    Ok(())
}

#[test]
fn defaults_are_right_settings_and_every_program_has_a_schema() -> Result<()> {
    let dir = tempfile::tempdir()?;
    for name in ["galen-agent", "galen-aggregator"] {
        let (output, defaults) = run(name, &["config", "defaults"])?;
        assert!(output.status.success());
        let file = dir.path().join(name);
        fs::write(&file, defaults)?;
        let (output, said) = run(name, &["--config", &file.display().to_string(), "config", "check"])?;
        assert!(output.status.success(), "{said}");
        let (_, schema) = run(name, &["config", "schema"])?;
        serde_json::from_str::<serde_json::Value>(&schema)?;
    }
    Ok(())
}

#[test]
fn plaintext_beyond_loopback_is_refused() -> Result<()> {
    for (name, setting) in [
        ("galen-agent", "aggregator.endpoint=\"http://192.0.2.1:7400\""),
        ("galen-aggregator", "listen.grpc=\"0.0.0.0:7400\""),
        ("galen-aggregator", "listen.http=\"[::]:7401\""),
    ] {
        let (output, said) = run(name, &["--set", setting, "config", "check"])?;
        assert!(!output.status.success(), "{name} takes {setting}");
        assert!(said.contains("loopback") && said.contains("TLS"), "{said}");
    }
    Ok(())
}

#[tokio::test]
async fn an_ordinary_user_is_told_what_is_missing_and_what_still_works() -> Result<()> {
    if !galen_scratch::has_root("another user's process") {
        return Ok(());
    }
    let dir = tempfile::tempdir()?;
    for path in [dir.path().to_owned(), dir.path().join("data")] {
        fs::create_dir_all(&path)?;
        std::os::unix::fs::chown(&path, Some(ORDINARY_USER), None)?;
    }
    // An ordinary user cannot look into the target folder of root.
    let binary = dir.path().join("galen-agent");
    fs::copy(program("galen-agent")?, &binary)?;
    let log = dir.path().join("agent.log");
    let output = fs::File::create(&log)?;
    let child = Command::new(&binary)
        .args(["--set", &format!("data_dir=\"{}\"", dir.path().join("data").display())])
        .args(["--set", &format!("aggregator.endpoint=\"http://{}\"", nowhere()?)])
        .uid(ORDINARY_USER)
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        .spawn()?;
    let mut process = Process::adopt(child, log);
    wait::until("the agent to say what is missing", LIMIT, || {
        let log = process.log();
        let told = log.lines().any(|line| line.contains("root") || line.contains("CAP_BPF"));
        std::future::ready(Ok((told && log.contains("agent runs")).then_some(())))
    })
    .await?;
    assert!(process.ended()?.is_none(), "{}", process.tail());
    assert!(process.terminate(LIMIT).await?.success(), "{}", process.tail());
    Ok(())
}

#[tokio::test]
async fn sigterm_drains_and_exits_with_zero() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut aggregator = Aggregator::start(dir.path(), &[]).await?;
    let mut agent = Agent::start("galen-agent", "ending", dir.path(), aggregator.addresses.grpc, &[])?;
    wait::until("the agent to run", LIMIT, || {
        std::future::ready(Ok(agent.process.log().contains("agent runs").then_some(())))
    })
    .await?;
    assert!(agent.process.terminate(LIMIT).await?.success(), "{}", agent.process.tail());
    assert!(aggregator.process.terminate(LIMIT).await?.success(), "{}", aggregator.process.tail());
    Ok(())
}

#[tokio::test]
async fn a_second_sigterm_ends_an_agent_that_drains_at_once() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (agent_dir, aggregator_dir) = (dir.path().join("agent"), dir.path().join("aggregator"));
    fs::create_dir_all(&agent_dir)?;
    fs::create_dir_all(&aggregator_dir)?;
    let aggregator = Aggregator::start(&aggregator_dir, &["sessions.heartbeat=\"5m\""]).await?;
    let slow = ["shutdown_deadline=\"5m\"", "log.filter=\"info\""];
    let mut agent = Agent::start("galen-flood-agent", "hurried", &agent_dir, aggregator.addresses.grpc, &slow)?;
    let recorded = || oracle::accepted(&agent_dir.join("records")).map_or(0, |accepted| accepted.len());
    wait::until("the agent to be connected and to record", LIMIT, || {
        let ready = agent.process.log().contains("connected to the aggregator") && recorded() > 0;
        std::future::ready(Ok(ready.then_some(())))
    })
    .await?;
    // It takes nothing any more, so there is always something left to deliver.
    aggregator.process.signal(Signal::STOP)?;
    let before = recorded();
    wait::until("more to be recorded", LIMIT, || std::future::ready(Ok((recorded() > before).then_some(())))).await?;

    let status = wait::until("the agent to end", LIMIT, || {
        let sent = agent.process.signal(Signal::TERM);
        std::future::ready(sent.and_then(|()| agent.process.ended()))
    })
    .await
    .with_context(|| agent.process.tail())?;
    assert_eq!(status.code(), Some(143), "{}", agent.process.tail());
    Ok(())
}
