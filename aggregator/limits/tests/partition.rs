//! Three replicas on one Redis, one of them on a way of its own that becomes slow, is cut, and is mended while all run.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::{Duration, Instant};

use galen_limits::{Keeper, PERIOD, Redis, SILENT, Shared, Table, Target, Verdict};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
    time::sleep,
};

const CAPACITY: f64 = 900.0;
const REPLICAS: u32 = 3;
const SAFE: f64 = CAPACITY / REPLICAS as f64;
const PATIENCE: Duration = Duration::from_secs(120);

#[derive(Debug, Clone, Copy, PartialEq)]
enum Way {
    Open,
    /// Everything takes so long, each way.
    Slow(Duration),
    /// Nothing comes through, and nobody is told.
    Cut,
}

/// Leads to a server; its address.
async fn lead(to: String, way: watch::Receiver<Way>) -> (String, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut ways = JoinSet::new();
        while let Ok((client, _)) = listener.accept().await {
            let Ok(server) = TcpStream::connect(&to).await else { continue };
            let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
            ways.spawn(pump(from_client, to_server, way.clone()));
            ways.spawn(pump(from_server, to_client, way.clone()));
        }
    });
    (address, tasks)
}

async fn pump(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, mut way: watch::Receiver<Way>) {
    let mut bytes = [0; 4096];
    while let Ok(count @ 1..) = from.read(&mut bytes).await {
        let now = *way.borrow();
        match now {
            Way::Open => {}
            Way::Slow(delay) => sleep(delay).await,
            Way::Cut => drop(way.wait_for(|way| *way != Way::Cut).await),
        }
        if to.write_all(&bytes[..count]).await.is_err() {
            return;
        }
    }
}

struct Replica {
    shared: Shared,
    passed: u64,
}

struct Fleet {
    replicas: Vec<Replica>,
    _keepers: JoinSet<()>,
}

impl Fleet {
    /// One at each address.
    fn start(addresses: &[String]) -> Self {
        let mut keepers = JoinSet::new();
        let start = |(number, address): (usize, &String)| {
            let shared = Shared::new(Table::new(CAPACITY, REPLICAS));
            let redis = Redis::new(Target::at(format!("redis://{address}")), "test", number.to_string()).unwrap();
            let mut keeper = Keeper::new(shared.clone(), Some(redis));
            keepers.spawn(async move { keeper.run().await });
            Replica { shared, passed: 0 }
        };
        Self { replicas: addresses.iter().enumerate().map(start).collect(), _keepers: keepers }
    }

    /// Spends all that there is, until this holds.
    async fn until(&mut self, what: &str, holds: impl Fn(&[Replica]) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !holds(&self.replicas) {
            assert!(Instant::now() < deadline, "waited in vain until {what}");
            for replica in &mut self.replicas {
                let now = replica.shared.now();
                let asks = (0..50).map(|_| replica.shared.lock().ask(now, "cpuidle", "shop", "web-1"));
                replica.passed += asks.filter(|verdict| *verdict == Verdict::Pass).count() as u64;
            }
            sleep(Duration::from_millis(5)).await;
        }
    }

    async fn all_pass(&mut self, more: u64) {
        let enough: Vec<u64> = self.passed().iter().map(|passed| passed + more).collect();
        let holds =
            |replicas: &[Replica]| replicas.iter().zip(&enough).all(|(replica, enough)| replica.passed >= *enough);
        self.until("all pass events", holds).await;
    }

    fn passed(&self) -> Vec<u64> {
        self.replicas.iter().map(|replica| replica.passed).collect()
    }
}

fn is_safe(replica: &Replica) -> bool {
    replica.shared.lock().figures(replica.shared.now()).is_safe
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_whose_way_is_slow_or_cut_takes_its_safe_share_and_the_others_theirs() {
    let server = galen_services::redis();
    let (switch, way) = watch::channel(Way::Open);
    let (around, _leading) = lead(server.address(), way).await;
    let mut fleet = Fleet::start(&[around, server.address(), server.address()]);
    fleet.until("all have leases", |replicas| !replicas.iter().any(is_safe)).await;
    fleet.all_pass(100).await;

    switch.send(Way::Slow(Duration::from_millis(300))).unwrap();
    fleet.until("it is too slow", |replicas| is_safe(&replicas[0])).await;
    fleet.all_pass(100).await;
    switch.send(Way::Slow(Duration::from_millis(5))).unwrap();
    fleet.until("it is fast enough", |replicas| !is_safe(&replicas[0])).await;

    switch.send(Way::Cut).unwrap();
    fleet.until("it is cut off", |replicas| is_safe(&replicas[0])).await;
    let (cut, before) = (Instant::now(), fleet.passed());
    while cut.elapsed() < 2 * SILENT {
        fleet.all_pass(50).await;
    }
    let time = cut.elapsed().as_secs_f64();
    let passed: Vec<u64> = fleet.passed().iter().zip(before).map(|(now, before)| now - before).collect();
    let chunk = CAPACITY * PERIOD.as_secs_f64();
    let its = SAFE * (time + 3.0 * PERIOD.as_secs_f64()) + 1.0;
    assert!(passed[0] as f64 <= its, "{passed:?} in {time} s");
    // Until Redis knows that it is silent it keeps nothing back for it.
    let all = CAPACITY * time + 3.0 * chunk + f64::from(REPLICAS) + SAFE * SILENT.as_secs_f64();
    let sum: u64 = passed.iter().sum();
    assert!(sum as f64 <= all, "{passed:?} in {time} s, more than {all}");

    switch.send(Way::Open).unwrap();
    fleet.until("it is back", |replicas| !replicas.iter().any(is_safe)).await;
    fleet.all_pass(100).await;
}
