//! Whose an event is: its tracer and its tenant, read from its encoding without decoding the rest.
//!
//! An agent encodes fields by their number, so what is large (the data, the evidence) lies behind what is looked for. What
//! is no event, or says nothing, belongs to nobody, by the name of "": it is limited like any other.

use bytes::Buf;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

/// Of `galen.v1.Event`.
const TRACER: u32 = 2;
const CONTAINER: u32 = 9;
/// Of `galen.v1.Container`.
const NAMESPACE: u32 = 6;
const LABELS: u32 = 7;
/// Of an entry of a map.
const KEY: u32 = 1;
const VALUE: u32 = 2;
/// Names are kept and passed on; what is longer belongs to nobody. Kubernetes' names and labels have up to 63.
const LONGEST: usize = 64;

/// The tracer, and the tenant: the namespace of the workload, or the label of this name.
pub(super) fn of<'a>(event: &'a [u8], label: Option<&str>) -> (&'a str, &'a str) {
    let (mut tracer, mut tenant) = ("", "");
    for (number, value) in Fields(event) {
        match number {
            TRACER => tracer = name(value),
            CONTAINER => {
                tenant = match label {
                    None => Fields(value).find(|(number, _)| *number == NAMESPACE).map_or("", |(_, value)| name(value)),
                    Some(label) => labelled(value, label),
                };
                break;
            }
            _ => {}
        }
    }
    (tracer, tenant)
}

fn labelled<'a>(container: &'a [u8], label: &str) -> &'a str {
    let entries = Fields(container).filter(|(number, _)| *number == LABELS);
    let mut values = entries.filter_map(|(_, entry)| {
        let mut fields = Fields(entry);
        fields.find(|field| *field == (KEY, label.as_bytes()))?;
        fields.find(|(number, _)| *number == VALUE).map(|(_, value)| name(value))
    });
    values.next().unwrap_or("")
}

fn name(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).ok().filter(|name| name.len() <= LONGEST).unwrap_or("")
}

/// The fields with a length, in their order, up to what cannot be read.
struct Fields<'a>(&'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = (u32, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        while self.0.has_remaining() {
            let (number, wire) = decode_key(&mut self.0).ok()?;
            if wire == WireType::LengthDelimited {
                let length = usize::try_from(decode_varint(&mut self.0).ok()?).ok()?;
                let (value, rest) = self.0.split_at_checked(length)?;
                self.0 = rest;
                return Some((number, value));
            }
            skip_field(wire, number, &mut self.0, DecodeContext::default()).ok()?;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use galen_proto::v1::{Container, Event};
    use prost::Message;

    use super::*;

    fn event() -> Event {
        let labels = [("team".to_owned(), "shop".to_owned()), ("app".to_owned(), "web".to_owned())].into();
        let container = Container { name: "web-1".into(), namespace: "prod".into(), labels, ..Container::default() };
        Event {
            tracer: "cpuidle".into(),
            kind: 1,
            summary: "s".into(),
            container: Some(container),
            data: vec![7; 100].into(),
            ..Event::default()
        }
    }

    #[test]
    fn an_event_belongs_to_its_tracer_and_to_its_namespace_or_label() {
        let bytes = event().encode_to_vec();
        assert_eq!(of(&bytes, None), ("cpuidle", "prod"));
        assert_eq!(of(&bytes, Some("team")), ("cpuidle", "shop"));
        assert_eq!(of(&bytes, Some("app")), ("cpuidle", "web"));
        assert_eq!(of(&bytes, Some("none")), ("cpuidle", ""));
        assert_eq!(of(&Event { container: None, ..event() }.encode_to_vec(), None), ("cpuidle", ""));
    }

    #[test]
    fn what_is_no_event_belongs_to_nobody() {
        assert_eq!(of(b"event 1", None), ("", ""));
        let long = Event { tracer: "t".repeat(LONGEST + 1), ..event() };
        assert_eq!(of(&long.encode_to_vec(), None), ("", "prod"));
        let bytes = event().encode_to_vec();
        for end in 0..bytes.len() {
            let (tracer, tenant) = of(&bytes[..end], Some("team"));
            assert!(["", "cpuidle"].contains(&tracer) && ["", "shop"].contains(&tenant));
        }
    }
}
