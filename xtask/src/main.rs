//! The project's own chores, as `cargo xtask <chore>`. Each prints what is wrong and exits with 1.

mod docs;
mod licences;

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
    /// Check the licences of all dependencies against deny.toml.
    Licences,
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().chore {
        Chore::Docs { check } => docs::run(check),
        Chore::Licences => licences::run(),
    }
}
