//! `[tracers.oom]`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::tracer::RawSettings;

/// Kills by the kernel's OOM killer.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Raw {
    /// Whether the tracer runs.
    pub enabled: bool,
}

impl Default for Raw {
    fn default() -> Self {
        Self { enabled: true }
    }
}

impl RawSettings for Raw {
    fn enabled(&self) -> bool {
        self.enabled
    }
}

/// There is nothing to validate.
#[derive(Debug, Clone, Copy)]
pub struct Settings;

impl From<Raw> for Settings {
    fn from(_: Raw) -> Self {
        Self
    }
}
