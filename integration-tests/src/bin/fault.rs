//! Provokes one anomaly for real, in the cgroups that it is told to join.

use clap::Parser;
use galen_integration_tests::workload::Arguments;

fn main() -> anyhow::Result<()> {
    Arguments::parse().run()
}
