//! Logs, to stderr: text for people, JSON lines for collectors.
//!
//! Colours only if stderr is a terminal and `NO_COLOR` is unset or empty. A panic is logged like any other fault, with its place, so
//! that a JSON log stays JSON. The filter can be changed while the process runs.

use std::{
    io::{self, IsTerminal},
    panic,
    sync::OnceLock,
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tracing_subscriber::{
    EnvFilter, Layer, Registry, filter::ParseError, fmt, layer::SubscriberExt, registry, reload,
    util::SubscriberInitExt, util::TryInitError,
};

/// The filter of the log. There is one for the process, as there is one log.
static FILTER: OnceLock<reload::Handle<EnvFilter, Registry>> = OnceLock::new();

/// How a line of the log looks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Why logging could not begin.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error("`{filter}` is not a log filter: write a level such as `info`, or `info,galen_agent=debug`")]
    Filter {
        filter: String,
        #[source]
        source: ParseError,
    },
    #[error("logging was begun already")]
    Twice(#[source] TryInitError),
    #[error("logging was not begun")]
    NotBegun,
    #[error("failed to replace the log's filter")]
    Replace(#[source] reload::Error),
}

/// Begins to log to stderr what passes `filter`, such as `info` or `info,galen_agent=debug`.
pub fn init(format: LogFormat, filter: &str) -> Result<(), Error> {
    let filter = parse(filter)?;
    let (filter, handle) = reload::Layer::new(filter);
    let lines = fmt::layer().with_writer(io::stderr);
    let lines = match format {
        LogFormat::Text => lines.with_ansi(colours()).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).with_current_span(false).boxed(),
    };
    registry().with(filter).with(lines).try_init().map_err(Error::Twice)?;
    // Logging can begin only once.
    let _ = FILTER.set(handle);
    panic::set_hook(Box::new(|panic| {
        let message = panic.payload_as_str().unwrap_or("not text");
        let place = panic.location().map(ToString::to_string);
        tracing::error!(place, "panic: {message}");
    }));
    Ok(())
}

/// From now on logs what passes `filter`.
pub fn set_filter(filter: &str) -> Result<(), Error> {
    let filter = parse(filter)?;
    FILTER.get().ok_or(Error::NotBegun)?.reload(filter).map_err(Error::Replace)
}

/// Whether `filter` can be read, for the check of settings.
pub fn check_filter(filter: &str) -> Result<(), Error> {
    parse(filter).map(drop)
}

fn parse(filter: &str) -> Result<EnvFilter, Error> {
    EnvFilter::try_new(filter).map_err(|source| Error::Filter { filter: filter.to_owned(), source })
}

fn colours() -> bool {
    io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_checked() {
        assert!(check_filter("info").is_ok());
        assert!(check_filter("warn,galen_agent=debug").is_ok());
        assert!(check_filter("galen_agent=loud").unwrap_err().to_string().contains("galen_agent=loud"));
    }
}
