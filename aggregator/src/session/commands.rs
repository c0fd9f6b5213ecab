//! The commands of one session: sent a few at a time, each answered or given up.

use std::collections::{HashMap, VecDeque};

use galen_proto::v1::{Command, CommandResult, command};
use tokio::sync::oneshot;

use crate::{
    control::{DO_WITHIN, Order},
    session::Orders,
};

/// Commands that an agent is given at a time: fewer than it takes.
const UNDERWAY: usize = 8;

/// What has to be sent, and what was sent and not answered.
#[derive(Debug, Default)]
pub(super) struct Commands {
    /// Before any that is ordered.
    first: VecDeque<command::Command>,
    last: u64,
    underway: HashMap<u64, Option<oneshot::Sender<CommandResult>>>,
}

impl Commands {
    pub(super) fn new(first: Vec<command::Command>) -> Self {
        Self { first: first.into(), ..Self::default() }
    }

    /// Whether the agent may be given another. Those that nobody waits for any more are given up.
    pub(super) fn has_room(&mut self) -> bool {
        self.underway.retain(|_, answer| answer.as_ref().is_none_or(|answer| !answer.is_closed()));
        self.underway.len() < UNDERWAY
    }

    /// The next to send, once there is one.
    pub(super) async fn next(&mut self, orders: &Orders) -> Command {
        let order = match self.first.pop_front() {
            Some(command) => Order { command, answer: None },
            None => orders.next().await,
        };
        self.last += 1;
        self.underway.insert(self.last, order.answer);
        let timeout_millis = DO_WITHIN.as_millis() as u32;
        Command { id: self.last, command: Some(order.command), timeout_millis }
    }

    /// Passes an answer on. Whether it is one to a command that is underway, and whether anybody waits for it.
    pub(super) fn answered(&mut self, result: CommandResult) -> Answered {
        match self.underway.remove(&result.id) {
            None => Answered::Unasked,
            Some(None) => Answered::Alone(result),
            Some(Some(answer)) => {
                // Who asked may have left at this moment.
                let _ = answer.send(result);
                Answered::Told
            }
        }
    }
}

/// What an answer was.
#[derive(Debug)]
pub(super) enum Answered {
    Told,
    /// Nobody waits for it.
    Alone(CommandResult),
    Unasked,
}

#[cfg(test)]
mod tests {
    use galen_proto::v1::{CommandOutcome, RecordNow};

    use super::*;

    fn record() -> command::Command {
        command::Command::RecordNow(RecordNow {})
    }

    #[tokio::test]
    async fn an_answer_reaches_who_asked_and_one_that_is_given_up_makes_room() {
        let orders = Orders::default();
        let mut commands = Commands::new(vec![record()]);
        let mut asking = Vec::new();
        for _ in 1..UNDERWAY {
            let (answer, answered) = oneshot::channel();
            orders.push(Order { command: record(), answer: Some(answer) }).unwrap();
            asking.push(answered);
        }
        for id in 1..=UNDERWAY as u64 {
            assert!(commands.has_room());
            assert_eq!(commands.next(&orders).await.id, id);
        }
        assert!(!commands.has_room());
        let result = |id| CommandResult { id, outcome: CommandOutcome::Done.into(), detail: String::new() };
        assert!(matches!(commands.answered(result(1)), Answered::Alone(_)));
        assert!(matches!(commands.answered(result(2)), Answered::Told));
        assert!(matches!(commands.answered(result(2)), Answered::Unasked));
        assert_eq!(asking.remove(0).await.unwrap().id, 2);
        drop(asking);
        assert!(commands.has_room() && commands.underway.is_empty());
    }
}
