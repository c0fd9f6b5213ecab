//! Who is connected: one session a node, the newest, and not more than are allowed.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::{
    nodes::Nodes,
    session::{Orders, Refusal},
};

/// All seats.
#[derive(Debug)]
pub struct Seats {
    limit: usize,
    nodes: Arc<Nodes>,
    taken: Mutex<Taken>,
    left: Notify,
}

#[derive(Debug, Default)]
struct Taken {
    next: u64,
    by_node: HashMap<Arc<str>, Holder>,
}

#[derive(Debug)]
struct Holder {
    id: u64,
    replaced: CancellationToken,
    orders: Arc<Orders>,
}

/// Held by a session for as long as it lasts.
#[derive(Debug)]
pub struct Seat {
    seats: Arc<Seats>,
    pub node: Arc<str>,
    id: u64,
    /// A newer session of the node has begun.
    pub replaced: CancellationToken,
    /// What the node is asked to do.
    pub orders: Arc<Orders>,
}

impl Seats {
    pub fn new(limit: usize, nodes: Arc<Nodes>) -> Arc<Self> {
        Arc::new(Self { limit, nodes, taken: Mutex::default(), left: Notify::new() })
    }

    /// Takes the seat of the node; whoever held it is told.
    pub fn take(self: &Arc<Self>, node: &str) -> Result<Seat, Refusal> {
        let mut taken = self.taken.lock();
        let count = taken.by_node.len();
        let key = taken.by_node.get_key_value(node).map(|(key, _)| Arc::clone(key));
        if key.is_none() && count >= self.limit {
            return Err(Refusal::Full(count));
        }
        let node = key.unwrap_or_else(|| node.into());
        taken.next += 1;
        let (id, replaced) = (taken.next, CancellationToken::new());
        let orders = Arc::<Orders>::default();
        let holder = Holder { id, replaced: replaced.clone(), orders: Arc::clone(&orders) };
        if let Some(before) = taken.by_node.insert(Arc::clone(&node), holder) {
            before.replaced.cancel();
        }
        Ok(Seat { seats: Arc::clone(self), node, id, replaced, orders })
    }

    /// The way to the session of a node, if it is connected.
    pub fn orders(&self, node: &str) -> Option<Arc<Orders>> {
        self.taken.lock().by_node.get(node).map(|holder| Arc::clone(&holder.orders))
    }

    /// Waits until nobody is connected.
    pub async fn emptied(&self) {
        loop {
            let left = self.left.notified();
            if self.count() == 0 {
                return;
            }
            left.await;
        }
    }

    pub fn count(&self) -> usize {
        self.taken.lock().by_node.len()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.seats.taken.lock();
        if taken.by_node.get(&self.node).is_some_and(|holder| holder.id == self.id) {
            taken.by_node.remove(&self.node);
            // Under the lock, so that it cannot come after the next session's beginning.
            self.seats.nodes.disconnected(&self.node);
            if taken.by_node.is_empty() {
                self.seats.left.notify_waiters();
            }
        }
    }
}
