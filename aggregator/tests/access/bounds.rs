//! What is taken of those who have not shown who they are: a head within its bounds, and nothing behind it.

use bytes::Bytes;
use galen_proto::v1::{GetStatusRequest, query_service_client::QueryServiceClient};
use galen_runtime::access::Role;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tonic::{Code, Status};

use crate::{
    guarded::{Guarded, Way, bearer},
    support::{Agent, PATIENCE},
};

const HUGE: usize = 100 << 20;
/// Of what is sent, the most that the buffers of both sockets hold.
const IN_BUFFERS: usize = 32 << 20;

/// Sends a head and then as much as is taken of [`HUGE`]; how much that is, and the answer if it came through.
async fn sends(guarded: &Guarded, head: &str) -> (usize, String) {
    let mut stream = TcpStream::connect(guarded.aggregator.addresses.http).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    // The answer comes before anything of the body has to be sent.
    let mut answer = vec![0; 4096];
    let read = timeout(PATIENCE, stream.read(&mut answer)).await.expect("an answer in time").unwrap();
    answer.truncate(read);
    let piece = vec![b'x'; 64 << 10];
    let writes = async {
        let mut written = 0;
        while written < HUGE && stream.write_all(&piece).await.is_ok() {
            written += piece.len();
        }
        written
    };
    let written = timeout(PATIENCE, writes).await.expect("an end in time");
    (written, String::from_utf8(answer).unwrap())
}

#[tokio::test]
async fn a_hundred_megabytes_by_http_are_refused_before_they_come() {
    let guarded = Guarded::start().await;
    let right = format!("Authorization: {}\r\n", bearer(guarded.token(Role::Admin)));
    for (method, headers) in [("GET", ""), ("POST", ""), ("GET", right.as_str())] {
        for length in [format!("Content-Length: {HUGE}"), "Transfer-Encoding: chunked".into()] {
            let head = format!("{method} /api/v1/events HTTP/1.1\r\nHost: localhost\r\n{headers}{length}\r\n\r\n");
            let (written, answer) = sends(&guarded, &head).await;
            assert!(answer.starts_with("HTTP/1.1 413"), "{head}{answer}");
            assert!(written < IN_BUFFERS, "{written} bytes were taken");
        }
    }
}

#[tokio::test]
async fn heads_beyond_their_bounds_are_refused_by_both_doors() {
    let guarded = Guarded::start().await;
    let long = "x".repeat(20 << 10);
    let head = guarded.get_with(&Way::Plain, "/", &format!("Authorization: Bearer {long}\r\n")).await;
    assert_eq!(head.status, 431, "{}", head.text);
    let mut client = QueryServiceClient::new(guarded.channel(&Way::Plain).await);
    let mut request = tonic::Request::new(GetStatusRequest {});
    request.metadata_mut().insert("authorization", format!("Bearer {long}").parse().unwrap());
    let refused = client.get_status(request).await.unwrap_err();
    assert!(refused.message().contains("431"), "{refused}");
    let path = "/galen.v1.QueryService/GetStatus";
    let right = Some(guarded.token(Role::Read));
    guarded.grpc(&Way::Plain, path, right, Bytes::new()).await.unwrap();
}

#[tokio::test]
async fn a_hundred_megabytes_by_grpc_are_refused_before_they_come() {
    let guarded = Guarded::start().await;
    for path in ["/galen.v1.ControlService/SetTracer", "/galen.v1.QueryService/SearchEvents"] {
        // The call is refused by its head, so nothing behind it is ever asked for.
        let channel = guarded.channel(&Way::Plain).await;
        let refused: Status = Agent::over(channel, path).await.err().unwrap();
        assert_eq!(refused.code(), Code::Unauthenticated, "{path}: {refused}");
        let huge = Bytes::from(vec![0; HUGE]);
        let refused = guarded.grpc(&Way::Plain, path, None, huge.clone()).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unauthenticated, "{path}: {refused}");
        // Of those who may, a message has its bound.
        let refused = guarded.grpc(&Way::Plain, path, Some(guarded.token(Role::Admin)), huge).await.unwrap_err();
        assert_eq!(refused.code(), Code::OutOfRange, "{path}: {refused}");
    }
}
