//! The few fields of an event that its headers need, read without the rest.

use prost::{DecodeError, Message};

/// An event of which the other fields are passed over. The numbers are those of `galen.v1.Event`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Head {
    #[prost(string, tag = "2")]
    pub(super) tracer: String,
    #[prost(int32, tag = "4")]
    pub(super) kind: i32,
    #[prost(message, optional, tag = "7")]
    times: Option<Times>,
    #[prost(message, optional, tag = "9")]
    container: Option<Container>,
}

#[derive(Clone, PartialEq, Message)]
struct Times {
    #[prost(sfixed64, tag = "2")]
    observed_unix_nanos: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Container {
    #[prost(string, tag = "2")]
    name: String,
}

impl Head {
    /// Reads another event into the same memory.
    pub(super) fn read(&mut self, event: &[u8]) -> Result<(), DecodeError> {
        self.tracer.clear();
        self.kind = 0;
        if let Some(times) = &mut self.times {
            times.observed_unix_nanos = 0;
        }
        if let Some(container) = &mut self.container {
            container.name.clear();
        }
        self.merge(event)
    }

    pub(super) fn observed_unix_nanos(&self) -> i64 {
        self.times.as_ref().map_or(0, |times| times.observed_unix_nanos)
    }

    /// Name of the container, empty if there is none.
    pub(super) fn container(&self) -> &str {
        self.container.as_ref().map_or("", |container| &container.name)
    }
}
