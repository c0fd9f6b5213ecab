//! TLS on both listeners: who gets in, as whom, and what becomes of those who do not.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod certificates;
mod reload;
mod strangers;
#[path = "../support/mod.rs"]
mod support;

use certificates::{Fleet, aggregators, days, past};
use galen_certificates::{Authority, Subject, Validity};
use galen_proto::v1::{
    GetStatusRequest, RecordNowRequest, control_service_client::ControlServiceClient,
    query_service_client::QueryServiceClient,
};
use galen_runtime::tls::{File, Files};
use support::{Agent, PATIENCE, SESSION, batch, hello, queue};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tonic::{Code, transport::Endpoint};

/// How a client of HTTP/2 begins in plaintext.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

#[tokio::test]
async fn a_node_with_its_certificate_delivers_and_a_user_asks() {
    let fleet = Fleet::start().await;
    let mut agent = fleet.agent("web-1", &fleet.files(Subject::Node("web-1"), days(1))).await;
    agent.welcome().await;
    agent.batch(batch(1, 3)).await;
    agent.acknowledged(3).await;
    let user = fleet.channel(&fleet.user()).await.unwrap();
    let status = QueryServiceClient::new(user).get_status(GetStatusRequest {}).await.unwrap().into_inner();
    assert_eq!(status.agents_connected, 1);
    let page = fleet.http("/healthz", Some(&fleet.user())).await.unwrap();
    assert!(page.starts_with("HTTP/1.1 200"), "{page}");
}

#[tokio::test]
async fn certificates_that_do_not_hold_are_refused_and_counted_by_reason() {
    let fleet = Fleet::with_revoked("gone").await;
    let foreign = Authority::new("galen", Validity::days(1)).unwrap();
    let future = Validity { from: days(2).until, until: days(4).until };
    let node = Subject::Node("web-1");
    for (files, reason) in [
        (fleet.files(node, past()), "expired"),
        (fleet.files(node, future), "not_yet_valid"),
        (fleet.files_of(&foreign, node, days(1)), "unknown_authority"),
        (fleet.revoked(), "revoked"),
    ] {
        fleet.is_kept_out(Some(&files), reason).await;
    }
    fleet.is_kept_out(None, "no_certificate").await;
    // Those who are kept out are in nobody's way.
    fleet.agent("web-1", &fleet.files(node, days(1))).await.welcome().await;
}

#[tokio::test]
async fn a_node_that_claims_the_name_of_another_is_refused_and_the_other_stays() {
    let fleet = Fleet::start().await;
    let mut rightful = fleet.agent("web-1", &fleet.files(Subject::Node("web-1"), days(1))).await;
    rightful.welcome().await;
    for (subject, named) in [(Subject::Node("web-2"), "node `web-2`"), (Subject::Node("WEB-1"), "node `WEB-1`")] {
        let mut claims = fleet.agent("web-1", &fleet.files(subject, days(1))).await;
        claims.ends(Code::PermissionDenied, named).await;
    }
    fleet.shows("galen_aggregator_session_ended_streams_total{reason=\"other_node\"}", 2.0).await;
    // A user has no stream at all.
    let user = fleet.channel(&fleet.files(Subject::User("web-1"), days(1))).await.unwrap();
    assert_eq!(Agent::over(user, SESSION).await.err().unwrap().code(), Code::PermissionDenied);
    rightful.batch(batch(1, 3)).await;
    rightful.acknowledged(3).await;
}

#[tokio::test]
async fn two_nodes_that_have_each_others_certificate_are_both_refused() {
    let fleet = Fleet::start().await;
    let files = ["web-1", "web-2"].map(|node| fleet.files(Subject::Node(node), days(1)));
    for (node, files, named) in [("web-1", &files[1], "node `web-2`"), ("web-2", &files[0], "node `web-1`")] {
        fleet.agent(node, files).await.ends(Code::PermissionDenied, named).await;
    }
    fleet.shows("galen_aggregator_session_begun_streams_total", 0.0).await;
}

#[tokio::test]
async fn an_agent_does_not_believe_an_aggregator_whose_certificate_does_not_hold() {
    let fleet = Fleet::start().await;
    let foreign = Authority::new("galen", days(1)).unwrap();
    let future = Validity { from: days(2).until, until: days(4).until };
    let elsewhere = Subject::Aggregator(&["elsewhere.example".to_owned()]);
    let node = fleet.files(Subject::Node("web-1"), days(1));
    for (issued, why) in [
        (aggregators(&fleet.authority, past()), "expired"),
        (aggregators(&fleet.authority, future), "not valid yet"),
        (aggregators(&foreign, days(1)), "UnknownIssuer"),
        (fleet.authority.issue(elsewhere, days(1)).unwrap(), "not valid for name"),
        // What is taken from a node lets nobody pass for an aggregator.
        (fleet.authority.issue(Subject::Node("web-2"), days(1)).unwrap(), "certificate"),
    ] {
        fleet.replace(&issued);
        let dir = tempfile::tempdir().unwrap();
        let pretends = support::Aggregator::with(fleet.settings(dir.path())).await;
        let error = fleet.dial(pretends.addresses.grpc, &node).await.err().unwrap();
        let text = galen_runtime::Chain(&error).to_string();
        assert!(text.contains(why), "{why}: {text}");
    }
    let revoked = aggregators(&fleet.authority, days(1));
    fleet.replace(&revoked);
    let list = fleet.path("agent-crl.pem");
    std::fs::write(&list, fleet.authority.revoke(&[&revoked]).unwrap()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let pretends = support::Aggregator::with(fleet.settings(dir.path())).await;
    let wary = Files { revoked: vec![File::new("tls.crl_files", list)], ..node.clone() };
    let error = fleet.dial(pretends.addresses.grpc, &wary).await.err().unwrap();
    assert!(galen_runtime::Chain(&error).to_string().contains("Revoked"), "{error:?}");
    assert!(fleet.dial(pretends.addresses.grpc, &node).await.is_ok());
}

#[tokio::test]
async fn a_node_neither_asks_nor_changes_nor_reads_the_page() {
    let fleet = Fleet::start().await;
    let node = fleet.files(Subject::Node("web-1"), days(1));
    let channel = fleet.channel(&node).await.unwrap();
    let asked = QueryServiceClient::new(channel.clone()).get_status(GetStatusRequest {}).await.unwrap_err();
    assert_eq!(asked.code(), Code::PermissionDenied);
    let command = RecordNowRequest { node: "web-2".into() };
    let commanded = ControlServiceClient::new(channel).record_now(command).await.unwrap_err();
    assert_eq!(commanded.code(), Code::PermissionDenied);
    let page = fleet.http("/", Some(&node)).await.unwrap();
    assert!(page.starts_with("HTTP/1.1 403"), "{page}");
}

#[tokio::test]
async fn who_speaks_plaintext_to_tls_or_tls_to_plaintext_is_told_and_forgotten() {
    let fleet = Fleet::start().await;
    let mut stranger = TcpStream::connect(fleet.aggregator.addresses.grpc).await.unwrap();
    stranger.write_all(PREFACE).await.unwrap();
    let _ = timeout(PATIENCE, stranger.read_to_end(&mut Vec::new())).await.expect("an end in time");
    fleet.shows("galen_aggregator_tls_failed_handshakes_total{reason=\"not_tls\"}", 1.0).await;
    let mut stranger = TcpStream::connect(fleet.aggregator.addresses.http).await.unwrap();
    stranger.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let _ = timeout(PATIENCE, stranger.read_to_end(&mut Vec::new())).await.expect("an end in time");
    fleet.shows("galen_aggregator_tls_failed_handshakes_total{reason=\"not_tls\"}", 2.0).await;
    let plain = Endpoint::from_shared(format!("http://{}", fleet.aggregator.addresses.grpc)).unwrap();
    assert!(Agent::call(plain, SESSION).await.is_err());

    let dir = tempfile::tempdir().unwrap();
    let open = support::Aggregator::start(dir.path()).await;
    assert!(fleet.dial(open.addresses.grpc, &fleet.user()).await.is_err());
    open.welcomed(hello("bystander", &[queue(1, 1)])).await;
}

#[tokio::test]
async fn a_start_without_usable_files_says_which_setting_is_wrong() {
    let fleet = Fleet::start().await;
    for (name, setting) in
        [("aggregator.pem", "tls.certificate_file"), ("aggregator.key", "tls.key_file"), ("ca.pem", "tls.ca_file")]
    {
        let dir = tempfile::tempdir().unwrap();
        let settings = fleet.settings(dir.path());
        let path = fleet.path(name);
        let before = std::fs::read(&path).unwrap();
        std::fs::write(&path, "nothing").unwrap();
        let error = galen_aggregator::start(settings, galen_runtime::Supervisor::new()).await.err().unwrap();
        let text = galen_runtime::Chain(&error).to_string();
        assert!(text.contains(setting) && text.contains(name), "{text}");
        std::fs::write(&path, before).unwrap();
    }
}
