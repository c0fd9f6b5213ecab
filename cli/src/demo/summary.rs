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
    let data: Value = serde_json::from_slice(&trigger.data).unwrap_or_default();
    writeln!(out, "\n{}", heading("Rule"))?;
    for (name, value) in data.as_object().into_iter().flatten() {
        writeln!(out, "  {:<28} {}", plain(name), plain(&value.to_string()))?;
    }
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
