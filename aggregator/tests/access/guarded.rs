//! An aggregator that asks who is there, and ways to ask it.

use std::{
    collections::BTreeMap,
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use galen_aggregator::{Settings, access};
use galen_runtime::{
    access::{Entry, Role, Token},
    tls::{self, Files},
};
use hyper_util::rt::TokioIo;
use tempfile::{TempDir, tempdir};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tonic::{
    Status,
    transport::{Channel, Endpoint},
};
use tower::service_fn;

use crate::{
    certificates::Fleet,
    support::{self, Aggregator, PATIENCE, ask_bytes},
};

/// With a token of each role.
pub(crate) struct Guarded {
    pub(crate) aggregator: Aggregator,
    tokens: BTreeMap<Role, Token>,
    dir: TempDir,
}

/// How somebody comes: in plaintext, or with TLS and a certificate or none.
pub(crate) enum Way<'a> {
    Plain,
    Tls(&'a Fleet, Option<Files>),
}

/// The beginning of an answer by HTTP.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) status: u16,
    pub(crate) text: String,
}

pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

impl Guarded {
    /// In plaintext, for tests of which none waits for a minute to be over.
    pub(crate) async fn start() -> Self {
        Self::refusing(u32::MAX).await
    }

    /// That listens to an address no more after so many refused requests.
    pub(crate) async fn refusing(a_minute: u32) -> Self {
        let dir = tempdir().unwrap();
        let settings = support::settings(dir.path(), |_| {});
        Self::with(dir, settings, a_minute).await
    }

    /// With the certificates of `fleet`.
    pub(crate) async fn beside(fleet: &Fleet) -> Self {
        let dir = tempdir().unwrap();
        let settings = fleet.settings(dir.path());
        Self::with(dir, settings, u32::MAX).await
    }

    async fn with(dir: TempDir, settings: Settings, refused_a_minute: u32) -> Self {
        let tokens: BTreeMap<Role, Token> = Role::ALL.map(|role| (role, Token::random().unwrap())).into();
        let file = dir.path().join("tokens");
        let lines: Vec<String> = tokens.iter().map(|(role, token)| line(&role.to_string(), *role, token)).collect();
        fs::write(&file, lines.join("\n")).unwrap();
        let users = Role::ALL.map(|role| (role.to_string(), role)).into();
        let access = access::Settings { tokens_file: Some(file), users, open_metrics: false, refused_a_minute };
        let aggregator = Aggregator::with(Settings { access, ..settings }).await;
        Self { aggregator, tokens, dir }
    }

    pub(crate) fn token(&self, role: Role) -> &Token {
        &self.tokens[&role]
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn tokens_file(&self) -> PathBuf {
        self.dir.path().join("tokens")
    }

    pub(crate) async fn channel(&self, way: &Way<'_>) -> Channel {
        let to = self.aggregator.addresses.grpc;
        match way {
            Way::Plain => self.aggregator.endpoint().connect().await.unwrap(),
            Way::Tls(fleet, Some(files)) => fleet.dial(to, files).await.unwrap(),
            Way::Tls(fleet, None) => {
                let stream = fleet.anonymous(to, tls::HTTP_2).await.unwrap();
                let mut stream = Some(stream);
                let connect = service_fn(move |_| {
                    let stream = stream.take().map(TokioIo::new);
                    async move { stream.ok_or_else(|| io::Error::other("there is one connection")) }
                });
                let endpoint = Endpoint::from_shared(format!("https://{to}")).unwrap();
                endpoint.connect_with_connector(connect).await.unwrap()
            }
        }
    }

    /// Asks by gRPC with one message.
    pub(crate) async fn grpc(
        &self,
        way: &Way<'_>,
        path: &str,
        token: Option<&Token>,
        message: Bytes,
    ) -> Result<(), Status> {
        let authorization = token.map(bearer);
        ask_bytes(self.channel(way).await, path, authorization.as_deref(), message).await
    }

    /// Asks by HTTP.
    pub(crate) async fn get(&self, way: &Way<'_>, path: &str, token: Option<&Token>) -> Head {
        let header = token.map_or_else(String::new, |token| format!("Authorization: {}\r\n", bearer(token)));
        self.get_with(way, path, &header).await
    }

    /// With headers as they are.
    pub(crate) async fn get_with(&self, way: &Way<'_>, path: &str, headers: &str) -> Head {
        let to = self.aggregator.addresses.http;
        let stream: Box<dyn Stream> = match way {
            Way::Plain => Box::new(TcpStream::connect(to).await.unwrap()),
            Way::Tls(fleet, None) => Box::new(fleet.anonymous(to, tls::HTTP_1_1).await.unwrap()),
            Way::Tls(fleet, Some(files)) => Box::new(fleet.http_stream_to(to, files).await.unwrap()),
        };
        head(stream, to, &format!("GET {path} HTTP/1.1\r\n{headers}")).await
    }
}

pub(crate) fn line(name: &str, role: Role, token: &Token) -> String {
    Entry::new(name, role, token.digest()).unwrap().to_string()
}

pub(crate) fn bearer(token: &Token) -> String {
    format!("Bearer {}", token.reveal())
}

/// Asks, and reads the answer, of a stream its head.
pub(crate) async fn head(mut stream: impl Stream, to: SocketAddr, request: &str) -> Head {
    stream.write_all(format!("{request}Host: {to}\r\n\r\n").as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    let mut text = Vec::new();
    let reads = async {
        while !is_whole(&text) {
            assert!(stream.read_buf(&mut text).await.unwrap() > 0, "no end: {}", String::from_utf8_lossy(&text));
        }
    };
    timeout(PATIENCE, reads).await.expect("an answer in time");
    let text = String::from_utf8_lossy(&text).into_owned();
    let status = text.split(' ').nth(1).unwrap().parse().unwrap();
    Head { status, text }
}

/// Whether the head is there, and as much as it announces. One that announces nothing is of a stream.
fn is_whole(text: &[u8]) -> bool {
    let Some(end) = text.windows(4).position(|four| four == b"\r\n\r\n") else { return false };
    let head = String::from_utf8_lossy(&text[..end]).to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    text.len() >= end + 4 + length.unwrap_or(0)
}
