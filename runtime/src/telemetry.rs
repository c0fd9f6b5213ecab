//! Logs, to stderr: text for people, JSON lines for collectors.
//!
//! Colours only if stderr is a terminal and `NO_COLOR` is unset or empty. A panic is logged like any other fault, with its place, so
//! that a JSON log stays JSON.

use std::{
    io::{self, IsTerminal},
    panic,
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tracing_subscriber::{EnvFilter, filter::ParseError, fmt, util::SubscriberInitExt, util::TryInitError};

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
}

/// Begins to log to stderr what passes `filter`, such as `info` or `info,galen_agent=debug`.
pub fn init(format: LogFormat, filter: &str) -> Result<(), Error> {
    let filter = parse(filter)?;
    let lines = fmt().with_env_filter(filter).with_writer(io::stderr);
    match format {
        LogFormat::Text => lines.with_ansi(colours()).finish().try_init(),
        LogFormat::Json => lines.json().flatten_event(true).with_current_span(false).finish().try_init(),
    }
    .map_err(Error::Twice)?;
    panic::set_hook(Box::new(|panic| {
        let message = panic.payload_as_str().unwrap_or("not text");
        let place = panic.location().map(ToString::to_string);
        tracing::error!(place, "panic: {message}");
    }));
    Ok(())
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
