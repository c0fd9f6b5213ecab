//! The `galen-agent` command: arguments, settings, run, exit code.

use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use clap::{Parser, Subcommand};
use galen_agent::{Config, Settings, host::Environment, tracer::Support, tracers::Shipped};
use galen_runtime::{Supervisor, config, signal, telemetry};

/// Watches this node for kernel anomalies and captures the evidence.
#[derive(Parser)]
#[command(name = "galen-agent", version)]
struct Args {
    /// Settings in TOML. Without it the defaults hold.
    #[arg(long, global = true, value_name = "FILE", env = "GALEN_AGENT_CONFIG")]
    config: Option<PathBuf>,
    /// One setting, such as `log.filter=debug`. Repeatable.
    #[arg(long = "set", global = true, value_name = "KEY=VALUE", value_parser = key_value)]
    overrides: Vec<(String, String)>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Look at settings.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// List the tracers, and whether they work on this machine.
    Tracers,
    /// Print what every metric is, as JSON.
    Metrics,
}

#[derive(Subcommand)]
enum ConfigCommand {
    /// Say whether the settings are right.
    Check,
    /// Write a file of all settings with their defaults.
    Defaults,
    /// Write the JSON schema of the settings.
    Schema,
}

fn main() -> ExitCode {
    match start(Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "galen-agent: {}", galen_runtime::Chain(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

fn start(args: Args) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    if let Some(Command::Config(ConfigCommand::Defaults)) = args.command {
        return Ok(out.write_all(config::defaults_toml::<Config>().as_bytes())?);
    }
    if let Some(Command::Config(ConfigCommand::Schema)) = args.command {
        return Ok(out.write_all(config::schema_json::<Config>().as_bytes())?);
    }
    if let Some(Command::Metrics) = args.command {
        return Ok(out.write_all(serde_json::to_string_pretty(&galen_agent::figures::reference()?)?.as_bytes())?);
    }
    let settings = Settings::<Shipped>::load(args.config.as_deref(), &args.overrides)?;
    match args.command {
        None => {
            drop(out);
            run(settings)
        }
        Some(Command::Config(_) | Command::Metrics) => Ok(writeln!(out, "settings are right")?),
        Some(Command::Tracers) => {
            let environment = Environment::detect();
            for section in settings.config().tracers.iter() {
                let enabled = if section.enabled() { "enabled" } else { "disabled" };
                let support = match section.support(&environment) {
                    Support::Full => "full".to_owned(),
                    Support::Degraded(why) => format!("degraded: {why}"),
                    Support::Unsupported(why) => format!("unsupported: {why}"),
                };
                writeln!(out, "{:<12} {enabled:<9} {support}", section.name())?;
            }
            Ok(())
        }
    }
}

fn run(settings: Settings) -> anyhow::Result<()> {
    galen_bpf::keep_heap_small();
    telemetry::init(settings.config().log.format, &settings.config().log.filter)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let supervisor = Supervisor::new();
        signal::watch(&supervisor);
        Ok(galen_agent::run(settings, supervisor.token()).await?)
    })
}

fn key_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').filter(|(key, _)| !key.is_empty()).ok_or("write it as KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}
