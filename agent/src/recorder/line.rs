//! The line of a record file: one JSON object an event, UTF-8, ended by a newline.
//!
//! | Key | Value |
//! |---|---|
//! | `id` | `node/epoch/seq` as the aggregator names the event; `null` if the buffer did not take it, or not in time |
//! | `without_id` | why `id` is `null`; absent otherwise |
//! | `node`, `tracer`, `run_id`, `kind`, `severity`, `summary`, `explanation` | as in the event; kind and severity in lower case |
//! | `observed`, `recorded` | RFC 3339, UTC, nanoseconds |
//! | `observed_boot_nanos` | nanoseconds since boot |
//! | `host`, `container` | as in the event; `container` is `null` for the whole host |
//! | `data` | the tracer's own object |
//! | `attachments` | name, media type, encoding, bytes, and the file beside this one that holds it |

use std::collections::{BTreeMap, HashMap};

use galen_proto::v1;
use serde::Serialize;
use serde_json::value::RawValue;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

#[derive(Serialize)]
struct Json<'a> {
    id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    without_id: Option<&'a str>,
    node: &'a str,
    tracer: &'a str,
    run_id: &'a str,
    kind: String,
    severity: String,
    summary: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    explanation: &'a str,
    observed: String,
    recorded: String,
    observed_boot_nanos: u64,
    host: Option<Host<'a>>,
    container: Option<Container<'a>>,
    data: &'a RawValue,
    attachments: Vec<Attachment<'a>>,
}

#[derive(Serialize)]
struct Host<'a> {
    name: &'a str,
    kernel: &'a str,
    arch: &'a str,
    boot_id: &'a str,
    cpus: u32,
    region: &'a str,
}

#[derive(Serialize)]
struct Container<'a> {
    id: &'a str,
    name: &'a str,
    runtime: &'a str,
    cgroup: &'a str,
    pod: &'a str,
    namespace: &'a str,
    labels: BTreeMap<&'a str, &'a str>,
    qos: &'a str,
    image: &'a str,
}

#[derive(Serialize)]
struct Attachment<'a> {
    name: &'a str,
    media_type: &'a str,
    encoding: &'a str,
    bytes: usize,
    file: String,
}

/// The event as a line; `id` is its identity, or why it has none.
pub(super) fn write(node: &str, event: &v1::Event, id: Result<String, &str>) -> Result<Vec<u8>, serde_json::Error> {
    let data = std::str::from_utf8(&event.data).map_err(serde::ser::Error::custom)?;
    let times = event.times.unwrap_or_default();
    let json = Json {
        without_id: id.as_ref().err().copied(),
        id: id.ok(),
        node,
        tracer: &event.tracer,
        run_id: &event.run_id,
        kind: short(event.kind().as_str_name(), "EVENT_KIND_"),
        severity: short(event.severity().as_str_name(), "SEVERITY_"),
        summary: &event.summary,
        explanation: &event.explanation,
        observed: rfc3339(times.observed_unix_nanos),
        recorded: rfc3339(times.recorded_unix_nanos),
        observed_boot_nanos: times.observed_boot_nanos,
        host: event.host.as_ref().map(|host| Host {
            name: &host.name,
            kernel: &host.kernel,
            arch: &host.arch,
            boot_id: &host.boot_id,
            cpus: host.cpus,
            region: &host.region,
        }),
        container: event.container.as_ref().map(|container| Container {
            id: &container.id,
            name: &container.name,
            runtime: &container.runtime,
            cgroup: &container.cgroup,
            pod: &container.pod,
            namespace: &container.namespace,
            labels: sorted(&container.labels),
            qos: &container.qos,
            image: &container.image,
        }),
        data: serde_json::from_str(data)?,
        attachments: event
            .attachments
            .iter()
            .map(|attachment| Attachment {
                name: &attachment.name,
                media_type: &attachment.media_type,
                encoding: &attachment.encoding,
                bytes: attachment.content.len(),
                file: file_name(&event.run_id, &attachment.name),
            })
            .collect(),
    };
    let mut line = serde_json::to_vec(&json)?;
    line.push(b'\n');
    Ok(line)
}

/// Where an attachment is kept beside the record file. Only characters that are safe in a file name stay.
pub(super) fn file_name(run_id: &str, attachment: &str) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' };
    format!("{run_id}.{attachment}").chars().map(safe).collect()
}

fn short(name: &str, prefix: &str) -> String {
    name.strip_prefix(prefix).unwrap_or(name).to_lowercase()
}

fn sorted(labels: &HashMap<String, String>) -> BTreeMap<&str, &str> {
    labels.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect()
}

/// A time outside the years that RFC 3339 can write becomes the epoch.
fn rfc3339(unix_nanos: i64) -> String {
    let time = OffsetDateTime::from_unix_timestamp_nanos(unix_nanos.into()).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    time.format(&Rfc3339).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_one_json_object_that_names_the_event() {
        let event = v1::Event {
            tracer: "cpuidle".into(),
            run_id: "r".into(),
            kind: v1::EventKind::Capture.into(),
            severity: v1::Severity::Warning.into(),
            times: Some(v1::Times { observed_unix_nanos: 1_500_000_000, ..Default::default() }),
            data: r#"{"user_percent":99.5}"#.into(),
            attachments: vec![v1::Attachment { name: "../cpu".into(), content: "1234".into(), ..Default::default() }],
            ..Default::default()
        };
        let line = write("node-1", &event, Ok("node-1/0000000000000001/7".into())).unwrap();
        assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
        let json: serde_json::Value = serde_json::from_slice(&line).unwrap();
        assert_eq!(json["id"], "node-1/0000000000000001/7");
        assert_eq!((json["kind"].as_str(), json["severity"].as_str()), (Some("capture"), Some("warning")));
        assert_eq!(json["observed"], "1970-01-01T00:00:01.5Z");
        assert_eq!(json["data"]["user_percent"], 99.5);
        assert_eq!(json["attachments"][0]["bytes"], 4);
        assert_eq!(json["attachments"][0]["file"], "r..._cpu");
        assert!(json.get("without_id").is_none());

        let line = write("node-1", &event, Err("the queue was full")).unwrap();
        let json: serde_json::Value = serde_json::from_slice(&line).unwrap();
        assert_eq!((&json["id"], json["without_id"].as_str()), (&serde_json::Value::Null, Some("the queue was full")));
    }
}
