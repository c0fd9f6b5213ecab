//! What the program is called with.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

/// Collects the events of Galen's agents, keeps them, and answers questions about them.
#[derive(Parser)]
#[command(version)]
pub(crate) struct Arguments {
    /// Settings, as TOML.
    #[arg(long, global = true, value_name = "FILE", env = "GALEN_AGGREGATOR_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    /// One setting, such as `listen.grpc=127.0.0.1:7400`. May be repeated; goes before the file.
    #[arg(long = "set", global = true, value_name = "KEY=VALUE", value_parser = assignment)]
    pub(crate) settings: Vec<(String, String)>,
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Show or check settings.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Print what every metric is, as JSON.
    Metrics,
    /// Show or write again what was put aside in Kafka and in OpenSearch.
    #[command(subcommand)]
    DeadLetters(DeadLettersCommand),
}

#[derive(Subcommand)]
pub(crate) enum DeadLettersCommand {
    /// Print every dead letter: its id, when it was received, its size, and why it was put aside.
    List,
    /// Write those that can be written now among the events. Whoever has one already passes over it.
    Replay,
}

#[derive(Subcommand)]
pub(crate) enum ConfigCommand {
    /// Read the settings as a start would, and say what is wrong.
    Check,
    /// Print every setting with its default.
    Defaults,
    /// Print the JSON schema of the settings.
    Schema,
}

fn assignment(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').filter(|(key, _)| !key.is_empty()).ok_or("write it as key=value")?;
    Ok((key.to_owned(), value.to_owned()))
}
