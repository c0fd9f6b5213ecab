//! Lets the faults of the catalogue happen on this machine and scores what the agent tells of them.

use std::{
    io::{Write, stdout},
    process::ExitCode,
};

use anyhow::{Result, bail, ensure};
use clap::Parser;
use galen_integration_tests::faults::{self, Score};
use galen_runtime::{Span, signal};

/// Lets faults happen on this machine and scores what the agent tells of them. Needs root.
#[derive(Parser)]
#[command(name = "galen-faults")]
struct Arguments {
    /// Only cases whose name contains one of these.
    only: Vec<String>,
    /// Only those that `make test` runs.
    #[arg(long)]
    core: bool,
    /// Say what there is and run nothing.
    #[arg(long)]
    list: bool,
    /// Run those that must raise nothing, over and over for so long.
    #[arg(long, value_name = "DURATION")]
    quiet_for: Option<Span>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<ExitCode> {
    let Arguments { only, core, list, quiet_for } = Arguments::parse();
    let mut cases = faults::catalogue()?;
    cases.retain(|case| (only.is_empty() || only.iter().any(|part| case.name.contains(part))) && (!core || case.core));
    ensure!(!cases.is_empty(), "no case has such a name");
    if list {
        for case in cases {
            writeln!(stdout(), "{:<32} {}", case.name, case.about)?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    ensure!(rustix::process::geteuid().is_root(), "faults need root");
    let dir = tempfile::tempdir()?;
    let show = |score: &Score| {
        let _ = writeln!(stdout(), "{score}");
    };
    let running = async {
        match quiet_for {
            Some(lasts) => faults::quiet(cases, dir.path(), lasts.0, show).await,
            None => faults::run(cases, dir.path(), show).await,
        }
    };
    let scores = tokio::select! {
        scores = running => scores?,
        // What was made goes with its handles.
        () = signal::terminated() => bail!("interrupted"),
    };
    let outcomes = || scores.iter().flat_map(|score| &score.outcomes);
    let told = outcomes().filter(|outcome| outcome.latency.is_some()).count();
    let ranked = || outcomes().filter_map(|outcome| outcome.culprit_first);
    let alarms: usize = scores.iter().map(|score| score.false_alarms.len()).sum();
    writeln!(
        stdout(),
        "\n{} cases: recall {told} of {}, culprit first {} of {}, {alarms} false alarms",
        scores.len(),
        outcomes().count(),
        ranked().filter(|first| *first).count(),
        ranked().count(),
    )?;
    Ok(if scores.iter().all(Score::is_perfect) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
