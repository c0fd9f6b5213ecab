//! `galen-aggregator`: arguments, settings, run, exit code.

use std::{pin::pin, process::ExitCode, sync::OnceLock};

use anyhow::{Context, Result};
use clap::Parser;
use galen_aggregator::{Config, Settings, config::ENV_PREFIX, ingest::Limits};
use galen_runtime::{Drained, Supervisor, config, signal, telemetry};

mod arguments;
mod dead_letters;

use arguments::{Arguments, Command, ConfigCommand};

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(code) => code,
        Err(error) => {
            use std::io::Write;
            // Nothing is left to be done if standard error is gone.
            let _ = writeln!(std::io::stderr(), "galen-aggregator: {}", galen_runtime::Chain(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<ExitCode> {
    let load = || load(&arguments);
    match &arguments.command {
        Some(Command::Config(ConfigCommand::Defaults)) => print(&config::defaults_toml::<Config>())?,
        Some(Command::Config(ConfigCommand::Schema)) => print(&config::schema_json::<Config>())?,
        Some(Command::Config(ConfigCommand::Check)) => {
            load()?;
            print("settings are valid\n")?;
        }
        Some(Command::Metrics) => print(&serde_json::to_string_pretty(&galen_aggregator::metrics::reference()?)?)?,
        Some(Command::DeadLetters(command)) => print(&dead_letters::run(command, &load()?.1)?)?,
        None => {
            let (config, settings) = load()?;
            telemetry::init(config.telemetry.format, &config.telemetry.filter)?;
            galen_aggregator::raise_file_limit();
            return tokio::runtime::Builder::new_multi_thread()
                .enable_all()
                .build()
                .context("failed to start the runtime")?
                .block_on(serve(config, settings, load));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn load(arguments: &Arguments) -> Result<(Config, Settings)> {
    let config: Config = config::load(arguments.config.as_deref(), ENV_PREFIX, &arguments.settings)?;
    telemetry::check_filter(&config.telemetry.filter)?;
    Ok((config.clone(), Settings::try_from(config)?))
}

async fn serve(config: Config, settings: Settings, load: impl Fn() -> Result<(Config, Settings)>) -> Result<ExitCode> {
    let supervisor = Supervisor::new();
    let deadline = settings.shutdown_deadline;
    // Watched from here on, so that a signal during the start is an orderly end, too.
    let mut terminated = pin!(signal::terminated());
    let mut hangups = signal::Hangups::new();
    let shutdown = supervisor.token();
    let mut running = None;
    let limits = OnceLock::new();
    let serving = async {
        let started = galen_aggregator::start(settings, supervisor.clone()).await?;
        started.limits().into_iter().for_each(|found| drop(limits.set(found)));
        running = Some(started);
        shutdown.cancelled().await;
        anyhow::Ok(())
    };
    tokio::select! {
        biased;
        () = &mut terminated => tracing::info!(?deadline, "shutting down"),
        () = async { loop { hangups.next().await; reload(&config, &load, limits.get()); } } => {}
        served = serving => served?,
    }
    signal::on_second_signal_exit();
    let ended = supervisor.ended();
    let drained = match running {
        Some(running) => running.drain(deadline).await,
        None => supervisor.drain(deadline).await,
    };
    Ok(match (ended, drained) {
        (None, Drained::Complete | Drained::TimedOut { .. }) => ExitCode::SUCCESS,
        (Some(_), _) => ExitCode::FAILURE,
    })
}

/// Takes over what can change while the aggregator runs, which is the log's filter and the limits, and names the rest.
fn reload(running: &Config, load: &impl Fn() -> Result<(Config, Settings)>, limits: Option<&Limits>) {
    let (config, settings) = match load() {
        Ok(loaded) => loaded,
        Err(error) => {
            let error = galen_runtime::Chain(error.as_ref()).to_string();
            tracing::error!(error, "the settings were refused, those of before hold on");
            return;
        }
    };
    match telemetry::set_filter(&config.telemetry.filter) {
        Ok(()) => tracing::info!(filter = config.telemetry.filter, "settings were read again"),
        Err(error) => tracing::warn!(error = %galen_runtime::Chain(&error), "the log's filter stays as it was"),
    }
    let swapped = limits.zip(settings.limits).map(|(limits, set)| limits.swap(set.table)).is_some();
    let (before, after) = (config::flat(running), config::flat(&config));
    let mut keys = config::changed(&before, &after);
    keys.retain(|key| *key != "telemetry.filter" && !(swapped && Limits::may_change(key)));
    if !keys.is_empty() {
        tracing::warn!(keys = keys.join(", "), "settings that need a restart of the aggregator were changed");
    }
}

fn print(text: &str) -> Result<()> {
    use std::io::Write;
    std::io::stdout().write_all(text.as_bytes()).context("failed to write to standard output")
}
