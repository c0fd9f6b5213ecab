//! The real programs with certificates that `galen certs init` made, under load, while everything about them changes.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use galen_integration_tests::{
    fleet::{Agent, Aggregator, FLOOD_AGENT, ask},
    oracle,
    process::{Process, program},
    wait,
};
use galen_runtime::tls::{self, Dialler, File, Files};
use rustix::process::Signal;

const PATIENCE: Duration = Duration::from_secs(60);
const NODE: &str = "victim";
/// What both programs say of files that they took.
const TAKEN: &str = "certificates were read again";
/// What an agent says of each session.
const CONNECTED: &str = "connected to the aggregator";

#[tokio::test]
async fn certificates_and_their_authority_change_under_load_and_no_stream_ends_and_no_event_is_lost() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (agent_dir, aggregator_dir) = (dir.path().join("agent"), dir.path().join("aggregator"));
    fs::create_dir_all(&agent_dir)?;
    fs::create_dir_all(&aggregator_dir)?;
    let (used, other) = (dir.path().join("used"), dir.path().join("other"));
    init(&used)?;
    init(&other)?;

    let secured = settings(&used, "aggregator");
    let secured: Vec<&str> = secured.iter().map(String::as_str).collect();
    let mut aggregator = Aggregator::start_with(&aggregator_dir, &secured, Some(user(&used)?)).await?;
    let mut flood = settings(&used, &format!("node-{NODE}"));
    flood.push(format!("aggregator.endpoint=\"https://{}\"", aggregator.addresses.grpc));
    flood.extend(["tracers.flood.helping=3".to_owned(), "records.max_files=1000".to_owned()]);
    let flood: Vec<&str> = flood.iter().map(String::as_str).collect();
    let mut agent = Agent::start(FLOOD_AGENT, NODE, &agent_dir, aggregator.addresses.grpc, &flood)?;
    agent.connected(&aggregator).await?;

    // Both authorities, then the certificates of the other, then the other alone: as the guide has it.
    let authorities = [fs::read(used.join("ca.pem"))?, fs::read(other.join("ca.pem"))?];
    fs::write(used.join("ca.pem"), authorities.concat())?;
    taken(&[&aggregator.process, &agent.process], 1).await?;
    for name in ["aggregator", &format!("node-{NODE}"), "user-operator"] {
        for kind in ["key", "pem"] {
            fs::copy(other.join(format!("{name}.{kind}")), used.join(format!("{name}.{kind}")))?;
        }
    }
    taken(&[&aggregator.process, &agent.process], 2).await?;
    fs::write(used.join("ca.pem"), &authorities[1])?;
    taken(&[&aggregator.process, &agent.process], 3).await?;
    let sessions = agent.process.log().matches(CONNECTED).count();
    assert_eq!(sessions, 1, "a stream ended:\n{}", agent.process.tail());

    // What is dialled from now on is dialled with what is new.
    aggregator.query = ask(aggregator.addresses.grpc, Some(user(&used)?))?;
    agent.process.terminate(PATIENCE).await?;
    let mut quiet = flood.clone();
    quiet.push("tracers.flood.enabled=false");
    let agent = Agent::start(FLOOD_AGENT, NODE, &agent_dir, aggregator.addresses.grpc, &quiet)?;
    let accepted = oracle::accepted(&agent_dir.join("records"))?.len();
    oracle::drained(&aggregator, &agent, accepted as u64).await?;
    let (_, stored) = oracle::check(&aggregator, &agent).await?;
    assert!(accepted > 0, "there was no load");
    println!("{accepted} events accepted, {stored} stored");
    println!("{:?}", oracle::balanced(&aggregator, &agent).await?);
    Ok(())
}

/// A set of certificates in `dir`.
fn init(dir: &Path) -> Result<()> {
    let made = Command::new(program("galen")?)
        .args(["certs", "init"])
        .arg(dir)
        .args(["--node", NODE, "--host", "127.0.0.1"])
        .output()?;
    ensure!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    Ok(())
}

fn settings(dir: &Path, name: &str) -> Vec<String> {
    let path = |file: String| dir.join(file).display().to_string();
    vec![
        format!("tls.certificate_file=\"{}\"", path(format!("{name}.pem"))),
        format!("tls.key_file=\"{}\"", path(format!("{name}.key"))),
        format!("tls.ca_file=\"{}\"", path("ca.pem".into())),
    ]
}

/// Asks with the certificate that is there now.
fn user(dir: &Path) -> Result<Dialler> {
    let file = |name: &str| -> PathBuf { dir.join(name) };
    let files = Files {
        certificate: File::new("certificate", file("user-operator.pem")),
        key: File::new("key", file("user-operator.key")),
        authorities: File::new("ca", file("ca.pem")),
        revoked: Vec::new(),
    };
    Ok(Dialler::new(tls::client(&files.read()?, tls::HTTP_2)?, None)?)
}

/// Waits until each has taken new files for the `times`th time.
async fn taken(processes: &[&Process], times: usize) -> Result<()> {
    for process in processes {
        process.signal(Signal::HUP)?;
        let taken = || std::future::ready(Ok((process.log().matches(TAKEN).count() >= times).then_some(())));
        wait::until("the new files to be taken", PATIENCE, taken).await.with_context(|| process.tail())?;
    }
    Ok(())
}
