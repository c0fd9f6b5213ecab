//! An aggregator with TLS, and certificates of its authority and of others.

#![allow(dead_code, reason = "each test binary uses its part")]

use std::{
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use galen_aggregator::{Settings, Waits};
use galen_certificates::{Authority, Issued, Subject, Validity};
use galen_runtime::tls::{self, Dialler, File, Files};
use hyper_util::rt::TokioIo;
use tempfile::{TempDir, tempdir};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, timeout},
};
use tokio_rustls::{
    TlsConnector,
    rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs, pki_types::pem::PemObject, version::TLS13},
};
use tonic::{
    Status,
    transport::{Channel, Endpoint, Error},
};
use tower::service_fn;

use super::support::{self, Agent, Aggregator, PATIENCE, SESSION, hello, queue};

/// An aggregator, and the authority of its agents.
pub(crate) struct Fleet {
    pub(crate) aggregator: Aggregator,
    pub(crate) authority: Authority,
    dir: TempDir,
    revoked: Files,
    made: AtomicUsize,
}

pub(crate) fn days(days: u32) -> Validity {
    Validity::days(days)
}

/// Ended an hour ago.
pub(crate) fn past() -> Validity {
    let until = days(0).from;
    Validity { from: until - Duration::from_secs(60), until }
}

impl Fleet {
    pub(crate) async fn start() -> Self {
        Self::make("", Waits::default()).await
    }

    /// Whose authority took the certificate of one node back.
    pub(crate) async fn with_revoked(node: &str) -> Self {
        Self::make(node, Waits::default()).await
    }

    /// That waits for a handshake only so long, and for other things as long as it takes.
    pub(crate) async fn impatient(handshake: Duration) -> Self {
        let long = 20 * PATIENCE;
        Self::make("", Waits { handshake, idle: long, hello: long, call: long, ..Waits::default() }).await
    }

    /// That looks all the time whether the certificates of its connections still stand.
    pub(crate) async fn watchful() -> Self {
        Self::make("", Waits { certificate: Duration::from_millis(50), ..Waits::default() }).await
    }

    async fn make(revoked: &str, waits: Waits) -> Self {
        let (dir, authority) = (tempdir().unwrap(), Authority::new("galen", days(10)).unwrap());
        fs::write(dir.path().join("ca.pem"), authority.certificate()).unwrap();
        fs::create_dir(dir.path().join("data")).unwrap();
        put(dir.path(), "aggregator", &aggregators(&authority, days(1)));
        let gone =
            authority.issue(Subject::Node(if revoked.is_empty() { "nobody" } else { revoked }), days(1)).unwrap();
        fs::write(dir.path().join("crl.pem"), authority.revoke(&[&gone]).unwrap()).unwrap();
        let revoked = put(dir.path(), "revoked", &gone);
        let settings = Settings { waits, ..settings(dir.path(), &dir.path().join("data")) };
        let aggregator = Aggregator::with(settings).await;
        Self { aggregator, authority, dir, revoked, made: AtomicUsize::new(0) }
    }

    /// Settings with the same files.
    pub(crate) fn settings(&self, data_dir: &Path) -> Settings {
        settings(self.dir.path(), data_dir)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Gives the aggregator another certificate, key first.
    pub(crate) fn replace(&self, issued: &Issued) {
        put(self.dir.path(), "aggregator", issued);
    }

    pub(crate) fn files(&self, subject: Subject<'_>, validity: Validity) -> Files {
        self.files_of(&self.authority, subject, validity)
    }

    pub(crate) fn files_of(&self, authority: &Authority, subject: Subject<'_>, validity: Validity) -> Files {
        let name = format!("client-{}", self.made.fetch_add(1, Ordering::Relaxed));
        put(self.dir.path(), &name, &authority.issue(subject, validity).unwrap())
    }

    pub(crate) fn put(&self, name: &str, issued: &Issued) -> Files {
        put(self.dir.path(), name, issued)
    }

    pub(crate) fn user(&self) -> Files {
        self.files(Subject::User("ada"), days(1))
    }

    pub(crate) fn revoked(&self) -> Files {
        self.revoked.clone()
    }

    pub(crate) async fn channel(&self, files: &Files) -> Result<Channel, Error> {
        self.dial(self.aggregator.addresses.grpc, files).await
    }

    pub(crate) async fn dial(&self, to: SocketAddr, files: &Files) -> Result<Channel, Error> {
        let config = tls::client(&files.read().unwrap(), tls::HTTP_2).unwrap();
        let dialler = Dialler::new(config, Some("localhost")).unwrap();
        let connect = service_fn(move |_| {
            let dialler = dialler.clone();
            async move { dialler.dial(&to.to_string()).await.map(TokioIo::new) }
        });
        Endpoint::from_shared(format!("https://{to}")).unwrap().connect_with_connector(connect).await
    }

    /// By HTTP, with nothing asked yet.
    pub(crate) async fn http_stream(&self, files: &Files) -> io::Result<tls::Stream> {
        self.http_stream_to(self.aggregator.addresses.http, files).await
    }

    pub(crate) async fn http_stream_to(&self, to: SocketAddr, files: &Files) -> io::Result<tls::Stream> {
        let config = tls::client(&files.read().unwrap(), tls::HTTP_1_1).unwrap();
        let dialler = Dialler::new(config, Some("localhost")).unwrap();
        dialler.dial(&to.to_string()).await
    }

    /// That was welcomed as `node`, if it gets in.
    pub(crate) async fn try_agent(&self, node: &str, files: &Files) -> Result<Agent, Status> {
        let channel = self.channel(files).await.map_err(|error| Status::from_error(error.into()))?;
        let mut agent = Agent::over(channel, SESSION).await?;
        agent.send(galen_proto::v1::agent_message::Message::Hello(hello(node, &[queue(1, 1)]))).await;
        agent.welcome_or_end().await.map(|_| agent)
    }

    /// That has said its hello as `node`.
    pub(crate) async fn agent(&self, node: &str, files: &Files) -> Agent {
        let agent = Agent::over(self.channel(files).await.unwrap(), SESSION).await.unwrap();
        let hello = hello(node, &[queue(1, 1)]);
        agent.send(galen_proto::v1::agent_message::Message::Hello(hello)).await;
        agent
    }

    /// Whether nothing can be asked with `files`, and it is counted under `reason`.
    pub(crate) async fn is_kept_out(&self, files: Option<&Files>, reason: &str) {
        match files {
            // The handshake's end is another for each side, so it may be the first call that fails.
            Some(files) => match self.channel(files).await {
                Err(_) => {}
                Ok(channel) => assert!(Agent::over(channel, SESSION).await.is_err(), "{reason}"),
            },
            None => {
                let mut stream = self.anonymous(self.aggregator.addresses.grpc, tls::HTTP_2).await.unwrap();
                let read = timeout(PATIENCE, stream.read_to_end(&mut Vec::new())).await.expect("an end in time");
                assert!(read.is_err(), "{reason}");
            }
        }
        self.shows(&format!("galen_aggregator_tls_failed_handshakes_total{{reason=\"{reason}\"}}"), 1.0).await;
    }

    /// The whole answer, with its head.
    pub(crate) async fn http(&self, path: &str, files: Option<&Files>) -> io::Result<String> {
        match files {
            None => get(self.anonymous(self.aggregator.addresses.http, tls::HTTP_1_1).await?, path).await,
            Some(files) => get(self.http_stream(files).await?, path).await,
        }
    }

    /// Who shows no certificate.
    pub(crate) async fn anonymous(&self, to: SocketAddr, protocol: &[u8]) -> io::Result<tls::Stream> {
        let mut roots = RootCertStore::empty();
        let authority = PemObject::from_pem_slice(self.authority.certificate().as_bytes()).unwrap();
        roots.add(authority).unwrap();
        let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&TLS13])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![protocol.to_vec()];
        let stream = TcpStream::connect(to).await?;
        TlsConnector::from(Arc::new(config)).connect("localhost".try_into().unwrap(), stream).await
    }

    /// Ends the aggregator, and returns what its files are in.
    pub(crate) async fn stop(self) -> TempDir {
        self.aggregator.stop().await;
        self.dir
    }

    /// Waits until a figure is so much.
    pub(crate) async fn shows(&self, figure: &str, value: f64) {
        self.becomes(figure, |now| now == value).await;
    }

    /// Waits until a figure is as it should be.
    pub(crate) async fn becomes(&self, figure: &str, is_right: impl Fn(f64) -> bool) {
        let deadline = Instant::now() + 2 * PATIENCE;
        loop {
            // Its handshake may be too slow for one that is impatient.
            let answer = self.http("/metrics", None).await.unwrap_or_default();
            let line = answer.lines().find_map(|line| line.strip_prefix(figure)?.strip_prefix(' ')?.parse().ok());
            if line.is_some_and(&is_right) {
                return;
            }
            assert!(Instant::now() < deadline, "{figure} is {line:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

pub(crate) fn aggregators(authority: &Authority, validity: Validity) -> Issued {
    authority.issue(Subject::Aggregator(&["localhost".to_owned(), "127.0.0.1".to_owned()]), validity).unwrap()
}

fn settings(dir: &Path, data_dir: &Path) -> Settings {
    support::settings(data_dir, |config| {
        config.tls.certificate_file = dir.join("aggregator.pem");
        config.tls.key_file = dir.join("aggregator.key");
        config.tls.ca_file = dir.join("ca.pem");
        config.tls.crl_files = vec![dir.join("crl.pem")];
        // Tests look at them.
        config.access.open_metrics = true;
    })
}

fn put(dir: &Path, name: &str, issued: &Issued) -> Files {
    let [certificate, key] = ["pem", "key"].map(|kind| dir.join(format!("{name}.{kind}")));
    fs::write(&key, &issued.key).unwrap();
    fs::write(&certificate, &issued.certificate).unwrap();
    Files {
        certificate: File::new("certificate", certificate),
        key: File::new("key", key),
        authorities: File::new("ca", dir.join("ca.pem")),
        revoked: Vec::new(),
    }
}

async fn get(mut stream: impl AsyncRead + tokio::io::AsyncWrite + Unpin, path: &str) -> io::Result<String> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: aggregator.example\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut answer)).await.expect("an answer in time")?;
    Ok(answer)
}
