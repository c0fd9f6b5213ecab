//! Reads the frames of a segment file in order, and finds the way again behind damage.
//!
//! A damaged payload is skipped by the length in its intact header. Behind a damaged header the next frame is the next
//! place where an intact one begins.

use std::{fs::File, io, os::unix::fs::FileExt};

use bytes::{Buf, Bytes, BytesMut};

use crate::frame::{HEADER, Header, MAGIC};

/// Read from the file at once, at least.
const BLOCK: usize = 256 << 10;

#[derive(Debug)]
pub(crate) enum Found {
    Frame {
        header: Header,
        payload: Bytes,
    },
    /// What began at `at` cannot be read; the scan goes on behind it. With a header, it was this frame.
    Damage {
        at: u64,
        header: Option<Header>,
    },
    /// No further frame before the limit. Not all of `at .. limit` need be frames: a write may have been cut short.
    End {
        at: u64,
    },
}

#[derive(Debug)]
pub(crate) struct Scanner {
    file: File,
    /// Of the first byte in `buffer`.
    at: u64,
    buffer: BytesMut,
}

impl Scanner {
    pub(crate) fn new(file: File, at: u64) -> Self {
        Self { file, at, buffer: BytesMut::new() }
    }

    /// Where the next frame is expected.
    pub(crate) fn position(&self) -> u64 {
        self.at
    }

    /// The next frame that ends at or before `limit`, which never shrinks.
    pub(crate) fn next(&mut self, limit: u64) -> io::Result<Found> {
        let at = self.at;
        if !self.fill(HEADER, limit)? {
            return Ok(Found::End { at });
        }
        let Some(header) = Header::parse(&self.buffer) else { return self.resynchronise(limit) };
        if !self.fill(HEADER + header.payload, limit)? {
            return Ok(Found::End { at });
        }
        self.skip(HEADER);
        let payload = self.buffer.split_to(header.payload).freeze();
        self.at += header.payload as u64;
        Ok(if header.matches(&payload) {
            Found::Frame { header, payload }
        } else {
            Found::Damage { at, header: Some(header) }
        })
    }

    fn resynchronise(&mut self, limit: u64) -> io::Result<Found> {
        let at = self.at;
        self.skip(1);
        while self.fill(HEADER, limit)? {
            let candidates = self.buffer.len() - HEADER + 1;
            let found = (0..candidates).find(|&place| {
                self.buffer[place..].starts_with(&MAGIC) && Header::parse(&self.buffer[place..]).is_some()
            });
            self.skip(found.unwrap_or(candidates));
            if found.is_some() {
                return Ok(Found::Damage { at, header: None });
            }
        }
        self.at = at;
        self.buffer.clear();
        Ok(Found::End { at })
    }

    fn skip(&mut self, bytes: usize) {
        self.buffer.advance(bytes);
        self.at += bytes as u64;
    }

    /// Whether `bytes` bytes are there before `limit`; then they are in the buffer.
    fn fill(&mut self, bytes: usize, limit: u64) -> io::Result<bool> {
        if self.at.saturating_add(bytes as u64) > limit {
            return Ok(false);
        }
        while self.buffer.len() < bytes {
            let have = self.buffer.len();
            let from = self.at + have as u64;
            let want = (bytes - have).max(BLOCK).min((limit - from) as usize);
            self.buffer.resize(have + want, 0);
            let read = match self.file.read_at(&mut self.buffer[have..], from) {
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                    self.buffer.truncate(have);
                    continue;
                }
                Err(error) => {
                    self.buffer.truncate(have);
                    return Err(error);
                }
            };
            self.buffer.truncate(have + read);
            if read == 0 {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
