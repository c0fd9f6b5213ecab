//! Tokens that are wrong, of too low a role, in the wrong place, or taken back.

use std::{fs, time::Duration};

use bytes::Bytes;
use galen_aggregator::{Config, Settings};
use galen_runtime::{
    Chain, Supervisor,
    access::{Role, Token},
};
use prost::Message;
use tokio::time::{Instant, sleep};
use tonic::Code;

use crate::{
    certificates::Fleet,
    guarded::{Guarded, Way, bearer, line},
    support::{self, PATIENCE, ask_bytes},
};

const STATUS: &str = "/galen.v1.QueryService/GetStatus";
const RECORD: &str = "/galen.v1.ControlService/RecordNow";

#[tokio::test]
async fn a_wrong_token_is_refused_by_both_doors_and_counted_by_reason() {
    let guarded = Guarded::start().await;
    let admin = bearer(guarded.token(Role::Admin));
    let unknown = bearer(&Token::random().unwrap());
    let digest = format!("Bearer galen_{}", guarded.token(Role::Admin).digest());
    for (authorization, says) in [
        (unknown.as_str(), "not known here"),
        (digest.as_str(), "not known here"),
        ("Basic YWRhOmFkYQ==", "`Bearer` and a token"),
        ("Bearer nothing", "`Bearer` and a token"),
        (&admin.to_uppercase(), "`Bearer` and a token"),
        (&format!("{admin}0"), "`Bearer` and a token"),
    ] {
        let head =
            guarded.get_with(&Way::Plain, "/api/v1/status", &format!("Authorization: {authorization}\r\n")).await;
        assert!(head.status == 401 && head.text.contains(says), "{authorization}: {}", head.text);
        assert!(head.text.to_lowercase().contains("www-authenticate: bearer"), "{}", head.text);
        let channel = guarded.channel(&Way::Plain).await;
        let status = ask_bytes(channel, STATUS, Some(authorization), Bytes::new()).await.unwrap_err();
        assert!(status.code() == Code::Unauthenticated && status.message().contains(says), "{status}");
    }
    let twice = format!("Authorization: {admin}\r\nAuthorization: {admin}\r\n");
    assert_eq!(guarded.get_with(&Way::Plain, "/", &twice).await.status, 401);
    let none = guarded.get(&Way::Plain, "/api/v1/status", None).await;
    assert!(none.status == 401 && none.text.contains("authorization: Bearer"), "{}", none.text);
    let reader = Some(guarded.token(Role::Read));
    let low = guarded.grpc(&Way::Plain, RECORD, reader, Bytes::new()).await.unwrap_err();
    assert_eq!(low.message(), "`read` has the role `read`, and this takes `operate`");

    let metrics = metrics(&guarded).await;
    for (reason, count) in [("unknown_token", 4), ("malformed", 9), ("no_credentials", 1), ("forbidden", 1)] {
        let line = format!("galen_aggregator_access_refused_requests_total{{reason=\"{reason}\"}} {count}\n");
        assert!(metrics.contains(&line), "{line}{metrics}");
    }
}

/// All of them.
async fn metrics(guarded: &Guarded) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(guarded.aggregator.addresses.http).await.unwrap();
    let token = bearer(guarded.token(Role::Read));
    let request =
        format!("GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: {token}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    text
}

#[tokio::test]
async fn a_token_in_the_wrong_place_is_refused_even_if_it_is_right_elsewhere_too() {
    let guarded = Guarded::start().await;
    let token = guarded.token(Role::Admin);
    let (text, header) = (token.reveal(), format!("Authorization: {}\r\n", bearer(token)));
    for (path, headers) in [
        (format!("/api/v1/events?access_token={text}"), String::new()),
        (format!("/api/v1/events?token={text}"), header.clone()),
        (format!("/api/v1/events?query={text}"), header.clone()),
        ("/api/v1/events".to_owned(), format!("Cookie: a=b; session={text}\r\n")),
        ("/api/v1/events".to_owned(), format!("{header}Cookie: token={text}\r\n")),
    ] {
        let head = guarded.get_with(&Way::Plain, &path, &headers).await;
        let is_told = head.text.contains("token_in_wrong_place") && head.text.contains("wrong place");
        assert!(head.status == 400 && is_told, "{path} {headers}: {}", head.text);
        assert!(!head.text.contains(text), "the answer has the token");
    }
    let channel = guarded.channel(&Way::Plain).await;
    let path = format!("{STATUS}?access_token={text}");
    let status = ask_bytes(channel, &path, None, Bytes::new()).await.unwrap_err();
    assert!(status.code() == Code::Unauthenticated && status.message().contains("wrong place"), "{status}");
    assert_eq!(guarded.get_with(&Way::Plain, "/api/v1/events", &format!("{header}Cookie: a=b\r\n")).await.status, 200);
}

#[tokio::test]
async fn an_address_with_too_many_refused_requests_waits_and_health_and_agents_do_not() {
    let guarded = Guarded::refusing(5).await;
    let right = Some(guarded.token(Role::Admin));
    assert_eq!(guarded.get(&Way::Plain, "/api/v1/status", right).await.status, 200);
    for _ in 0..5 {
        assert_eq!(guarded.get(&Way::Plain, "/api/v1/status", None).await.status, 401);
    }
    let head = guarded.get(&Way::Plain, "/api/v1/status", right).await;
    assert!(head.status == 429 && head.text.to_lowercase().contains("retry-after: "), "{}", head.text);
    let status = guarded.grpc(&Way::Plain, STATUS, right, Bytes::new()).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert_eq!(guarded.get(&Way::Plain, "/readyz", None).await.status, 200);
    guarded.grpc(&Way::Plain, "/grpc.health.v1.Health/Check", None, Bytes::new()).await.unwrap();
    guarded.aggregator.welcomed(support::hello("web-1", &[support::queue(1, 1)])).await;
}

#[tokio::test]
async fn a_token_that_is_taken_out_of_the_file_is_good_no_more_and_one_that_is_put_in_is() {
    let guarded = Guarded::start().await;
    let (old, new) = (guarded.token(Role::Read), Token::random().unwrap());
    fs::write(guarded.tokens_file(), "not a line").unwrap();
    assert_eq!(guarded.get(&Way::Plain, "/api/v1/status", Some(old)).await.status, 200);
    fs::write(guarded.tokens_file(), line("grafana", Role::Read, &new)).unwrap();
    let deadline = Instant::now() + 3 * PATIENCE;
    while guarded.get(&Way::Plain, "/api/v1/status", Some(&new)).await.status != 200 {
        assert!(Instant::now() < deadline, "it is not taken");
        sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(guarded.get(&Way::Plain, "/api/v1/status", Some(old)).await.status, 401);
}

#[tokio::test]
async fn a_file_that_cannot_be_used_is_an_error_at_the_start_and_so_is_an_address_for_others_without_tls() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("tokens");
    for (text, says) in [(None, "No such file"), (Some("ada reads"), "line 1: write a name, a role")] {
        if let Some(text) = text {
            fs::write(&file, text).unwrap();
        }
        let settings = support::settings(dir.path(), |config| config.access.tokens_file = file.clone());
        let error = galen_aggregator::start(settings, Supervisor::new()).await.err().unwrap();
        let error = Chain(&error).to_string();
        assert!(error.contains("access.tokens_file") && error.contains(says), "{error}");
    }
    // A token is for no network that can be listened to.
    let mut config = Config::default();
    config.access.tokens_file = file;
    config.listen.grpc = "0.0.0.0:7400".into();
    let error = Settings::try_from(config).unwrap_err();
    assert!(Chain(&error).to_string().contains("listen.grpc"), "{error}");
}

#[tokio::test]
async fn without_tokens_who_has_no_certificate_reads_of_health_alone() {
    let fleet = Fleet::start().await;
    for (path, status) in [("/healthz", "200"), ("/readyz", "200"), ("/", "401"), ("/api/v1/events", "401")] {
        let answer = fleet.http(path, None).await.unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{path}: {answer}");
    }
    let answer = fleet.http("/api/v1/events", Some(&fleet.user())).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let command = galen_proto::v1::RecordNowRequest { node: "web-1".into() };
    let channel = fleet.channel(&fleet.user()).await.unwrap();
    let refused = ask_bytes(channel, RECORD, None, command.encode_to_vec().into()).await.unwrap_err();
    assert_eq!(refused.message(), "`ada` has the role `read`, and this takes `operate`");
}
