//! `galen status`: how the aggregator is, and how far its store is behind its log.

use std::io::{self, Write};

use galen_proto::v1::{GetStatusRequest, GetStatusResponse, LossCounter, LossReason};
use galen_runtime::Size;

use crate::{
    arguments::{Listing, Output},
    client::Client,
    error::Error,
    moment,
    output::{Colour, Style, json_line, name_of, plain, status_json},
};

pub(crate) async fn run(mut client: Client, listing: Listing) -> Result<(), Error> {
    let status = client.get_status(GetStatusRequest {}).await?.into_inner();
    let mut out = io::stdout().lock();
    match listing.output {
        Output::Json => writeln!(out, "{}", json_line(&status_json(&status)))?,
        Output::Table => write(&mut out, Style::of_stdout(), &status)?,
    }
    Ok(())
}

fn write(out: &mut impl Write, style: Style, status: &GetStatusResponse) -> io::Result<()> {
    let mut field = |name: &str, value: String| {
        writeln!(out, "{}{}", style.paint(Colour::Dim, format_args!("{name:<12}")), plain(&value))
    };
    field("version", status.version.clone())?;
    field("started", format!("{} ago", moment::ago(status.started_unix_nanos)))?;
    field("agents", format!("{} connected", status.agents_connected))?;
    field(
        "log",
        format!(
            "{} events, offsets {} to {}, {}",
            status.log_next_offset.saturating_sub(status.log_first_offset),
            status.log_first_offset,
            status.log_next_offset,
            size(status.log_bytes),
        ),
    )?;
    let behind = status.log_next_offset.saturating_sub(status.store_next_offset);
    field("store", format!("{} events, {}, {behind} behind the log", status.store_events, size(status.store_bytes)))?;
    field("received", format!("{}, of them {} duplicates", status.received, status.duplicates))?;
    field("stored", status.stored.to_string())?;
    field("quarantined", status.quarantined.to_string())?;
    field("lost", losses(&status.lost))?;
    if status.problems.is_empty() {
        return writeln!(out, "{}", style.paint(Colour::Green, "all is well"));
    }
    let lines = status.problems.iter().map(|problem| style.paint(Colour::Red, plain(problem)));
    lines.into_iter().try_for_each(|line| writeln!(out, "{line}"))
}

/// In words, such as `12 (buffer_full 10, ring_full 2)`.
pub(crate) fn losses(counters: &[LossCounter]) -> String {
    let total: u64 = counters.iter().map(|counter| counter.count).sum();
    if total == 0 {
        return "0".into();
    }
    let reason = |counter: &LossCounter| {
        let reason = name_of::<LossReason>(counter.reason, LossReason::as_str_name, "LOSS_REASON_");
        let tracer = if counter.tracer.is_empty() { String::new() } else { format!(" of {}", counter.tracer) };
        format!("{reason}{tracer} {}", counter.count)
    };
    let reasons: Vec<_> = counters.iter().filter(|counter| counter.count > 0).map(reason).collect();
    format!("{total} ({})", reasons.join(", "))
}

/// To one digit, in the unit that fits.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [(&str, u64); 3] = [("GiB", Size::gib(1).0), ("MiB", Size::mib(1).0), ("KiB", Size::kib(1).0)];
    match UNITS.iter().find(|(_, unit)| bytes >= *unit) {
        Some((name, unit)) => format!("{}.{} {name}", bytes / unit, bytes % unit * 10 / unit),
        None => format!("{bytes} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_one_digit() {
        assert_eq!([size(0), size(1536), size(64 << 20)], ["0 B", "1.5 KiB", "64.0 MiB"]);
    }

    #[test]
    fn losses_name_their_reasons() {
        let counter = |reason: LossReason, tracer: &str, count| LossCounter {
            reason: reason.into(),
            tracer: tracer.into(),
            count,
        };
        assert_eq!(losses(&[]), "0");
        assert_eq!(
            losses(&[counter(LossReason::BufferFull, "", 10), counter(LossReason::RingFull, "oom", 2)]),
            "12 (buffer_full 10, ring_full of oom 2)"
        );
    }
}
