//! A replica whose Redis forgets, ends, hangs and comes back: it always has a lease, and never more than its share.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::{Duration, Instant};

use galen_limits::{Keeper, PERIOD, Redis, Shared, Table, Target, Verdict};
use galen_services::{Server, redis};

const CAPACITY: f64 = 1200.0;
const REPLICAS: u32 = 3;

struct Replica {
    shared: Shared,
    keeper: Keeper,
    began: Instant,
    passed: u64,
}

impl Replica {
    fn start(server: &Server) -> Self {
        let shared = Shared::new(Table::new(CAPACITY, REPLICAS));
        let redis = Redis::new(Target::at(format!("redis://{}", server.address())), "test", "a".into()).unwrap();
        Self { keeper: Keeper::new(shared.clone(), Some(redis)), shared, began: Instant::now(), passed: 0 }
    }

    /// Takes turns and spends them, until the safe share holds, or no more, and then until `events` have passed.
    async fn until(&mut self, is_safe: bool, events: u64) {
        let deadline = Instant::now() + Duration::from_secs(120);
        while self.is_safe() != is_safe {
            assert!(Instant::now() < deadline, "the safe share holds: {}", self.is_safe());
            self.turn().await;
        }
        let enough = self.passed + events;
        while self.passed < enough {
            assert!(Instant::now() < deadline, "{} of {enough}", self.passed);
            self.turn().await;
        }
    }

    fn is_safe(&self) -> bool {
        self.shared.lock().figures(self.shared.now()).is_safe
    }

    async fn turn(&mut self) {
        self.keeper.turn().await;
        let now = self.shared.now();
        let asks = (0..2 * CAPACITY as u64).map(|_| self.shared.lock().ask(now, "cpuidle", "shop", "web-1"));
        self.passed += asks.filter(|verdict| *verdict == Verdict::Pass).count() as u64;
        tokio::time::sleep(PERIOD / 5).await;
    }

    /// What has passed is at most what came up, and a chunk for each time that Redis had forgotten.
    fn kept(&self, forgot: u32) {
        let chunks = f64::from(forgot + 3);
        let most = CAPACITY * (self.began.elapsed() + PERIOD.mul_f64(chunks)).as_secs_f64();
        assert!(self.passed as f64 <= most, "{} of {most}", self.passed);
    }
}

#[tokio::test]
async fn a_redis_that_forgets_ends_hangs_or_is_replaced_stops_nothing_and_frees_nothing() {
    let server = redis();
    let mut replica = Replica::start(&server);
    replica.until(false, 500).await;
    for command in ["FLUSHALL", "SCRIPT FLUSH"] {
        let client = ::redis::Client::open(format!("redis://{}", server.address())).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        let mut words = command.split(' ');
        let mut sent = ::redis::cmd(words.next().unwrap());
        for word in words {
            sent.arg(word);
        }
        sent.exec_async(&mut connection).await.unwrap();
        replica.until(false, 500).await;
    }
    replica.kept(1);

    server.kill();
    replica.until(true, 0).await;
    let (began, before) = (Instant::now(), replica.passed);
    replica.until(true, 500).await;
    let safe = CAPACITY / f64::from(REPLICAS) * (began.elapsed() + 3 * PERIOD).as_secs_f64();
    assert!(replica.passed - before <= safe as u64, "{} of {safe}", replica.passed - before);
    // Empty, as another one in its place would be.
    server.restart();
    replica.until(false, 500).await;
    replica.kept(2);

    server.pause();
    replica.until(true, 300).await;
    server.resume();
    replica.until(false, 500).await;
    replica.kept(2);
}

#[tokio::test]
async fn a_table_that_shrinks_to_nothing_holds_at_once_and_one_that_grows_with_the_next_lease() {
    let server = redis();
    let mut replica = Replica::start(&server);
    replica.until(false, 100).await;
    replica.shared.lock().swap(Table::new(0.0, REPLICAS));
    let before = replica.passed;
    for _ in 0..4 {
        replica.turn().await;
    }
    assert_eq!(replica.passed, before);
    replica.shared.lock().swap(Table::new(CAPACITY, REPLICAS));
    replica.until(false, 500).await;
}
