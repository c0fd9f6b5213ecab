//! The real programs, asked by the command with tokens of each role and with none.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use anyhow::{Context, Result, ensure};
use galen_integration_tests::{
    fleet::{Agent, Aggregator, FLOOD_AGENT},
    process::program,
};
use galen_runtime::tls::{self, Dialler, File, Files};

const NODE: &str = "web-1";
/// What the command ends with where the aggregator does not let it.
const NOT_LET_IN: Option<i32> = Some(5);

#[tokio::test]
async fn tokens_let_the_command_do_what_their_role_says_and_the_audit_log_names_them() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (set, agent_dir, aggregator_dir) =
        (dir.path().join("set"), dir.path().join("agent"), dir.path().join("aggregator"));
    fs::create_dir_all(&agent_dir)?;
    fs::create_dir_all(&aggregator_dir)?;
    let made = galen(&["certs", "init", &set.display().to_string(), "--node", NODE])?;
    ensure!(made.status.success(), "{made:?}");
    let tokens = dir.path().join("tokens");
    let [reader, operator] = ["read", "operate"].map(|role| token(dir.path(), &tokens, role));
    let (reader, operator) = (reader?, operator?);

    let mut settings = certificates(&set, "aggregator");
    settings.push(format!("access.tokens_file=\"{}\"", tokens.display()));
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    let aggregator = Aggregator::start_with(&aggregator_dir, &settings, Some(user(&set)?)).await?;
    let url = format!("https://{}", aggregator.addresses.grpc);
    let mut settings = certificates(&set, &format!("node-{NODE}"));
    settings.push(format!("aggregator.endpoint=\"{url}\""));
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    let agent = Agent::start(FLOOD_AGENT, NODE, &agent_dir, aggregator.addresses.grpc, &settings)?;
    agent.connected(&aggregator).await?;

    let authority = set.join("ca.pem").display().to_string();
    let ask = |with: &[&str], question: &[&str]| {
        galen(&[&["--aggregator", &url, "--ca-file", &authority], with, question].concat())
    };
    let (reader, operator) =
        (["--token-file", reader.to_str().context("a path")?], ["--token-file", operator.to_str().context("a path")?]);
    let status = ask(&reader, &["status"])?;
    ensure!(status.status.success(), "{status:?}");
    let disable = ["tracers", "disable", "flood", "--node", NODE];
    let refused = ask(&reader, &disable)?;
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    ensure!(refused.status.code() == NOT_LET_IN && text.contains("`read`, and this takes `operate`"), "{refused:?}");
    let done = ask(&operator, &disable)?;
    ensure!(done.status.success(), "{done:?}");
    let reload = ask(&operator, &["reload", NODE])?;
    ensure!(reload.status.code() == NOT_LET_IN, "{reload:?}");
    let node = |kind: &str| set.join(format!("node-{NODE}.{kind}")).display().to_string();
    let as_node = ask(&["--certificate-file", &node("pem"), "--key-file", &node("key")], &["status"])?;
    ensure!(as_node.status.code() == NOT_LET_IN, "{as_node:?}");

    let audit = fs::read_to_string(aggregator_dir.join("data/audit.jsonl"))?;
    let named = audit.lines().filter(|line| line.contains("\"who\":\"operate\",\"by\":\"token\""));
    ensure!(named.count() == 2 && audit.lines().count() == 2, "{audit}");
    Ok(())
}

fn galen(arguments: &[&str]) -> Result<Output> {
    Ok(Command::new(program("galen")?).args(arguments).output()?)
}

/// Makes a token as a person does, with the role for a name: adds its line to the file, and returns where the token is.
fn token(dir: &Path, tokens: &Path, role: &str) -> Result<PathBuf> {
    let made = galen(&["token", "create", "--name", role, "--role", role])?;
    ensure!(made.status.success(), "{made:?}");
    let text = String::from_utf8(made.stdout)?;
    let mut lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let (token, line) = (lines.next().context("a token")?, lines.next().context("a line")?);
    let before = fs::read_to_string(tokens).unwrap_or_default();
    fs::write(tokens, format!("{before}{line}\n"))?;
    let path = dir.join(format!("{role}.token"));
    fs::write(&path, token)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
    Ok(path)
}

fn certificates(set: &Path, name: &str) -> Vec<String> {
    let at = |file: &str| set.join(file).display().to_string();
    vec![
        format!("tls.certificate_file=\"{}\"", at(&format!("{name}.pem"))),
        format!("tls.key_file=\"{}\"", at(&format!("{name}.key"))),
        format!("tls.ca_file=\"{}\"", at("ca.pem")),
    ]
}

/// Whom the settings do not name: may read.
fn user(set: &Path) -> Result<Dialler> {
    let file = |setting, name: &str| File::new(setting, set.join(name));
    let files = Files {
        certificate: file("certificate", "user-operator.pem"),
        key: file("key", "user-operator.key"),
        authorities: file("authorities", "ca.pem"),
        revoked: Vec::new(),
    };
    Ok(Dialler::new(tls::client(&files.read()?, tls::HTTP_2)?, Some("localhost"))?)
}
