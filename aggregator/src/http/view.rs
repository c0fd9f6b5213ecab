//! Answers as JSON.

use std::collections::BTreeMap;

use galen_proto::{
    cloudevent::kind_name,
    v1::{Event, GetStatusResponse, LossCounter, LossReason, Node, SearchEventsResponse, Support, SuppressionReason},
};
use galen_store::severity_name;
use serde::Serialize;
use serde_json::value::RawValue;
use time::{OffsetDateTime, format_description::BorrowedFormatItem, macros::format_description};
use utoipa::ToSchema;

const MILLIS: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");

/// A page of events.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Events {
    events: Vec<EventView>,
    /// Events that match, on all pages.
    total: u64,
    /// For the next page; absent if this is the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_page: Option<String>,
    /// By field: the most frequent values, at most 100.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    counts: BTreeMap<String, Vec<Count>>,
}

#[derive(Debug, Serialize, ToSchema)]
struct Count {
    value: String,
    count: u64,
}

/// What a tracer saw.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct EventView {
    /// `node/epoch/seq`.
    #[schema(example = "web-1/00c0ffee00c0ffee/42")]
    id: String,
    node: String,
    tracer: String,
    /// Joins the records of one run: its trigger and its capture.
    run_id: String,
    /// `trigger`, `capture` or `event`.
    kind: &'static str,
    /// `info`, `warning` or `critical`.
    severity: &'static str,
    summary: String,
    /// The rule that was met, the values and the thresholds.
    #[serde(skip_serializing_if = "String::is_empty")]
    explanation: String,
    /// When it was observed, by the node's wall clock.
    #[schema(example = "2026-11-22T10:00:00.123Z")]
    time: String,
    /// The same moment in nanoseconds since 1970-01-01 UTC.
    time_unix_nanos: i64,
    /// When it was handed to the node's buffer.
    recorded: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<HostView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    container: Option<ContainerView>,
    /// What the tracer found.
    #[schema(value_type = Object)]
    data: Option<Box<RawValue>>,
    /// `data` as it came, if it is not JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    data_text: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    attachments: Vec<AttachmentView>,
}

#[derive(Debug, Serialize, ToSchema)]
struct HostView {
    name: String,
    kernel: String,
    arch: String,
    boot_id: String,
    cpus: u32,
    #[serde(skip_serializing_if = "String::is_empty")]
    region: String,
}

#[derive(Debug, Serialize, ToSchema)]
struct ContainerView {
    #[serde(skip_serializing_if = "String::is_empty")]
    id: String,
    name: String,
    runtime: String,
    cgroup: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pod: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    namespace: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    image: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    qos: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    labels: BTreeMap<String, String>,
}

#[derive(Debug, Serialize, ToSchema)]
struct AttachmentView {
    name: String,
    media_type: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    encoding: String,
    /// Size as it is kept; absent in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<usize>,
}

impl From<SearchEventsResponse> for Events {
    fn from(found: SearchEventsResponse) -> Self {
        let count = |value: galen_proto::v1::ValueCount| Count { value: value.value, count: value.count };
        let counts = found.counts.into_iter();
        Self {
            events: found.events.into_iter().map(EventView::from).collect(),
            total: found.total,
            next_page: Some(found.next_page).filter(|page| !page.is_empty()),
            counts: counts.map(|field| (field.field, field.values.into_iter().map(count).collect())).collect(),
        }
    }
}

impl From<Event> for EventView {
    fn from(event: Event) -> Self {
        let id = event.id.unwrap_or_default();
        let times = event.times.unwrap_or_default();
        let data = serde_json::from_slice::<Box<RawValue>>(&event.data).ok();
        let data_text =
            (data.is_none() && !event.data.is_empty()).then(|| String::from_utf8_lossy(&event.data).into_owned());
        Self {
            id: id.to_string(),
            node: id.node,
            tracer: event.tracer,
            run_id: event.run_id,
            kind: kind_name(event.kind),
            severity: severity_name(event.severity),
            summary: event.summary,
            explanation: event.explanation,
            time: moment(times.observed_unix_nanos),
            time_unix_nanos: times.observed_unix_nanos,
            recorded: moment(times.recorded_unix_nanos),
            host: event.host.map(|host| HostView {
                name: host.name,
                kernel: host.kernel,
                arch: host.arch,
                boot_id: host.boot_id,
                cpus: host.cpus,
                region: host.region,
            }),
            container: event.container.map(|container| ContainerView {
                id: container.id,
                name: container.name,
                runtime: container.runtime,
                cgroup: container.cgroup,
                pod: container.pod,
                namespace: container.namespace,
                image: container.image,
                qos: container.qos,
                labels: container.labels.into_iter().collect(),
            }),
            data,
            data_text,
            attachments: event
                .attachments
                .into_iter()
                .map(|attachment| AttachmentView {
                    name: attachment.name,
                    media_type: attachment.media_type,
                    encoding: attachment.encoding,
                    bytes: Some(attachment.content.len()).filter(|bytes| *bytes > 0),
                })
                .collect(),
        }
    }
}

/// A machine with an agent.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct NodeView {
    name: String,
    /// To any replica.
    connected: bool,
    /// With Kafka: where it is connected, or was, host and port. If that is not the replica that answers, `tracers` and
    /// what only heartbeats tell is as of when it was there.
    #[serde(skip_serializing_if = "String::is_empty")]
    replica: String,
    agent_version: String,
    /// When anything last came from it.
    last_seen: String,
    tracers: Vec<TracerView>,
    /// Since the log began.
    events: u64,
    lost: Vec<LossView>,
    /// Recorded on the node and not acknowledged yet.
    backlog_events: u64,
    /// Of the node's buffer on disk.
    buffer_bytes: u64,
    /// The node's clock less the aggregator's.
    clock_offset_nanos: i64,
    /// Why the settings that the agent read last are not in use; empty if they are.
    settings_error: String,
}

#[derive(Debug, Serialize, ToSchema)]
struct TracerView {
    name: String,
    /// `full`, `degraded` or `unsupported`.
    support: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    reason: String,
    enabled: bool,
    /// Whether `enabled` is what the aggregator was asked for, and not the node's settings.
    overridden: bool,
    triggers: u64,
    captures: u64,
    failures: u64,
    #[serde(skip_serializing_if = "String::is_empty")]
    last_error: String,
    evaluations: u64,
    /// Triggers that were not told, or told with less evidence, by reason: `cooldown`, `budget`, `unsupported`.
    suppressed: BTreeMap<String, u64>,
    /// What the tracer compares with its threshold, at the last evaluation: the highest over all that it watches.
    value: f64,
    threshold: f64,
}

/// Observations that are gone.
#[derive(Debug, Serialize, ToSchema)]
struct LossView {
    /// Such as `buffer_full`.
    reason: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    tracer: String,
    count: u64,
}

impl From<LossCounter> for LossView {
    fn from(lost: LossCounter) -> Self {
        Self { reason: loss_name(lost.reason), tracer: lost.tracer, count: lost.count }
    }
}

/// `buffer_full` for `LOSS_REASON_BUFFER_FULL`.
pub(super) fn loss_name(reason: i32) -> String {
    let known = LossReason::try_from(reason).map_or("UNKNOWN", |reason| reason.as_str_name());
    known.trim_start_matches("LOSS_REASON_").to_lowercase()
}

impl From<Node> for NodeView {
    fn from(node: Node) -> Self {
        let tracer = |tracer: galen_proto::v1::TracerStatus| {
            let support = Support::try_from(tracer.support).map_or("UNKNOWN", |support| support.as_str_name());
            TracerView {
                name: tracer.name,
                support: support.trim_start_matches("SUPPORT_").to_lowercase(),
                reason: tracer.reason,
                enabled: tracer.enabled,
                overridden: tracer.overridden,
                triggers: tracer.triggers,
                captures: tracer.captures,
                failures: tracer.failures,
                last_error: tracer.last_error,
                evaluations: tracer.evaluations,
                suppressed: tracer.suppressed.iter().map(|one| (suppression(one.reason()), one.count)).collect(),
                value: tracer.value,
                threshold: tracer.threshold,
            }
        };
        Self {
            name: node.name,
            connected: node.connected,
            replica: node.replica,
            agent_version: node.agent_version,
            last_seen: moment(node.last_seen_unix_nanos),
            tracers: node.tracers.into_iter().map(tracer).collect(),
            events: node.events,
            lost: node.lost.into_iter().map(LossView::from).collect(),
            backlog_events: node.backlog_events,
            buffer_bytes: node.buffer_bytes,
            clock_offset_nanos: node.clock_offset_nanos,
            settings_error: node.settings_error,
        }
    }
}

fn suppression(reason: SuppressionReason) -> String {
    reason.as_str_name().trim_start_matches("SUPPRESSION_REASON_").to_lowercase()
}

/// How the aggregator is.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct StatusView {
    version: String,
    started: String,
    agents_connected: u32,
    /// Offset that the next event in the log will have.
    log_next_offset: u64,
    log_first_offset: u64,
    log_bytes: u64,
    /// Events below this offset can be found.
    store_next_offset: u64,
    store_events: u64,
    store_bytes: u64,
    /// Since the start, as are those that follow.
    received: u64,
    duplicates: u64,
    stored: u64,
    quarantined: u64,
    lost: Vec<LossView>,
    /// What is wrong, one line each.
    problems: Vec<String>,
}

impl From<GetStatusResponse> for StatusView {
    fn from(status: GetStatusResponse) -> Self {
        Self {
            version: status.version,
            started: moment(status.started_unix_nanos),
            agents_connected: status.agents_connected,
            log_next_offset: status.log_next_offset,
            log_first_offset: status.log_first_offset,
            log_bytes: status.log_bytes,
            store_next_offset: status.store_next_offset,
            store_events: status.store_events,
            store_bytes: status.store_bytes,
            received: status.received,
            duplicates: status.duplicates,
            stored: status.stored,
            quarantined: status.quarantined,
            lost: status.lost.into_iter().map(LossView::from).collect(),
            problems: status.problems,
        }
    }
}

/// RFC 3339, UTC, with milliseconds.
pub(super) fn moment(unix_nanos: i64) -> String {
    let moment = OffsetDateTime::from_unix_timestamp_nanos(unix_nanos.into()).ok();
    moment.and_then(|moment| moment.format(MILLIS).ok()).unwrap_or_else(|| unix_nanos.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_rfc_3339_with_milliseconds() {
        assert_eq!(moment(1_763_985_600_123_456_789), "2025-11-24T12:00:00.123Z");
        assert_eq!(moment(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(moment(i64::MIN), "1677-09-21T00:12:43.145Z");
    }

    #[test]
    fn data_that_is_not_json_is_shown_as_text() {
        let view = EventView::from(Event { data: b"{\"a\":\xff".to_vec().into(), ..Event::default() });
        let json = serde_json::to_value(&view).unwrap();
        assert_eq!((&json["data"], &json["data_text"]), (&serde_json::Value::Null, &"{\"a\":\u{fffd}".into()));
    }
}
