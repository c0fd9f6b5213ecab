//! How one event lies in a segment.
//!
//! An event is cut into chunks of [`CHUNK_BYTES`]. Key: the number as u64, the chunk's index as u16, both big-endian.
//! Value of chunk 0: length of the whole event (u32 little-endian), crc32c of the whole event (u32 little-endian), then
//! its bytes; of the others: only bytes.
//!
//! The size of a chunk is what keeps sled from its blob files, which it never syncs: a leaf holds at most 17 values
//! before it splits, is rewritten whole now and then, and becomes a blob beyond 128 KiB.

use bytes::{Bytes, BytesMut};

/// 18 × (6 KiB + key and framing) stays under sled's threshold of 128 KiB.
pub(crate) const CHUNK_BYTES: usize = 6 * 1024;
pub(crate) const HEADER_BYTES: usize = 8;
pub(crate) const KEY_BYTES: usize = 10;
/// Largest event that the chunk's index can address.
pub(crate) const MAX_EVENT_BYTES: usize = CHUNK_BYTES * u16::MAX as usize - HEADER_BYTES;

pub(crate) type Key = [u8; KEY_BYTES];

pub(crate) fn key(seq: u64, chunk: u16) -> Key {
    let mut key = [0; KEY_BYTES];
    key[..8].copy_from_slice(&seq.to_be_bytes());
    key[8..].copy_from_slice(&chunk.to_be_bytes());
    key
}

pub(crate) fn parse_key(key: &[u8]) -> Option<(u64, u16)> {
    let (seq, chunk) = key.split_first_chunk::<8>()?;
    Some((u64::from_be_bytes(*seq), u16::from_be_bytes(chunk.try_into().ok()?)))
}

/// The values of an event, in the order of their chunks. `scratch` is where they are put together.
pub(crate) fn encode<'a>(event: &[u8], scratch: &'a mut Vec<u8>) -> impl Iterator<Item = &'a [u8]> {
    scratch.clear();
    scratch.extend_from_slice(&(event.len() as u32).to_le_bytes());
    scratch.extend_from_slice(&crc32c::crc32c(event).to_le_bytes());
    scratch.extend_from_slice(event);
    scratch.chunks(CHUNK_BYTES)
}

/// An event that is being put together from its chunks.
pub(crate) struct Assembly {
    len: usize,
    crc: u32,
    bytes: BytesMut,
}

impl Assembly {
    /// Begins with the value of chunk 0. `None`: it is not one.
    pub(crate) fn begin(value: &[u8]) -> Option<Self> {
        let (len, rest) = value.split_first_chunk::<4>()?;
        let (crc, data) = rest.split_first_chunk::<4>()?;
        let len = u32::from_le_bytes(*len) as usize;
        if len > MAX_EVENT_BYTES || data.len() != len.min(CHUNK_BYTES - HEADER_BYTES) {
            return None;
        }
        let mut bytes = BytesMut::with_capacity(len);
        bytes.extend_from_slice(data);
        Some(Self { len, crc: u32::from_le_bytes(*crc), bytes })
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.bytes.len() >= self.len
    }

    pub(crate) fn add(&mut self, value: &[u8]) {
        self.bytes.extend_from_slice(value);
    }

    /// `None`: not the bytes that were written.
    pub(crate) fn finish(self) -> Option<Bytes> {
        let intact = self.bytes.len() == self.len && crc32c::crc32c(&self.bytes) == self.crc;
        intact.then(|| self.bytes.freeze())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assemble(values: &[Vec<u8>]) -> Option<Bytes> {
        let mut assembly = Assembly::begin(&values[0])?;
        values[1..].iter().for_each(|v| assembly.add(v));
        assembly.finish()
    }

    #[test]
    fn events_of_every_size_around_a_chunk_come_back() {
        let edge = CHUNK_BYTES - HEADER_BYTES;
        for len in [0, 1, edge - 1, edge, edge + 1, edge + CHUNK_BYTES, 100_000] {
            let event: Vec<u8> = (0..len).map(|i| i as u8).collect();
            let mut scratch = Vec::new();
            let values: Vec<_> = encode(&event, &mut scratch).map(<[u8]>::to_vec).collect();
            assert_eq!(assemble(&values).as_deref(), Some(&event[..]));
        }
    }

    #[test]
    fn any_flipped_bit_is_noticed() {
        let mut scratch = Vec::new();
        let value = encode(b"an event", &mut scratch).next().unwrap().to_vec();
        for bit in 0..value.len() * 8 {
            let mut bad = value.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(assemble(&[bad]), None);
        }
    }
}
