//! `galen-bench [sizes] [idle] [burst] [short] [backlog] [agents] [reconnect] [away[=DURATION]]`: measures the release
//! build beside it and prints a table.

use anyhow::Result;
use galen_integration_tests::bench;

#[tokio::main(flavor = "current_thread")]
#[allow(clippy::print_stdout, reason = "a command prints its result")]
async fn main() -> Result<()> {
    let only: Vec<String> = std::env::args().skip(1).collect();
    let scratch = tempfile::Builder::new().prefix("galen-bench").tempdir_in(std::env::current_dir()?.join("target"))?;
    println!("| Figure | Measured | Reach |\n|---|---|---|");
    for figure in bench::run(scratch.path(), &only).await? {
        println!("| {} | {} | {} |", figure.name, figure.measured, figure.reach);
    }
    Ok(())
}
