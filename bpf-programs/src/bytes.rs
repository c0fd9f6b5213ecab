//! Reading the fields of a record out of its bytes, in the byte order of the machine.

/// A record that is not what the header says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadRecord {
    #[error("a record of {name} has {found} bytes where {wanted} are needed")]
    Short { name: &'static str, found: usize, wanted: usize },
    #[error("a record of {name} speaks of {found} bytes of stack")]
    Stack { name: &'static str, found: usize },
}

/// A record whose fixed part is complete.
#[derive(Clone, Copy)]
pub(crate) struct Fields<'a> {
    bytes: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(crate) fn new(name: &'static str, bytes: &'a [u8], wanted: usize) -> Result<Self, BadRecord> {
        if bytes.len() < wanted {
            return Err(BadRecord::Short { name, found: bytes.len(), wanted });
        }
        Ok(Self { bytes })
    }

    pub(crate) fn u64(self, offset: usize) -> u64 {
        u64::from_ne_bytes(self.array(offset))
    }

    pub(crate) fn u32(self, offset: usize) -> u32 {
        u32::from_ne_bytes(self.array(offset))
    }

    pub(crate) fn i32(self, offset: usize) -> i32 {
        i32::from_ne_bytes(self.array(offset))
    }

    /// The bytes from `offset` on, as many as there are up to `length`.
    pub(crate) fn bytes(self, offset: usize, length: usize) -> &'a [u8] {
        let rest = self.bytes.get(offset..).unwrap_or_default();
        &rest[..length.min(rest.len())]
    }

    /// A name of the kernel's `comm` kind: 16 bytes, ended by a zero.
    pub(crate) fn comm(self, offset: usize) -> Comm {
        Comm(self.array(offset))
    }

    fn array<const N: usize>(self, offset: usize) -> [u8; N] {
        let mut array = [0; N];
        if let Some(bytes) = self.bytes.get(offset..offset + N) {
            array.copy_from_slice(bytes);
        }
        array
    }
}

/// A key or a value of a map: its length is that of its type, so its fields are there. Its type is whole words.
#[derive(Clone, Copy)]
pub(crate) struct Words<'a>(pub(crate) &'a [u64]);

impl<'a> Words<'a> {
    pub(crate) fn u64(self, offset: usize) -> u64 {
        self.0.get(offset / 8).copied().unwrap_or_default()
    }

    pub(crate) fn u32(self, offset: usize) -> u32 {
        let bytes = self.u64(offset).to_ne_bytes();
        let (first, second) = bytes.split_at(4);
        let half = if offset.is_multiple_of(8) { first } else { second };
        u32::from_ne_bytes([half[0], half[1], half[2], half[3]])
    }

    pub(crate) fn comm(self, offset: usize) -> Comm {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.u64(offset).to_ne_bytes());
        bytes[8..].copy_from_slice(&self.u64(offset + 8).to_ne_bytes());
        Comm(bytes)
    }

    /// What lies from `offset` on.
    pub(crate) fn from(self, offset: usize) -> Self {
        Self(self.0.get(offset / 8..).unwrap_or_default())
    }
}

/// The name of a thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Comm([u8; 16]);

impl Comm {
    /// As text; a byte that is not UTF-8 becomes U+FFFD.
    #[must_use]
    pub fn text(&self) -> std::borrow::Cow<'_, str> {
        let end = self.0.iter().position(|byte| *byte == 0).unwrap_or(self.0.len());
        String::from_utf8_lossy(&self.0[..end])
    }
}
