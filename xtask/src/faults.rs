//! `cargo xtask faults`: builds the programs and lets the catalogue happen.

use std::process::Command;

use anyhow::{Context, Result, ensure};

pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let cargo = || Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    let built = cargo().args(["build", "--workspace", "--locked", "--bins"]).status().context("failed to run cargo")?;
    ensure!(built.success(), "the programs do not build");
    let runner = ["run", "-q", "--locked", "-p", "galen-integration-tests", "--bin", "galen-faults", "--"];
    let status = cargo().args(runner).args(arguments).status().context("failed to run cargo")?;
    ensure!(status.success(), "not every fault was told as it should be");
    Ok(())
}
