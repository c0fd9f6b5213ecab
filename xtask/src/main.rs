//! The project's own chores, as `cargo xtask <chore>`. Each prints what is wrong and exits with 1.

mod docs;
mod faults;
mod licences;
mod load;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "The project's own chores")]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Write the generated pages under docs/ anew.
    Docs {
        /// Write nothing; fail if a page is not what would be written.
        #[arg(long)]
        check: bool,
    },
    /// Let the faults of the catalogue happen on this machine and score what the agent tells of them. Needs root.
    Faults {
        /// As for `galen-faults`: parts of names, `--core`, `--list`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Simulate many agents over real connections and measure what an aggregator takes for them.
    Load {
        /// As for `galen-load`: `--agents 10000`, `--every 10s`, `--reconnects 3`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Check the licences of all dependencies against deny.toml.
    Licences,
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().chore {
        Chore::Docs { check } => docs::run(check),
        Chore::Faults { arguments } => faults::run(&arguments),
        Chore::Load { arguments } => load::run(&arguments),
        Chore::Licences => licences::run(),
    }
}
