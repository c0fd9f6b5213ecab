//! JSON lines, for programs.

use std::{collections::BTreeMap, fmt::Write as _};

use galen_proto::v1::{
    Event, EventKind, GetLedgerResponse, GetStatusResponse, Incident, IncidentState, Ledger, LossCounter, LossReason,
    Node, NodeLedger, Overflow, QuarantineReason, Severity, Support, Suppression, SuppressionReason, TracerStatus,
};
use serde_json::{Map, Value, json};

use super::plain::acts;
use crate::moment::rfc3339;

/// An object on one line. Characters that a terminal would obey are escaped, also those that JSON would let stand.
pub(crate) fn line(value: &Value) -> String {
    let text = value.to_string();
    if !text.chars().any(acts) {
        return text;
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if acts(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                // Writing to a string cannot fail.
                let _ = write!(out, "\\u{unit:04x}");
            }
        } else {
            out.push(c);
        }
    }
    out
}

/// An event, with its data as part of the object. Attachments have their size only.
pub(crate) fn event(event: &Event) -> Value {
    let times = event.times.unwrap_or_default();
    let mut object = json!({
        "id": event.id.as_ref().map(ToString::to_string),
        "tracer": event.tracer,
        "run_id": event.run_id,
        "kind": name_of::<EventKind>(event.kind, |kind| kind.as_str_name(), "EVENT_KIND_"),
        "severity": name_of::<Severity>(event.severity, |severity| severity.as_str_name(), "SEVERITY_"),
        "summary": event.summary,
        "explanation": event.explanation,
        "observed": rfc3339(times.observed_unix_nanos),
        "recorded": rfc3339(times.recorded_unix_nanos),
        "observed_boot_nanos": times.observed_boot_nanos,
    });
    if let Some(host) = &event.host {
        object["host"] = filled(json!({
            "name": host.name, "kernel": host.kernel, "arch": host.arch, "boot_id": host.boot_id, "cpus": host.cpus,
            "region": host.region,
        }));
    }
    if let Some(container) = &event.container {
        let labels: Map<_, _> = container.labels.iter().map(|(k, v)| (k.clone(), json!(v))).collect();
        object["container"] = filled(json!({
            "id": container.id, "name": container.name, "runtime": container.runtime, "cgroup": container.cgroup,
            "pod": container.pod, "namespace": container.namespace, "qos": container.qos, "image": container.image,
            "labels": labels,
        }));
    }
    object["data"] = serde_json::from_slice(&event.data).unwrap_or(Value::Null);
    object["attachments"] = event
        .attachments
        .iter()
        .map(|attachment| {
            let mut object = json!({ "name": attachment.name, "media_type": attachment.media_type });
            if !attachment.encoding.is_empty() {
                object["encoding"] = json!(attachment.encoding);
            }
            // A list of events comes without them.
            if !attachment.content.is_empty() {
                object["bytes"] = json!(attachment.content.len());
            }
            object
        })
        .collect();
    object
}

pub(crate) fn incident(incident: &Incident) -> Value {
    let exemplars = incident.exemplars.iter().map(|one| {
        filled(json!({
            "event": one.event,
            "kind": name_of::<EventKind>(one.kind, |kind| kind.as_str_name(), "EVENT_KIND_"),
            "container": one.container,
            "observed": rfc3339(one.observed_unix_nanos),
            "summary": one.summary,
        }))
    });
    json!({
        "id": incident.id,
        "fingerprint": incident.fingerprint,
        "tracer": incident.tracer,
        "workload": incident.workload,
        "frames": incident.frames,
        "severity": name_of::<Severity>(incident.severity, |severity| severity.as_str_name(), "SEVERITY_"),
        "state": name_of::<IncidentState>(incident.state, |state| state.as_str_name(), "INCIDENT_STATE_"),
        "runs": incident.runs,
        "presumed_runs": incident.presumed_runs,
        "events": incident.events,
        "captures": incident.captures,
        "nodes": incident.nodes,
        "more_nodes": incident.more_nodes,
        "containers": incident.containers,
        "more_containers": incident.more_containers,
        "first": rfc3339(incident.first_unix_nanos),
        "last": rfc3339(incident.last_unix_nanos),
        "first_observed": rfc3339(incident.first_observed_unix_nanos),
        "last_observed": rfc3339(incident.last_observed_unix_nanos),
        "exemplars": exemplars.collect::<Value>(),
    })
}

/// What found no room, as an incident of that name.
pub(crate) fn overflow(name: &str, overflow: &Overflow) -> Value {
    json!({ "id": name, "incidents": overflow.incidents, "runs": overflow.runs, "events": overflow.events })
}

pub(crate) fn node(node: &Node) -> Value {
    json!({
        "name": node.name,
        "connected": node.connected,
        "replica": (!node.replica.is_empty()).then(|| node.replica.clone()),
        "agent_version": node.agent_version,
        "last_seen": rfc3339(node.last_seen_unix_nanos),
        "events": node.events,
        "backlog_events": node.backlog_events,
        "buffer_bytes": node.buffer_bytes,
        "clock_offset_nanos": node.clock_offset_nanos,
        "settings_error": node.settings_error,
        "lost": lost(&node.lost),
        "tracers": node.tracers.iter().map(tracer).collect::<Value>(),
    })
}

pub(crate) fn status(status: &GetStatusResponse) -> Value {
    json!({
        "version": status.version,
        "started": rfc3339(status.started_unix_nanos),
        "agents_connected": status.agents_connected,
        "log_first_offset": status.log_first_offset,
        "log_next_offset": status.log_next_offset,
        "log_bytes": status.log_bytes,
        "store_next_offset": status.store_next_offset,
        "store_events": status.store_events,
        "store_bytes": status.store_bytes,
        "received": status.received,
        "duplicates": status.duplicates,
        "stored": status.stored,
        "quarantined": status.quarantined,
        "lost": lost(&status.lost),
        "problems": status.problems,
    })
}

/// The sum of all nodes.
pub(crate) fn ledger(answer: &GetLedgerResponse) -> Value {
    let mut object = terms(&answer.total.clone().unwrap_or_default());
    object["unbalanced_nodes"] = answer.unbalanced.into();
    object["uncopied_records"] = answer.uncopied_records.into();
    object
}

pub(crate) fn node_ledger(node: &NodeLedger) -> Value {
    let mut object = terms(&node.ledger.clone().unwrap_or_default());
    object["node"] = node.node.clone().into();
    object["connected"] = node.connected.into();
    object["replica"] = (!node.replica.is_empty()).then(|| node.replica.clone()).into();
    object["told"] = (node.told_unix_nanos != 0).then(|| rfc3339(node.told_unix_nanos)).into();
    object["backlog_events"] = node.backlog_events.into();
    object
}

fn terms(ledger: &Ledger) -> Value {
    let quarantined = ledger.quarantined.iter().map(|one| {
        let reason = name_of::<QuarantineReason>(one.reason, |reason| reason.as_str_name(), "QUARANTINE_REASON_");
        (reason, one.count.into())
    });
    let mut left_out: BTreeMap<&str, BTreeMap<&str, u64>> = BTreeMap::new();
    for one in &ledger.left_out {
        left_out.entry(&one.tracer).or_default().insert(&one.tenant, one.count);
    }
    json!({
        "observed": ledger.observed,
        "delivered": ledger.delivered,
        "suppressed": by_reason(&ledger.suppressed),
        "left_out": left_out,
        "dropped": by_reason(&ledger.dropped),
        "quarantined": quarantined.collect::<Map<_, _>>(),
        "buffered": ledger.buffered,
        "unaccounted": ledger.unaccounted,
        "unseen": by_reason(&ledger.unseen),
    })
}

fn by_reason(counters: &[LossCounter]) -> Value {
    let name = |reason| name_of::<LossReason>(reason, |reason| reason.as_str_name(), "LOSS_REASON_");
    counters.iter().map(|counter| (name(counter.reason), counter.count.into())).collect::<Map<_, _>>().into()
}

pub(crate) fn tracer(tracer: &TracerStatus) -> Value {
    json!({
        "name": tracer.name,
        "support": name_of::<Support>(tracer.support, |support| support.as_str_name(), "SUPPORT_"),
        "reason": tracer.reason,
        "enabled": tracer.enabled,
        "overridden": tracer.overridden,
        "triggers": tracer.triggers,
        "captures": tracer.captures,
        "failures": tracer.failures,
        "last_error": tracer.last_error,
        "evaluations": tracer.evaluations,
        "suppressed": tracer.suppressed.iter().map(suppression).collect::<serde_json::Map<_, _>>(),
        "value": tracer.value,
        "threshold": tracer.threshold,
    })
}

fn suppression(one: &Suppression) -> (String, Value) {
    let name = name_of::<SuppressionReason>(one.reason, |reason| reason.as_str_name(), "SUPPRESSION_REASON_");
    (name, one.count.into())
}

fn lost(counters: &[LossCounter]) -> Value {
    let object = |counter: &LossCounter| {
        filled(json!({
            "reason": name_of::<LossReason>(counter.reason, |reason| reason.as_str_name(), "LOSS_REASON_"),
            "tracer": counter.tracer,
            "count": counter.count,
        }))
    };
    counters.iter().map(object).collect()
}

/// The name of an enum value as the wire contract has it, without its prefix and in lower case; the number of one that
/// is not known here.
pub(crate) fn name_of<E: TryFrom<i32>>(value: i32, name: fn(&E) -> &'static str, prefix: &str) -> String {
    match E::try_from(value) {
        Ok(known) => name(&known).trim_start_matches(prefix).to_lowercase(),
        Err(_) => value.to_string(),
    }
}

/// Without the members that say nothing.
fn filled(mut object: Value) -> Value {
    if let Some(members) = object.as_object_mut() {
        members.retain(|_, value| match value {
            Value::String(text) => !text.is_empty(),
            Value::Object(members) => !members.is_empty(),
            _ => true,
        });
    }
    object
}

#[cfg(test)]
mod tests {
    use galen_proto::v1::{Attachment, Container, EventId, Times};

    use super::*;

    #[test]
    fn an_event_is_one_object_on_one_line() {
        let observed = Event {
            id: Some(EventId { node: "web-1".into(), epoch: 0xc0ffee, seq: 7 }),
            tracer: "cpuidle".into(),
            kind: EventKind::Trigger.into(),
            severity: 99,
            summary: "evil \x1b]0;title\x07 \u{9b}2J".into(),
            times: Some(Times { observed_unix_nanos: 1_500_000_000, ..Times::default() }),
            container: Some(Container { name: "shop".into(), ..Container::default() }),
            data: b"{\n \"user_percent\": 93.5\n}".to_vec().into(),
            attachments: vec![Attachment { name: "cpu.pb.gz".into(), ..Attachment::default() }],
            ..Event::default()
        };
        let text = line(&event(&observed));
        assert!(!text.chars().any(acts), "{text}");
        let read: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(read["id"], "web-1/0000000000c0ffee/7");
        assert_eq!((&read["kind"], &read["severity"]), (&json!("trigger"), &json!("99")));
        assert_eq!(read["summary"], observed.summary);
        assert_eq!(read["observed"], "1970-01-01T00:00:01.5Z");
        assert_eq!(read["container"], json!({ "name": "shop" }));
        assert_eq!(read["data"], json!({ "user_percent": 93.5 }));
        assert_eq!(read["attachments"], json!([{ "name": "cpu.pb.gz", "media_type": "" }]));
    }

    #[test]
    fn data_that_is_not_json_is_null() {
        assert_eq!(event(&Event { data: b"\xff".to_vec().into(), ..Event::default() })["data"], Value::Null);
    }
}
