//! What a node is asked to do, until its session takes it.

use std::collections::VecDeque;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::control::Order;

/// Orders that may wait.
const WAITING: usize = 16;

/// Of one session. Takes no room for what it does not hold, as a channel would: there are thousands of them.
#[derive(Debug, Default)]
pub struct Orders {
    waiting: Mutex<VecDeque<Order>>,
    came: Notify,
}

impl Orders {
    /// Gives the order back if too many wait.
    pub(crate) fn push(&self, order: Order) -> Result<(), Order> {
        let mut waiting = self.waiting.lock();
        if waiting.len() >= WAITING {
            return Err(order);
        }
        waiting.push_back(order);
        self.came.notify_one();
        Ok(())
    }

    /// The oldest, once there is one. For one to wait at a time.
    pub(super) async fn next(&self) -> Order {
        loop {
            if let Some(order) = self.waiting.lock().pop_front() {
                return order;
            }
            self.came.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use galen_proto::v1::{ReloadSettings, SetTracer, command};

    use super::*;

    #[tokio::test]
    async fn orders_come_in_turn_and_those_that_find_no_room_go_back() {
        let orders = Orders::default();
        let set = |tracer: String| command::Command::SetTracer(SetTracer { tracer, enabled: None });
        for place in 0..WAITING {
            orders.push(Order { command: set(place.to_string()), answer: None }).unwrap();
        }
        let reload = command::Command::ReloadSettings(ReloadSettings::default());
        let back = orders.push(Order { command: reload.clone(), answer: None }).unwrap_err();
        assert_eq!(back.command, reload);
        for place in 0..WAITING {
            assert_eq!(orders.next().await.command, set(place.to_string()));
        }
        // Whoever waits hears of the next.
        let (waited, pushed) = tokio::join!(orders.next(), async { orders.push(back) });
        pushed.unwrap();
        assert_eq!(waited.command, reload);
    }
}
