//! The text form of an event's identity: `node/epoch/seq`, the epoch as 16 hex digits.

use std::{fmt, str::FromStr};

use crate::v1::EventId;

/// The text is not an event id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseEventIdError(String);

impl fmt::Display for ParseEventIdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is not an event id: it has the form node/epoch/seq, such as web-1/00c0ffee00c0ffee/42", self.0)
    }
}

impl std::error::Error for ParseEventIdError {}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{:016x}/{}", self.node, self.epoch, self.seq)
    }
}

impl FromStr for EventId {
    type Err = ParseEventIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let (rest, seq) = text.rsplit_once('/')?;
            let (node, epoch) = rest.rsplit_once('/')?;
            if node.is_empty() || epoch.len() != 16 || !epoch.bytes().all(|b| b.is_ascii_hexdigit()) {
                return None;
            }
            Some(Self {
                node: node.to_owned(),
                epoch: u64::from_str_radix(epoch, 16).ok()?,
                seq: seq.parse().ok().filter(|seq| *seq > 0)?,
            })
        };
        parse().ok_or_else(|| ParseEventIdError(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_survives_a_round_trip() {
        let id = EventId { node: "web-1.example".into(), epoch: 0xc0_ffee, seq: 42 };
        assert_eq!(id.to_string(), "web-1.example/0000000000c0ffee/42");
        assert_eq!(id.to_string().parse(), Ok(id));
    }

    #[test]
    fn what_is_not_an_id_is_refused() {
        for text in
            ["", "a", "a/b", "/0000000000c0ffee/42", "a/c0ffee/42", "a/0000000000c0ffee/0", "a/+00000000c0ffee1/3"]
        {
            assert!(text.parse::<EventId>().is_err(), "{text}");
        }
    }
}
