//! How much may wait for the threads of the engine, in bytes.
//!
//! The engine's own queue is bounded in batches, whatever their size.

use std::{sync::Arc, time::Duration};

use parking_lot::{Condvar, Mutex};

/// Most bytes that wait; always one batch.
const BYTES: usize = 8 << 20;
/// Longest that anything waits for room. An engine that has stopped says so when it is given more.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is left of the room.
#[derive(Debug, Default)]
pub(crate) struct Room {
    taken: Mutex<usize>,
    freed: Condvar,
}

/// A part of the room, until it is dropped.
#[derive(Debug)]
pub(crate) struct Taken {
    room: Arc<Room>,
    bytes: usize,
}

impl Room {
    /// Blocks until there is room for this many bytes.
    pub(crate) fn take(self: &Arc<Self>, bytes: usize) -> Taken {
        let mut taken = self.taken.lock();
        self.freed.wait_while_for(&mut taken, |taken| *taken > 0 && *taken + bytes > BYTES, PATIENCE);
        *taken += bytes;
        Taken { room: Arc::clone(self), bytes }
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        *self.room.taken.lock() -= self.bytes;
        self.room.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn what_does_not_fit_waits_until_there_is_room() {
        let room = Arc::new(Room::default());
        let large = room.take(2 * BYTES);
        let waiting = thread::spawn({
            let room = Arc::clone(&room);
            move || *room.take(BYTES).room.taken.lock()
        });
        drop(large);
        assert_eq!(waiting.join().unwrap(), BYTES);
        assert_eq!(*room.taken.lock(), 0);
    }
}
