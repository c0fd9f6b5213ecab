//! The socket of a daemon that is asked about containers, and how far it is trusted to answer.
//!
//! A socket that is not there costs a look. A question has a deadline and few are asked at one time. After one that
//! failed, or was not answered in time, the daemon is left alone, for longer each time: one that hangs holds up few,
//! and is not piled up on.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout},
};

use super::{
    Answer, Description,
    metrics::{Metrics, Outcome},
};

/// Questions at one time.
const ROOM: usize = 4;
/// How long a daemon that failed is not asked again: doubled each time.
const QUIET: Duration = Duration::from_secs(10);
const QUIET_AT_MOST: Duration = Duration::from_secs(300);

pub struct Daemon {
    /// As metrics name it.
    runtime: &'static str,
    socket: PathBuf,
    room: Semaphore,
    trust: Mutex<Trust>,
    metrics: Metrics,
}

#[derive(Default)]
struct Trust {
    failures: u32,
    quiet_until: Option<Instant>,
}

impl Daemon {
    /// Does not connect yet.
    pub(super) fn new(runtime: &'static str, socket: &Path, metrics: &Metrics) -> Self {
        let (socket, metrics) = (socket.into(), metrics.clone());
        Self { runtime, socket, room: Semaphore::new(ROOM), trust: Mutex::default(), metrics }
    }

    pub(super) fn socket(&self) -> &Path {
        &self.socket
    }

    /// Answers `question`, which is put to the socket, unless there is no point in it now.
    pub(super) async fn ask<E: std::error::Error + 'static>(
        &self,
        patience: Duration,
        question: impl Future<Output = Result<Option<Description>, E>>,
    ) -> Answer {
        if !self.socket.exists() {
            return Answer::Absent;
        }
        let asked = async {
            // Closed never: it is this daemon's own.
            let _room = self.room.acquire().await;
            if self.trust.lock().quiet_until.is_some_and(|until| Instant::now() < until) {
                return None;
            }
            Some(question.await)
        };
        let (answer, outcome) = match timeout(patience, asked).await {
            Ok(None) => (Answer::Unanswered, Outcome::NotAsked),
            Ok(Some(Ok(Some(description)))) => (Answer::Known(description), Outcome::Known),
            Ok(Some(Ok(None))) => (Answer::Unknown, Outcome::Unknown),
            Ok(Some(Err(error))) => {
                self.failed(&galen_runtime::Chain(&error).to_string());
                (Answer::Unanswered, Outcome::Failed)
            }
            Err(_) => {
                self.failed("it did not answer in time");
                (Answer::Unanswered, Outcome::Failed)
            }
        };
        if matches!(outcome, Outcome::Known | Outcome::Unknown) {
            *self.trust.lock() = Trust::default();
        }
        self.metrics.asked(self.runtime, outcome);
        answer
    }

    fn failed(&self, why: &str) {
        let mut trust = self.trust.lock();
        let now = Instant::now();
        // Those who asked at the same time fail together, which counts once.
        if trust.quiet_until.is_some_and(|until| now < until) {
            return;
        }
        let quiet = (QUIET * 2_u32.saturating_pow(trust.failures)).min(QUIET_AT_MOST);
        trust.failures = trust.failures.saturating_add(1).min(16);
        trust.quiet_until = Some(now + quiet);
        tracing::warn!(socket = %self.socket.display(), why, ?quiet, "containers are not described for a while");
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(1);

    fn daemon(dir: &tempfile::TempDir) -> Daemon {
        let socket = dir.path().join("socket");
        std::fs::write(&socket, "").unwrap();
        Daemon::new("docker", &socket, &Metrics::new().unwrap())
    }

    async fn hang() -> Result<Option<Description>, Infallible> {
        std::future::pending().await
    }

    #[tokio::test(start_paused = true)]
    async fn a_daemon_that_hangs_is_left_alone_for_longer_each_time() {
        let dir = tempfile::tempdir().unwrap();
        let daemon = daemon(&dir);
        for quiet in [10, 20, 40, 80, 160, 300, 300] {
            let begin = Instant::now();
            assert_eq!(daemon.ask(PATIENCE, hang()).await, Answer::Unanswered);
            assert_eq!(begin.elapsed(), PATIENCE);
            let quiet_from = Instant::now();
            assert_eq!(daemon.ask(PATIENCE, hang()).await, Answer::Unanswered);
            assert_eq!(quiet_from.elapsed(), Duration::ZERO);
            tokio::time::advance(Duration::from_secs(quiet)).await;
        }
        let known = || async { Ok::<_, Infallible>(Some(Description::default())) };
        assert_eq!(daemon.ask(PATIENCE, known()).await, Answer::Known(Description::default()));
        assert_eq!(daemon.trust.lock().failures, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_hundred_who_ask_a_daemon_that_hangs_wait_for_one_deadline_in_all() {
        let dir = tempfile::tempdir().unwrap();
        let daemon = daemon(&dir);
        let begin = Instant::now();
        let all = futures_util::future::join_all((0..100).map(|_| daemon.ask(PATIENCE, hang()))).await;
        assert!(all.iter().all(|answer| *answer == Answer::Unanswered));
        assert_eq!(begin.elapsed(), PATIENCE);
        assert_eq!(daemon.trust.lock().failures, 1);
    }

    #[tokio::test]
    async fn a_socket_that_is_not_there_is_no_failure() {
        let dir = tempfile::tempdir().unwrap();
        let daemon = daemon(&dir);
        std::fs::remove_file(daemon.socket()).unwrap();
        assert_eq!(daemon.ask(PATIENCE, hang()).await, Answer::Absent);
        assert_eq!(daemon.trust.lock().failures, 0);
    }
}
