//! Many agents at an aggregator: what it takes for them.

use std::io::{Write, stdout};

use anyhow::{Result, bail};
use clap::Parser;
use galen_integration_tests::load::{Arguments, run};
use galen_runtime::signal;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let scratch = tempfile::Builder::new().prefix("galen-load").tempdir_in(std::env::current_dir()?)?;
    let report = tokio::select! {
        report = run(&arguments, scratch.path()) => report?,
        // What was made goes with its handles.
        () = signal::terminated() => bail!("interrupted"),
    };
    Ok(writeln!(stdout(), "{report}")?)
}
