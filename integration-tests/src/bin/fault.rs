//! Provokes one anomaly for real, in the cgroups that it is told to join.

use clap::Parser;
use galen_provoke::Arguments;

fn main() -> anyhow::Result<()> {
    Ok(Arguments::parse().run(&[])?)
}
