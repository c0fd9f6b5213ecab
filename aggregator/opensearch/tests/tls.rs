//! A real OpenSearch behind HTTPS and a password, as clusters have it: what is wrong is named.
//!
//! Our OpenSearch has no security plugin, so what stands before it ends TLS and asks for the password.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use galen_opensearch::{Archive, Indexer, Search, Settings};
use galen_runtime::Chain;
use galen_specimen::{NOW, event, record};
use galen_store::Query;
use opensearch::http::Method;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_rustls::{
    TlsAcceptor, TlsStream,
    rustls::{
        ServerConfig,
        crypto::aws_lc_rs,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    },
};

use support::{Running, ask, indexed, settings, shared};

/// `galen:let-galen-in`.
const BASIC: &str = "basic z2fszw46bgv0lwdhbgvulwlu";
const PASSWORD: &str = "let-galen-in\n";

/// An authority, a certificate by it and the password, as files; and who stands before OpenSearch with them.
struct Door {
    dir: TempDir,
    address: SocketAddr,
    _open: JoinSet<()>,
}

impl Door {
    async fn open(server: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("password"), PASSWORD).unwrap();
        for authority in ["ca", "other"] {
            let (key, pem) = (format!("{authority}.key"), format!("{authority}.pem"));
            openssl(dir.path(), &["req", "-x509", "-subj", "/CN=authority", "-keyout", &key, "-out", &pem]);
        }
        let signed = ["-CA", "ca.pem", "-CAkey", "ca.key", "-addext", "subjectAltName=IP:127.0.0.1"];
        let ours = ["req", "-x509", "-subj", "/CN=door", "-keyout", "door.key", "-out", "door.pem"];
        let end = ["-addext", "basicConstraints=critical,CA:FALSE"];
        openssl(dir.path(), &[&ours[..], &signed, &end].concat());

        let certificate = CertificateDer::from_pem_file(dir.path().join("door.pem")).unwrap();
        let key = PrivateKeyDer::from_pem_file(dir.path().join("door.key")).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
        let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
        let acceptor = TlsAcceptor::from(Arc::new(config.with_single_cert(vec![certificate], key).unwrap()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, server) = (listener.local_addr().unwrap(), server.to_owned());
        let mut open = JoinSet::new();
        #[allow(clippy::disallowed_methods, reason = "they end with the set that owns them")]
        open.spawn(async move {
            let mut guests = JoinSet::new();
            while let Ok((guest, _)) = listener.accept().await {
                let (acceptor, server) = (acceptor.clone(), server.clone());
                guests.spawn(async move {
                    // Who does not like the certificate leaves.
                    if let Ok(guest) = acceptor.accept(guest).await {
                        let _ = admit(guest.into(), &server).await;
                    }
                });
            }
        });
        Self { dir, address, _open: open }
    }

    fn file(&self, name: &str) -> Option<PathBuf> {
        Some(self.dir.path().join(name))
    }

    fn settings(&self, before: Settings) -> Settings {
        Settings {
            urls: vec![format!("https://{}", self.address).parse().unwrap()],
            user: Some("galen".into()),
            password_file: self.file("password"),
            ca_file: self.file("ca.pem"),
            ..before
        }
    }
}

/// Looks at the first request of a connection; what comes after it is let through.
async fn admit(mut guest: TlsStream<TcpStream>, server: &str) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        if guest.read_buf(&mut head).await? == 0 {
            return Ok(());
        }
    }
    if !String::from_utf8_lossy(&head).to_lowercase().contains(&format!("authorization: {BASIC}\r\n")) {
        guest
            .write_all(b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 12\r\nconnection: close\r\n\r\nUnauthorized")
            .await?;
        return guest.shutdown().await;
    }
    let mut server = TcpStream::connect(server).await?;
    server.write_all(&head).await?;
    copy_bidirectional(&mut guest, &mut server).await.map(|_| ())
}

fn openssl(dir: &Path, arguments: &[&str]) {
    let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "3650"];
    let output = Command::new("openssl").args(arguments).args(key).current_dir(dir).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Why nothing is written with these settings.
async fn refused(settings: Settings) -> String {
    let running = Running::start(settings, vec![record(1, &[event("oom", NOW, "")])]);
    let counters = Arc::clone(&running.counters);
    let error = running.fails().await;
    let stats = counters.stats();
    assert!(stats.halted && stats.events == 0, "{stats:?}");
    let error = Chain(&error).to_string();
    assert_eq!(stats.problem.as_ref(), Some(&error));
    error
}

#[tokio::test]
async fn behind_https_and_a_password_events_are_written_and_found() {
    let server = shared();
    let door = Door::open(&server.address()).await;
    let settings = door.settings(settings(&server, "tls"));
    let events: Vec<_> = (0..100).map(|n| event("oom", NOW + n, "")).collect();
    assert_eq!(indexed(settings.clone(), vec![record(1, &events)]).await.events, 100);
    ask(&server, Method::Post, "/tls-*/_refresh", None).await;
    let query = Query::parse("tracer:oom", NOW).unwrap();
    let (since, until, page) = (None, None, None);
    let search = Search { query: &query, since, until, ascending: true, limit: 10, page, count_by: &[] };
    assert_eq!(Archive::new(&settings).unwrap().search(&search).await.unwrap().total, 100);
}

#[tokio::test]
async fn whom_we_do_not_trust_and_who_does_not_let_us_in_is_named() {
    let server = shared();
    let door = Door::open(&server.address()).await;
    let good = door.settings(settings(&server, "untrusted"));
    let node = door.address.to_string();

    let error = refused(Settings { ca_file: door.file("other.pem"), ..good.clone() }).await;
    assert!(error.contains(&node) && error.contains("`opensearch.ca_file`"), "{error}");
    assert!(error.contains("invalid peer certificate"), "{error}");

    let url = format!("https://localhost:{}", door.address.port()).parse().unwrap();
    let error = refused(Settings { urls: vec![url], ..good.clone() }).await;
    assert!(error.contains("not valid for name"), "{error}");

    fs::write(door.dir.path().join("wrong"), "guess").unwrap();
    let error = refused(Settings { password_file: door.file("wrong"), ..good.clone() }).await;
    assert!(error.contains(&node) && error.contains("`galen`") && error.contains("401"), "{error}");
    assert!(error.contains("`opensearch.password_file`"), "{error}");

    let error = refused(Settings { user: None, password_file: None, ..good.clone() }).await;
    assert!(error.contains("without a name") && error.contains("401"), "{error}");

    // Whoever puts the right password in its place need not change anything else.
    let mended = Settings { password_file: door.file("wrong"), ..good };
    let archive = Archive::new(&mended).unwrap();
    assert!(archive.size().await.unwrap_err().to_string().contains("401"));
    fs::write(door.dir.path().join("wrong"), PASSWORD).unwrap();
    archive.size().await.unwrap();
    assert_eq!(indexed(mended, vec![record(1, &[event("oom", NOW, "")])]).await.events, 1);
}

#[tokio::test]
async fn a_file_that_cannot_be_used_is_named() {
    let server = shared();
    let door = Door::open(&server.address()).await;
    let good = door.settings(settings(&server, "files"));
    let error = |settings: Settings| {
        let error = Indexer::new(settings, Arc::default()).unwrap_err();
        Chain(&error).to_string()
    };
    for (name, settings) in [
        ("missing.pem", Settings { ca_file: door.file("missing.pem"), ..good.clone() }),
        ("nothing", Settings { password_file: door.file("nothing"), ..good.clone() }),
        ("password", Settings { ca_file: door.file("password"), ..good.clone() }),
        (
            "password",
            Settings { certificate_file: door.file("password"), key_file: door.file("ca.key"), ..good.clone() },
        ),
    ] {
        let error = error(settings);
        assert!(error.contains(&format!("{}/{name}`", door.dir.path().display())), "{error}");
    }
}
