//! Who comes without a certificate, to be in the way.

use std::time::Duration;

use galen_certificates::Subject;
use galen_runtime::tls;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    time::{sleep, timeout},
};
use tonic::Code;

use super::{
    certificates::{Fleet, days},
    support::{Agent, PATIENCE},
};

/// How a client of TLS begins: a record of a handshake, of which the rest is missing.
const BEGINNING: &[u8] = b"\x16\x03\x01\x02\x00\x01";
const HUGE: usize = 100 << 20;

fn failed(reason: &str) -> String {
    format!("galen_aggregator_tls_failed_handshakes_total{{reason=\"{reason}\"}}")
}

#[tokio::test]
async fn handshakes_that_never_end_hold_up_nobody_and_are_ended() {
    let fleet = Fleet::impatient(Duration::from_millis(200)).await;
    let mut silent = Vec::new();
    for says in [&b""[..], BEGINNING].into_iter().cycle().take(20) {
        let mut stranger = TcpStream::connect(fleet.aggregator.addresses.grpc).await.unwrap();
        stranger.write_all(says).await.unwrap();
        silent.push(stranger);
    }
    // A look at the figures may be one of them.
    fleet.becomes(&failed("timeout"), |count| count >= 20.0).await;
    for mut stranger in silent {
        let _ = timeout(PATIENCE, stranger.read_to_end(&mut Vec::new())).await.expect("an end in time");
    }

    let fleet = Fleet::impatient(20 * PATIENCE).await;
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(TcpStream::connect(fleet.aggregator.addresses.grpc).await.unwrap());
    }
    let mut agent = fleet.agent("web-1", &fleet.files(Subject::Node("web-1"), days(1))).await;
    agent.welcome().await;
}

#[tokio::test]
async fn a_handshake_a_byte_at_a_time_is_ended_on_either_listener() {
    let fleet = Fleet::impatient(Duration::from_millis(300)).await;
    let addresses = fleet.aggregator.addresses.clone();
    for (address, count) in [(addresses.grpc, 1.0), (addresses.http, 2.0)] {
        let mut stranger = TcpStream::connect(address).await.unwrap();
        let trickles = async {
            for byte in BEGINNING.iter().chain(std::iter::repeat(&0)) {
                if stranger.write_all(&[*byte]).await.is_err() {
                    return;
                }
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(PATIENCE, trickles).await.expect("an end in time");
        fleet.becomes(&failed("timeout"), |timeouts| timeouts >= count).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_megabytes_before_the_handshake_or_without_the_right_are_not_taken() {
    let fleet = Fleet::start().await;
    let addresses = fleet.aggregator.addresses.clone();
    // One message of a handshake, as long as its length can say, record after record.
    let mut endless = b"\x16\x03\x01\x40\x00\x01\xff\xff\xff".to_vec();
    endless.resize(5 + (16 << 10), 0);
    for (address, count) in [(addresses.grpc, 1.0), (addresses.http, 3.0)] {
        is_not_taken(TcpStream::connect(address).await.unwrap(), &endless).await;
        fleet.shows(&failed("not_tls"), count).await;
        is_not_taken(TcpStream::connect(address).await.unwrap(), &[b'x'; 16 << 10]).await;
        fleet.shows(&failed("not_tls"), count + 1.0).await;
    }

    let node = fleet.files(Subject::Node("web-1"), days(1));
    let head = format!("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: {HUGE}\r\n\r\n");
    let mut anonymous = fleet.anonymous(addresses.http, tls::HTTP_1_1).await.unwrap();
    anonymous.write_all(head.as_bytes()).await.unwrap();
    is_not_taken(anonymous, &[b'x'; 16 << 10]).await;
    let mut without_right = fleet.http_stream(&node).await.unwrap();
    without_right.write_all(head.as_bytes()).await.unwrap();
    is_not_taken(without_right, &[b'x'; 16 << 10]).await;

    let channel = fleet.channel(&node).await.unwrap();
    let Err(status) = Agent::over(channel, "/galen.v1.QueryService/SearchEvents").await else {
        panic!("a node asks");
    };
    assert_eq!(status.code(), Code::PermissionDenied);
    let mut agent = fleet.agent("web-1", &node).await;
    agent.welcome().await;
    agent.send_bytes(vec![0; HUGE]).await;
    agent.ends(Code::ResourceExhausted, "larger than").await;
}

/// The connection ends long before it has taken all.
async fn is_not_taken(mut stream: impl AsyncRead + AsyncWrite + Unpin, piece: &[u8]) {
    let writes = async {
        for written in (0..HUGE).step_by(piece.len()) {
            if stream.write_all(piece).await.is_err() || stream.flush().await.is_err() {
                return written;
            }
        }
        HUGE
    };
    let written = timeout(PATIENCE, writes).await.expect("an end in time");
    assert!(written < HUGE / 2, "{written} bytes were taken");
}
