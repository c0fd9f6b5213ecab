//! What an event or an incident is called as a CloudEvent 1.0: the same wherever one is sent, by SSE or by Kafka.

use crate::v1::EventKind;

/// The version of CloudEvents.
pub const SPEC_VERSION: &str = "1.0";
/// The type of a change of an incident. `data` is the incident as it is then.
pub const INCIDENT_TYPE: &str = "galen.incident.v1";

/// `io.galen.event.<tracer>.<kind>`.
pub fn event_type(tracer: &str, kind: i32) -> String {
    let tracer = if tracer.is_empty() { "unknown" } else { tracer };
    format!("io.galen.event.{tracer}.{}", kind_name(kind))
}

/// The node, as a reference to its place in the API.
pub fn source(node: &str) -> String {
    format!("/nodes/{}", url_part(node))
}

/// An incident, as a reference to its place on the page.
pub fn incident_source(id: &str) -> String {
    format!("/incidents/{}", url_part(id))
}

/// The name of an event's kind, in queries as well.
pub fn kind_name(kind: i32) -> &'static str {
    match EventKind::try_from(kind) {
        Ok(EventKind::Trigger) => "trigger",
        Ok(EventKind::Capture) => "capture",
        Ok(EventKind::Event) => "event",
        Ok(EventKind::Unspecified) | Err(_) => "unknown",
    }
}

/// Text as a part of a URL.
pub fn url_part(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_name_tracer_and_kind() {
        assert_eq!(event_type("cpuidle", EventKind::Capture as i32), "io.galen.event.cpuidle.capture");
        assert_eq!(event_type("", 99), "io.galen.event.unknown.unknown");
    }

    #[test]
    fn a_node_of_any_name_is_a_reference() {
        assert_eq!(source("web-1.example"), "/nodes/web-1.example");
        assert_eq!(source("räck 1/2"), "/nodes/r%C3%A4ck%201%2F2");
    }
}
