//! The agent with the flood for its only tracer; otherwise what `galen-agent` is.

use galen_agent::Settings;
use galen_integration_tests::flood::OnlyFlood;
use galen_runtime::{Supervisor, signal, telemetry};

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--set").collect();
    let overrides: Vec<_> = arguments
        .iter()
        .filter_map(|setting| setting.split_once('='))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect();
    let settings = Settings::<OnlyFlood>::load(None, &overrides)?;
    telemetry::init(settings.config().log.format, &settings.config().log.filter)?;
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let supervisor = Supervisor::new();
        signal::watch(&supervisor);
        Ok(galen_agent::run(settings, supervisor.token()).await?)
    })
}
