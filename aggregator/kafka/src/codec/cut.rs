//! What is left out of an event that is too large for a record: a stretch of its encoding.

use std::ops::Range;

use bytes::Buf;
use prost::encoding::{DecodeContext, decode_key, skip_field};

/// Fields of `galen.v1.Event`.
const DATA: u32 = 10;
const ATTACHMENTS: u32 = 11;

/// The smallest stretch of whole fields without which no more than `room` bytes are left: the attachments, or `data`
/// and the attachments. `None` if the event is not encoded as its agent encodes it, or has other large fields.
pub(super) fn cut(event: &[u8], room: usize) -> Option<Range<usize>> {
    let fields = fields(event)?;
    [ATTACHMENTS, DATA].into_iter().find_map(|first| {
        let wanted = |field: &&(u32, Range<usize>)| (first..=ATTACHMENTS).contains(&field.0);
        let begin = fields.iter().find(wanted)?.1.start;
        let end = fields.iter().rev().find(wanted)?.1.end;
        let within = fields.iter().filter(|(_, place)| place.start >= begin && place.end <= end);
        let is_whole = within.clone().all(|field| wanted(&field));
        (is_whole && event.len() - (end - begin) <= room).then_some(begin..end)
    })
}

/// Number and place of each field.
fn fields(event: &[u8]) -> Option<Vec<(u32, Range<usize>)>> {
    let mut rest = event;
    let mut fields = Vec::new();
    while rest.has_remaining() {
        let start = event.len() - rest.len();
        let (number, wire) = decode_key(&mut rest).ok()?;
        skip_field(wire, number, &mut rest, DecodeContext::default()).ok()?;
        fields.push((number, start..event.len() - rest.len()));
    }
    Some(fields)
}

#[cfg(test)]
mod tests {
    use galen_proto::v1::{Attachment, Event};
    use prost::Message;

    use super::*;

    fn event(data: usize, attachments: &[usize]) -> Vec<u8> {
        let attachment = |&bytes: &usize| Attachment { content: vec![7; bytes].into(), ..Attachment::default() };
        Event {
            tracer: "oom".into(),
            data: vec![b'1'; data].into(),
            attachments: attachments.iter().map(attachment).collect(),
            explanation: "because".into(),
            ..Event::default()
        }
        .encode_to_vec()
    }

    #[test]
    fn attachments_are_cut_first_then_data_with_them() {
        for (event, room, left) in [
            (event(100, &[1000, 1000]), 500, event(100, &[])),
            (event(1000, &[1000]), 500, event(0, &[])),
            (event(1000, &[]), 500, event(0, &[])),
        ] {
            let cut = cut(&event, room).unwrap();
            assert_eq!([&event[..cut.start], &event[cut.end..]].concat(), left);
        }
    }

    #[test]
    fn what_cannot_be_cut_small_enough_is_left_alone() {
        let large = Event { summary: "x".repeat(1000), ..Event::default() }.encode_to_vec();
        assert_eq!(cut(&large, 500), None);
        // An agent that writes its fields in another order.
        let apart = [event(0, &[1000]), event(0, &[1000])].concat();
        assert_eq!(cut(&apart, 500), None);
        assert_eq!(cut(&[0xff; 1000], 500), None);
    }
}
