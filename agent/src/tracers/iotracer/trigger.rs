//! What is said at once: the disk, the rule, the values and the thresholds.

use serde::Serialize;

use super::{disk::Disk, rule::Rule, settings::Settings, watch::Saturated, window::IoStatus};
use crate::tracer::round;

/// `data` of a trigger.
#[derive(Debug, Serialize)]
pub(super) struct Trigger {
    reason_snapshot: Snapshot,
    /// The same a window earlier, when the rule was met too.
    iostatus_before: IoStatus,
    /// The disks that this one is made of, or that its file lies on.
    disks_below: Vec<String>,
    util_threshold: f64,
    rbps_threshold: f64,
    wbps_threshold: f64,
    /// Milliseconds.
    await_threshold: f64,
    window_seconds: f64,
    /// Whether a capture follows, and if not, why.
    capture: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    no_capture_because: Option<String>,
}

/// What met the rule.
#[derive(Debug, Clone, Serialize)]
struct Snapshot {
    #[serde(rename = "type")]
    rule: Rule,
    device: String,
    major_num: u32,
    minor_num: u32,
    iostatus: IoStatus,
    summary: String,
}

impl Trigger {
    pub(super) fn new(saturated: &Saturated, settings: &Settings, no_capture: Option<String>) -> Self {
        let Disk { name, major, minor } = &saturated.disk;
        let thresholds = &settings.thresholds;
        Self {
            reason_snapshot: Snapshot {
                rule: saturated.rule,
                device: name.clone(),
                major_num: *major,
                minor_num: *minor,
                iostatus: saturated.now.rounded(),
                summary: summary(saturated),
            },
            iostatus_before: saturated.before.rounded(),
            disks_below: saturated.disk.below().into_iter().map(|disk| disk.name).collect(),
            util_threshold: thresholds.utilisation,
            rbps_threshold: thresholds.read,
            wbps_threshold: thresholds.written,
            await_threshold: thresholds.wait_milliseconds(),
            window_seconds: settings.window.as_secs_f64(),
            capture: no_capture.is_none(),
            no_capture_because: no_capture,
        }
    }
}

/// What happened, to which disk, by how much.
pub(super) fn summary(saturated: &Saturated) -> String {
    let (name, now) = (&saturated.disk.name, &saturated.now);
    match saturated.rule {
        Rule::Utilisation if now.read_iops + now.write_iops == 0.0 => {
            format!("disk {name} is stuck: it was busy and completed nothing")
        }
        Rule::Utilisation => format!(
            "disk {name} is saturated: busy {:.0}% of the time, {} read and {} written a second",
            now.io_util,
            mebibytes(now.read_bps),
            mebibytes(now.write_bps)
        ),
        Rule::ReadBps => format!("disk {name} is saturated: {} read a second", mebibytes(now.read_bps)),
        Rule::WriteBps => format!("disk {name} is saturated: {} written a second", mebibytes(now.write_bps)),
        Rule::ReadAwait => format!("disk {name} is slow: a read takes {:.0} ms", now.read_await),
        Rule::WriteAwait => format!("disk {name} is slow: a write takes {:.0} ms", now.write_await),
    }
}

/// The rule that was met, with the values and the thresholds.
pub(super) fn explanation(saturated: &Saturated, settings: &Settings) -> String {
    let Saturated { disk, rule, now, before } = saturated;
    let thresholds = &settings.thresholds;
    let busy = format!(
        "was busy {:.1} % of the time, and {:.1} % in the window before (rule: over {} %)",
        now.io_util, before.io_util, thresholds.utilisation
    );
    let bandwidth = |what: &str, value: f64, earlier: f64, threshold: f64| {
        format!(
            "{busy}; it {what} {} a second, and {} in the window before (rule for NVMe: over {})",
            mebibytes(value),
            mebibytes(earlier),
            mebibytes(threshold)
        )
    };
    let slow = |what: &str, value: f64, earlier: f64| {
        format!(
            "took {value:.1} ms for a {what} on average, and {earlier:.1} ms in the window before (rule: over {} ms)",
            thresholds.wait_milliseconds()
        )
    };
    let what = match rule {
        Rule::Utilisation => busy,
        Rule::ReadBps => bandwidth("read", now.read_bps, before.read_bps, thresholds.read),
        Rule::WriteBps => bandwidth("wrote", now.write_bps, before.write_bps, thresholds.written),
        Rule::ReadAwait => slow("read", now.read_await, before.read_await),
        Rule::WriteAwait => slow("write", now.write_await, before.write_await),
    };
    format!("Over {} s, {} {what}.", settings.window.as_secs_f64(), disk.name)
}

pub(super) fn mebibytes(bytes: f64) -> String {
    let mebibytes = bytes / f64::from(1 << 20);
    if mebibytes < 10.0 { format!("{mebibytes:.1} MiB") } else { format!("{mebibytes:.0} MiB") }
}

impl IoStatus {
    fn rounded(self) -> Self {
        Self {
            read_bps: round(self.read_bps),
            read_iops: round(self.read_iops),
            read_await: round(self.read_await),
            write_bps: round(self.write_bps),
            write_iops: round(self.write_iops),
            write_await: round(self.write_await),
            io_util: round(self.io_util),
            queue_size: round(self.queue_size),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tracers::iotracer::Raw;

    fn saturated(rule: Rule) -> Saturated {
        let disk = Disk { name: "sda".into(), major: 8, minor: 0 };
        let now = IoStatus { io_util: 97.25, write_await: 250.0, write_iops: 4.0, ..IoStatus::default() };
        Saturated { disk, rule, now, before: IoStatus { io_util: 93.0, write_await: 180.0, ..now } }
    }

    #[test]
    fn the_rule_is_told_with_values_and_thresholds_of_both_windows() {
        let settings = Settings::try_from(Raw::default()).unwrap();
        assert_eq!(
            explanation(&saturated(Rule::Utilisation), &settings),
            "Over 5 s, sda was busy 97.2 % of the time, and 93.0 % in the window before (rule: over 90 %)."
        );
        assert_eq!(
            explanation(&saturated(Rule::WriteAwait), &settings),
            "Over 5 s, sda took 250.0 ms for a write on average, and 180.0 ms in the window before (rule: over 100 ms)."
        );
    }

    #[test]
    fn the_snapshot_has_the_names_that_queries_use() {
        let settings = Settings::try_from(Raw::default()).unwrap();
        let data = serde_json::to_value(Trigger::new(&saturated(Rule::WriteAwait), &settings, None)).unwrap();
        let snapshot = &data["reason_snapshot"];
        assert_eq!((snapshot["type"].as_str(), snapshot["device"].as_str()), (Some("write_await"), Some("sda")));
        assert_eq!((&snapshot["major_num"], &snapshot["minor_num"]), (&8.into(), &0.into()));
        assert_eq!(snapshot["iostatus"]["io_util"], 97.25);
        assert_eq!((&data["capture"], &data["await_threshold"]), (&true.into(), &100.0.into()));
    }
}
