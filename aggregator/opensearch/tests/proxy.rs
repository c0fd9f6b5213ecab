//! A proxy before OpenSearch that answers in its place: it is named with what it said, and nothing is lost.
//!
//! What stands before our OpenSearch here answers requests that begin as a test says, and lets all others through.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use galen_opensearch::{Archive, Class, Settings};
use galen_runtime::Chain;
use galen_specimen::{NOW, event, record};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use support::{Running, documents, settings, shared, until};

const PAGE: &str = "<html>\n<body>Please log in</body></html>";

/// How a request begins, and what is the answer to it.
type Rule = Arc<Mutex<Option<(&'static str, &'static str)>>>;

struct Proxy {
    address: SocketAddr,
    rule: Rule,
    _open: JoinSet<()>,
}

impl Proxy {
    async fn open(server: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, rule) = (listener.local_addr().unwrap(), Rule::default());
        let (its_rule, mut open) = (Arc::clone(&rule), JoinSet::new());
        #[allow(clippy::disallowed_methods, reason = "they end with the set that owns them")]
        open.spawn(async move {
            let mut guests = JoinSet::new();
            while let Ok((guest, _)) = listener.accept().await {
                let (server, rule) = (server.clone(), Arc::clone(&its_rule));
                guests.spawn(async move {
                    // Who breaks off a connection connects again.
                    let _ = admit(guest, &server, &rule).await;
                });
            }
        });
        Self { address, rule, _open: open }
    }

    fn answers(&self, begin: &'static str, answer: &'static str) {
        *self.rule.lock().unwrap() = Some((begin, answer));
    }

    fn steps_aside(&self) {
        *self.rule.lock().unwrap() = None;
    }
}

/// A request begins with what is read first: its client sends none before the last one was answered.
async fn admit(mut guest: TcpStream, server: &str, rule: &Rule) -> io::Result<()> {
    let mut server = TcpStream::connect(server).await?;
    let (mut request, mut response) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    loop {
        tokio::select! {
            read = guest.read(&mut request) => {
                let read = &request[..read?];
                if read.is_empty() {
                    return Ok(());
                }
                let rule = *rule.lock().unwrap();
                if let Some((_, answer)) = rule.filter(|(begin, _)| read.starts_with(begin.as_bytes())) {
                    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", answer.len());
                    guest.write_all(format!("{head}{answer}").as_bytes()).await?;
                    // The rest of the request, until its client has the answer.
                    while guest.read(&mut request).await? > 0 {}
                    return Ok(());
                }
                server.write_all(read).await?;
            }
            read = server.read(&mut response) => {
                let read = &response[..read?];
                if read.is_empty() {
                    return Ok(());
                }
                guest.write_all(read).await?;
            }
        }
    }
}

#[tokio::test]
async fn a_proxys_page_is_a_problem_in_words_while_it_comes_and_nothing_is_lost() {
    let server = shared();
    let proxy = Proxy::open(server.address()).await;
    let url = format!("http://{}", proxy.address).parse().unwrap();
    let through = Settings { urls: vec![url], ..settings(&server, "page") };
    let node = proxy.address.to_string();

    proxy.answers("GET /", PAGE);
    let events: Vec<_> = (0..3).map(|n| event("oom", NOW + n, "")).collect();
    let running = Running::start(through.clone(), vec![record(1, &events)]);
    let tells = |words: &str| {
        let stats = running.stats();
        assert!(!stats.halted, "{stats:?}");
        stats.problem.is_some_and(|problem| problem.contains(&node) && problem.contains(words))
    };
    until("it is told at the beginning", async || tells("`<html> <body>Please log in")).await;
    let error = Archive::new(&through).unwrap().size().await.unwrap_err();
    assert!(Chain(&error).to_string().contains("Please log in"), "{error:?}");
    assert_eq!(error.class(), Class::Retryable);

    proxy.answers("POST /_bulk", PAGE);
    until("it is told of events, which are sent again", async || {
        running.stats().failures >= 3
            && tells("index events, answered with what is not OpenSearch's: `<html> <body>Please")
    })
    .await;
    // In its form, but of nothing that was asked.
    proxy.answers("POST /_bulk", r#"{"status":"ok"}"#);
    until("an answer without documents is told", async || tells(r#"0 of 3 documents: `{"status":"ok"}`"#)).await;
    assert_eq!((running.committed(), running.stats().events), (0, 0));

    proxy.steps_aside();
    let stats = running.finish().await;
    assert_eq!((stats.events, stats.duplicates, stats.problem), (3, 0, None));
    assert_eq!(documents(&server, "page-events-*").await.len(), 3);
}
