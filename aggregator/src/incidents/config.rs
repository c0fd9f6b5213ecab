//! The settings of incidents.

use std::time::Duration;

use galen_incidents::{Limits, Silence};
use galen_runtime::{Size, Span};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::Invalid;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Whether events are joined. If not, questions about incidents are refused.
    pub enabled: bool,
    /// An incident of which nothing came for so long is quiet.
    pub quiet_after: Span,
    /// An incident of which nothing came for so long is closed: what comes next is another one.
    pub close_after: Span,
    /// Most incidents that are kept, closed ones included. Beyond it, those go of which nothing came for the longest
    /// time; if they were not closed, they are counted as `__overflow__`.
    pub max: u32,
    /// Memory of all incidents, beyond which they go likewise. A quarter of it is for runs whose capture is to come.
    pub memory: Size,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            enabled: true,
            quiet_after: Span::from_secs(10 * 60),
            close_after: Span::from_secs(3600),
            max: 10_000,
            memory: Size::mib(64),
        }
    }
}

impl TryFrom<Config> for Limits {
    type Error = Invalid;

    fn try_from(config: Config) -> Result<Self, Invalid> {
        let require = |met: bool, key, must| if met { Ok(()) } else { Err(Invalid::Range { key, must }) };
        let Config { enabled: _, quiet_after, close_after, max, memory } = config;
        let quiet = Duration::from_secs(1)..=Duration::from_secs(30 * 24 * 3600);
        require(quiet.contains(&quiet_after.0), "incidents.quiet_after", "be from 1s to 30days")?;
        let close = quiet_after.0..=Duration::from_secs(30 * 24 * 3600);
        require(close.contains(&close_after.0), "incidents.close_after", "be from incidents.quiet_after to 30days")?;
        require((1..=1_000_000).contains(&max), "incidents.max", "be from 1 to 1000000")?;
        let memory_range = Size::mib(1)..=Size::gib(64);
        require(memory_range.contains(&memory), "incidents.memory", "be from 1MiB to 64GiB")?;
        // At most 30 days.
        let nanos = |span: Span| span.0.as_nanos() as i64;
        Ok(Self {
            max: max as usize,
            memory: memory.0 as usize,
            silence: Silence { quiet: nanos(quiet_after), closed: nanos(close_after) },
        })
    }
}
