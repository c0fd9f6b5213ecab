//! What a cause is known by: a hash of the tracer, the workload and the frames of the stack.
//!
//! `SHA-256(version, length and bytes of each part)`, its first 16 bytes. A change of what the parts are made of raises
//! [`VERSION`], so that prints of two versions never mean two causes by one name.

use std::{fmt, str::FromStr};

use sha2::{Digest, Sha256};

/// Of all that goes into a print.
const VERSION: u8 = 1;

/// Of an event with its stack, or of a family: the same without a stack.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint(pub(crate) u128);

impl Fingerprint {
    pub fn of(tracer: &str, workload: &str, frames: &[String]) -> Self {
        let frames = frames.iter().map(String::as_bytes);
        Self(u128::from_le_bytes(digest([tracer.as_bytes(), workload.as_bytes()].into_iter().chain(frames))))
    }
}

/// Tells names apart where they are only counted: of 16,384 names two are alike once in 10¹¹ times.
pub(crate) fn short(parts: &[&str]) -> u64 {
    u64::from_le_bytes(digest(parts.iter().map(|part| part.as_bytes())))
}

fn digest<'a, const N: usize>(parts: impl Iterator<Item = &'a [u8]>) -> [u8; N] {
    let mut hash = Sha256::new();
    hash.update([VERSION]);
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    let hash = hash.finalize();
    std::array::from_fn(|at| hash[at])
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl FromStr for Fingerprint {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        u128::from_str_radix(text, 16).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_print_is_the_same_on_every_machine_and_parts_do_not_run_together() {
        let print = Fingerprint::of("cpuidle", "shop/web", &["spin".into()]);
        assert_eq!(print.to_string().len(), 32);
        assert_eq!(print.to_string().parse(), Ok(print));
        assert_ne!(print, Fingerprint::of("cpuidles", "hop/web", &["spin".into()]));
        assert_ne!(print, Fingerprint::of("cpuidle", "shop/web", &["sp".into(), "in".into()]));
        assert_ne!(print, Fingerprint::of("cpuidle", "shop/web", &[]));
    }
}
