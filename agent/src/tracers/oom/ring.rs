//! The program's ring, as something that the runtime can wait for.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, RawFd},
};

use galen_bpf::oom::Watch;
use tokio::io::{Interest, unix::AsyncFd};

/// The watch, which is readable when there are kills.
pub(super) struct Ring(pub Watch);

impl AsRawFd for Ring {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

#[allow(unsafe_code, reason = "the runtime cannot check that a descriptor stays the same")]
pub(super) fn register(watch: Watch) -> io::Result<AsyncFd<Ring>> {
    // SAFETY: the descriptor is that of the ring, which the watch owns and never replaces.
    Ok(unsafe { AsyncFd::register_with_interest(Ring(watch), Interest::READABLE) }?)
}
