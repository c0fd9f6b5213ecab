//! `cargo xtask load`: builds the programs as they are released and lets many agents come.

use std::process::Command;

use anyhow::{Context, Result, ensure};

pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let cargo = || Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    let packages = ["-p", "galen-aggregator", "-p", "galen-integration-tests"];
    let built = cargo().args(["build", "--release", "--locked", "--bins"]).args(packages).status();
    ensure!(built.context("failed to run cargo")?.success(), "the programs do not build");
    let runner = ["run", "-q", "--release", "--locked", "-p", "galen-integration-tests", "--bin", "galen-load", "--"];
    let status = cargo().args(runner).args(arguments).status().context("failed to run cargo")?;
    ensure!(status.success(), "the load was not carried");
    Ok(())
}
