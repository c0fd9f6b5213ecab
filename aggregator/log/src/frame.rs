//! A record as it stands in a segment file.
//!
//! | Bytes | What |
//! |---|---|
//! | 4 | `GLR1` |
//! | 4 | length of the payload |
//! | 8 | offset of the first event |
//! | 4 | number of events |
//! | 4 | CRC-32C of the payload |
//! | 4 | CRC-32C of the 24 bytes before |
//! | … | payload: an encoded `LogRecord` |
//!
//! Integers are little-endian. The header has a sum of its own, so that a damaged payload still says where the next
//! frame begins and which offsets are gone.

use bytes::BufMut;
use galen_proto::v1::LogRecord;
use prost::Message;

use crate::Error;

pub(crate) const HEADER: usize = 28;
pub(crate) const MAGIC: [u8; 4] = *b"GLR1";
/// Largest payload. More than a session lets through, and far less than a damaged length could claim.
pub(crate) const MAX_PAYLOAD: usize = 64 << 20;
/// Most bytes of events in a record: the rest of the frame is for what stands beside them.
pub const MAX_EVENTS_BYTES: usize = MAX_PAYLOAD - (1 << 20);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) payload: usize,
    pub(crate) base: u64,
    pub(crate) events: u64,
    payload_sum: u32,
}

impl Header {
    /// `None` if the bytes are not an intact header.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let header: &[u8; HEADER] = bytes.get(..HEADER)?.try_into().ok()?;
        let word = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        if header[..4] != MAGIC || word(24) != crc32c::crc32c(&header[..24]) {
            return None;
        }
        let payload = word(4) as usize;
        let base = u64::from(word(8)) | u64::from(word(12)) << 32;
        let events = u64::from(word(16));
        (payload <= MAX_PAYLOAD).then_some(Self { payload, base, events, payload_sum: word(20) })
    }

    pub(crate) fn matches(&self, payload: &[u8]) -> bool {
        payload.len() == self.payload && crc32c::crc32c(payload) == self.payload_sum
    }

    /// Offset behind the last event.
    pub(crate) fn next(&self) -> u64 {
        self.base.saturating_add(self.events)
    }
}

/// Appends the frame of `record`, whose first event has the offset `base`.
pub(crate) fn encode(record: &LogRecord, base: u64, out: &mut Vec<u8>) -> Result<(), Error> {
    let begin = out.len();
    out.put_bytes(0, HEADER);
    record.encode_raw(out);
    let payload = &out[begin + HEADER..];
    let (length, sum) = (payload.len(), crc32c::crc32c(payload));
    if length > MAX_PAYLOAD {
        out.truncate(begin);
        return Err(Error::TooLarge { bytes: length });
    }
    let mut header = &mut out[begin..begin + HEADER];
    header.put_slice(&MAGIC);
    header.put_u32_le(length as u32);
    header.put_u64_le(base);
    header.put_u32_le(record.events.len() as u32);
    header.put_u32_le(sum);
    let sum = crc32c::crc32c(&out[begin..begin + 24]);
    out[begin + 24..begin + HEADER].copy_from_slice(&sum.to_le_bytes());
    Ok(())
}
