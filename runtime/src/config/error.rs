//! What is wrong with the settings, and where.

use std::{fmt, io, path::PathBuf};

/// Where a setting came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    Default,
    File {
        path: PathBuf,
        /// Counted from 1.
        line: usize,
    },
    Environment {
        variable: String,
    },
    Argument {
        key: String,
    },
}

/// Why the settings could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error("failed to read `{path}`")]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{origin}: not TOML: {message}")]
    Syntax { origin: Origin, message: String },
    #[error("{origin}: there is no setting `{key}`{}", hint(nearest))]
    UnknownKey { origin: Origin, key: String, nearest: Option<String> },
    #[error("{origin}: `{key}`: {message}")]
    Value { origin: Origin, key: String, message: String },
    #[error("the default settings cannot be written as TOML")]
    Defaults(#[source] toml::ser::Error),
}

fn hint(nearest: &Option<String>) -> String {
    nearest.as_ref().map(|key| format!(", did you mean `{key}`?")).unwrap_or_default()
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Environment { variable } => write!(f, "environment variable {variable}"),
            Self::Argument { key } => write!(f, "argument {key}"),
        }
    }
}
