//! What was caught, for people.

use std::{
    io::{self, Write},
    net::SocketAddr,
};

use galen_proto::v1::Event;
use serde_json::Value;

use crate::output::{Colour, StackTree, Style, plain};

/// Branches of less are left out, and so is what comes after this many lines.
const MIN_PERCENT: f64 = 1.0;
const LINES: usize = 25;

pub(super) struct Caught<'a> {
    pub(super) trigger: &'a Event,
    pub(super) capture: &'a Event,
    pub(super) stacks: &'a StackTree,
    pub(super) grpc: SocketAddr,
    pub(super) http: SocketAddr,
}

pub(super) fn write(out: &mut impl Write, style: Style, caught: &Caught<'_>) -> io::Result<()> {
    let Caught { trigger, capture, stacks, grpc, http } = caught;
    let heading = |text: &str| style.paint(Colour::Bold, text);
    writeln!(out, "\n{}", heading("Caught"))?;
    writeln!(out, "  {}", plain(&trigger.summary))?;
    writeln!(out, "  {}", plain(&capture.summary))?;
    writeln!(out, "\n{}", heading("Rules"))?;
    rules(out, style, &serde_json::from_slice(&trigger.data).unwrap_or_default())?;
    writeln!(out, "\n{}", heading("Hottest stacks"))?;
    stacks.write(out, style, MIN_PERCENT, LINES)?;
    let id = capture.id.as_ref().map(ToString::to_string).unwrap_or_default();
    let id = plain(&id);
    writeln!(out, "\n{}", heading("Look at it"))?;
    writeln!(out, "  event   {id}")?;
    writeln!(out, "  page    {}", style.paint(Colour::Green, format_args!("http://{http}/events/{id}")))?;
    writeln!(out, "  query   galen --aggregator http://{grpc} events 'tracer:cpuidle'")?;
    writeln!(out, "  flame   galen --aggregator http://{grpc} flame {id}")
}

/// A line a rule: values and thresholds, in percent of what the cgroup may use, increases in percentage points.
fn rules(out: &mut impl Write, style: Style, data: &Value) -> io::Result<()> {
    let header = format!("  {:<8}{:>8}{:>11}{:>10}{:>11}", "", "usage", "threshold", "increase", "threshold");
    writeln!(out, "{}", style.paint(Colour::Dim, header))?;
    for rule in ["user", "system", "total"] {
        let value = |suffix: &str| data[format!("{rule}_percent{suffix}")].as_f64().unwrap_or_default();
        let met = data["rules"].as_array().is_some_and(|rules| rules.iter().any(|met| met == rule));
        let line = format!(
            "  {rule:<8}{:>7.1}%{:>10.0}%{:>10.1}{:>11.0}  {}",
            value(""),
            value("_threshold"),
            value("_delta"),
            value("_delta_threshold"),
            if met { "met" } else { "" },
        );
        let line = line.trim_end();
        writeln!(out, "{}", if met { style.paint(Colour::Yellow, line) } else { line.to_owned() })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_stand_beside_their_thresholds() {
        let data = json!({
            "user_percent": 98.76, "user_percent_threshold": 75.0,
            "user_percent_delta": 98.7, "user_percent_delta_threshold": 45.0,
            "rules": ["user"],
        });
        let mut out = Vec::new();
        rules(&mut out, Style::none(), &data).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains("\n  user       98.8%        75%      98.7         45  met\n"), "{text}");
        assert!(text.contains("\n  system      0.0%"), "{text}");
    }
}
