//! Certificates that change, end or are taken back under agents that stream.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use galen_certificates::{Authority, Subject, Validity};
use tokio::{io::AsyncReadExt, time::timeout};

use super::{
    certificates::{Fleet, aggregators, days},
    support::{PATIENCE, batch, events_of, logged},
};

const EXPIRY: &str = "galen_aggregator_tls_certificate_expiry_timestamp_seconds";
const NODES: usize = 4;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_certificate_and_a_new_authority_end_no_stream_and_lose_no_event() {
    let fleet = Fleet::start().await;
    let rotated = Arc::new(AtomicBool::new(false));
    let mut streams = tokio::task::JoinSet::new();
    for place in 0..NODES {
        let node = format!("web-{place}");
        let mut agent = fleet.agent(&node, &fleet.files(Subject::Node(&node), days(1))).await;
        agent.welcome().await;
        let rotated = Arc::clone(&rotated);
        streams.spawn(async move {
            // One batch after the other, and some after all has changed.
            let (mut last, mut after) = (0, 0);
            while after < 10 {
                agent.batch(batch(last + 1, last + 3)).await;
                last += 3;
                agent.acknowledged(last).await;
                after += u32::from(rotated.load(Ordering::Relaxed));
            }
            (node, last, agent)
        });
    }

    let before = days(2).until.unix_timestamp() as f64;
    fleet.replace(&aggregators(&fleet.authority, days(3)));
    fleet.becomes(EXPIRY, |expiry| expiry > before).await;
    // Both authorities, while one takes over from the other.
    let other = Authority::new("galen", days(10)).unwrap();
    fs::write(fleet.path("ca.pem"), [fleet.authority.certificate(), other.certificate()].concat()).unwrap();
    let before = days(4).until.unix_timestamp() as f64;
    fleet.replace(&aggregators(&fleet.authority, days(5)));
    fleet.becomes(EXPIRY, |expiry| expiry > before).await;
    let newcomer = fleet.files_of(&other, Subject::Node("new"), days(1));
    fleet.agent("new", &newcomer).await.welcome().await;
    rotated.store(true, Ordering::Relaxed);

    let mut delivered = Vec::new();
    while let Some(stream) = streams.join_next().await {
        delivered.push(stream.unwrap());
    }
    fleet.shows("galen_aggregator_session_begun_streams_total", NODES as f64 + 1.0).await;
    let numbers: Vec<(String, u64)> = delivered.iter().map(|(node, last, _)| (node.clone(), *last)).collect();
    drop(delivered);
    let data_dir = fleet.path("data");
    let kept = fleet.stop().await;
    let records = logged(&data_dir).await;
    for (node, last) in numbers {
        let found: Vec<u64> = events_of(&records, &node).into_iter().map(|(seq, _)| seq).collect();
        assert_eq!(found, (1..=last).collect::<Vec<_>>(), "{node}");
    }
    drop(kept);
}

#[tokio::test]
async fn files_that_do_not_fit_are_refused_as_a_whole_and_counted_and_the_old_hold_on() {
    let fleet = Fleet::start().await;
    let node = fleet.files(Subject::Node("web-1"), days(1));
    fleet.agent("web-1", &node).await.welcome().await;
    let before = fs::read(fleet.path("aggregator.key")).unwrap();
    fs::write(fleet.path("aggregator.key"), aggregators(&fleet.authority, days(3)).key).unwrap();
    fleet.becomes("galen_aggregator_tls_reload_errors_total", |errors| errors >= 1.0).await;
    fleet.agent("web-1", &node).await.welcome().await;
    fs::write(fleet.path("aggregator.key"), before).unwrap();
}

#[tokio::test]
async fn a_certificate_that_is_taken_back_ends_its_connections_and_no_other_and_is_refused() {
    let fleet = Fleet::watchful().await;
    let gone = fleet.authority.issue(Subject::Node("web-1"), days(1)).unwrap();
    let gone_user = fleet.authority.issue(Subject::User("eve"), days(1)).unwrap();
    let (files, user_files) = (fleet.put("web-1", &gone), fleet.put("eve", &gone_user));
    let mut agent = fleet.agent("web-1", &files).await;
    agent.welcome().await;
    let mut stays = fleet.agent("web-2", &fleet.files(Subject::Node("web-2"), days(1))).await;
    stays.welcome().await;
    agent.batch(batch(1, 3)).await;
    agent.acknowledged(3).await;
    let mut user = fleet.http_stream(&user_files).await.unwrap();

    fs::write(fleet.path("crl.pem"), fleet.authority.revoke(&[&gone, &gone_user]).unwrap()).unwrap();
    agent.end().await;
    let _ = timeout(PATIENCE, user.read_to_end(&mut Vec::new())).await.expect("an end in time");
    fleet.shows(&lapsed("revoked"), 2.0).await;
    fleet.is_kept_out(Some(&files), "revoked").await;
    stays.batch(batch(1, 3)).await;
    stays.acknowledged(3).await;
}

#[tokio::test]
async fn a_stream_ends_with_its_certificate_and_goes_on_with_the_next() {
    let fleet = Fleet::watchful().await;
    let node = Subject::Node("web-1");
    let mut seconds = 2;
    let mut agent = loop {
        let validity = Validity { until: days(0).until + Duration::from_secs(seconds), ..days(0) };
        // A busy machine may take longer than that to connect.
        let connected = fleet.try_agent("web-1", &fleet.files(node, validity)).await;
        match connected {
            Ok(agent) => break agent,
            Err(status) => assert!(seconds < 60, "{status}"),
        }
        seconds *= 2;
    };
    agent.batch(batch(1, 3)).await;
    agent.end().await;
    fleet.shows(&lapsed("expired"), 1.0).await;
    let mut agent = fleet.agent("web-1", &fleet.files(node, days(1))).await;
    agent.welcome().await;
    agent.batch(batch(1, 6)).await;
    agent.acknowledged(6).await;
}

fn lapsed(reason: &str) -> String {
    format!("galen_aggregator_tls_lapsed_connections_total{{reason=\"{reason}\"}}")
}
