//! Requests to the nodes of a cluster.
//!
//! Each node has a transport of its own, and they take turns. A node that does not answer is left out for a while, as
//! long as there is another. Every request has a time limit; nothing is repeated here.

use std::{
    error, fs, io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use opensearch::{
    auth::{ClientCertificate, Credentials},
    cert::{Certificate, CertificateValidation},
    http::{
        Method,
        headers::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue},
        transport::{SingleNodeConnectionPool, Transport, TransportBuilder},
    },
};
use parking_lot::Mutex;
use serde::Deserialize;
use url::Url;

use crate::{Settings, bulk::Cause, error::Error};

/// How long a node that did not answer is left out.
const REST: Duration = Duration::from_secs(10);
/// What is shown of an answer that is not OpenSearch's, in bytes.
const SHOWN: usize = 200;

/// A cluster; clones share the connections.
#[derive(Debug, Clone)]
pub struct Client(Arc<Cluster>);

#[derive(Debug)]
struct Cluster {
    nodes: Vec<Node>,
    turn: AtomicUsize,
}

#[derive(Debug)]
struct Node {
    name: Arc<str>,
    /// The user that we are.
    who: String,
    transport: Transport,
    rests_until: Mutex<Option<Instant>>,
}

/// What a node said, or a proxy before it.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) node: Arc<str>,
    pub(crate) status: u16,
    pub(crate) body: Bytes,
}

impl Client {
    /// Reads the files that the settings name, and connects to nothing yet.
    ///
    /// # Errors
    /// A file that cannot be read or holds something else.
    pub fn new(settings: &Settings) -> Result<Self, Error> {
        let nodes = settings.urls.iter().map(|url| Node::new(url, settings));
        Ok(Self(Arc::new(Cluster { nodes: nodes.collect::<Result<_, _>>()?, turn: AtomicUsize::new(0) })))
    }

    /// Sends a request, whose body is JSON, to the node whose turn it is.
    pub(crate) async fn send(&self, method: Method, path: &str, body: Option<Bytes>) -> Result<Answer, Error> {
        self.node().send(method, path, body, None).await
    }

    /// As [`Client::send`], with JSON in lines.
    pub(crate) async fn send_lines(&self, path: &str, body: Bytes) -> Result<Answer, Error> {
        self.node().send(Method::Post, path, Some(body), Some("application/x-ndjson")).await
    }

    /// As [`Client::send`], and takes anything but 2xx for an error.
    pub(crate) async fn ask(
        &self,
        action: &'static str,
        method: Method,
        path: &str,
        body: Option<Bytes>,
    ) -> Result<Answer, Error> {
        let answer = self.send(method, path, body).await?;
        if (200..300).contains(&answer.status) { Ok(answer) } else { Err(answer.refused(action)) }
    }

    fn node(&self) -> &Node {
        let Cluster { nodes, turn } = &*self.0;
        let turn = turn.fetch_add(1, Ordering::Relaxed);
        let in_turn = || (0..nodes.len()).map(|next| &nodes[(turn + next) % nodes.len()]);
        in_turn().find(|node| !node.rests()).unwrap_or(&nodes[turn % nodes.len()])
    }
}

impl Answer {
    /// Reads it as OpenSearch's answer to an action.
    pub(crate) fn read<'a, T: Deserialize<'a>>(&'a self, action: &'static str) -> Result<T, Error> {
        serde_json::from_slice(&self.body).map_err(|source| Error::Answer {
            node: self.node.to_string(),
            action,
            begins: self.begins(),
            source,
        })
    }

    /// Its first bytes, in one line.
    pub(crate) fn begins(&self) -> String {
        let text = String::from_utf8_lossy(&self.body[..self.body.len().min(SHOWN)]);
        text.replace(char::is_control, " ")
    }

    pub(crate) fn refused(&self, action: &'static str) -> Error {
        Error::Refused { action, status: self.status, reason: self.cause().1 }
    }

    /// Type and message of the error that a request ended with.
    pub(crate) fn cause(&self) -> (String, String) {
        #[derive(Debug, Deserialize)]
        struct Body {
            error: Cause,
        }
        match serde_json::from_slice::<Body>(&self.body) {
            Ok(Body { error }) => (error.kind.clone(), error.message()),
            // A proxy, or an old form: what it says is better than nothing.
            Err(_) => (String::new(), self.begins()),
        }
    }
}

impl Node {
    fn new(url: &Url, settings: &Settings) -> Result<Self, Error> {
        let mut builder =
            TransportBuilder::new(SingleNodeConnectionPool::new(url.clone())).disable_proxy().timeout(settings.timeout);
        if let Some(user) = &settings.user {
            let password = match &settings.password_file {
                Some(path) => String::from_utf8_lossy(&read(path)?).trim_end_matches(['\r', '\n']).to_owned(),
                None => String::new(),
            };
            // The client's certificate takes the place that the crate has for credentials.
            let basic = format!("Basic {}", STANDARD.encode(format!("{user}:{password}")));
            if let Ok(mut value) = HeaderValue::from_str(&basic) {
                value.set_sensitive(true);
                builder = builder.header(AUTHORIZATION, value);
            }
        }
        if let Some(path) = &settings.ca_file {
            let certificate = Certificate::from_pem(&read(path)?);
            let certificate = certificate.map_err(|source| Error::Certificate { path: path.clone(), source })?;
            builder = builder.cert_validation(CertificateValidation::Full(certificate));
        }
        if let (Some(certificate), Some(key)) = (&settings.certificate_file, &settings.key_file) {
            let mut pem = read(certificate)?;
            pem.push(b'\n');
            pem.extend(read(key)?);
            builder = builder.auth(Credentials::Certificate(ClientCertificate::Pem(pem)));
        }
        let transport = builder.build().map_err(|source| match &settings.certificate_file {
            // What the crate looks at here is our certificate and its key.
            Some(path) => Error::Certificate { path: path.clone(), source: source.into() },
            None => Error::Connect(source),
        })?;
        let port = url.port_or_known_default().unwrap_or_default();
        let name = format!("{}:{port}", url.host_str().unwrap_or_default()).into();
        let who =
            settings.user.as_ref().map_or_else(|| "anybody without a name".to_owned(), |user| format!("`{user}`"));
        Ok(Self { name, who, transport, rests_until: Mutex::new(None) })
    }

    fn rests(&self) -> bool {
        self.rests_until.lock().is_some_and(|until| Instant::now() < until)
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<Bytes>,
        content_type: Option<&'static str>,
    ) -> Result<Answer, Error> {
        let mut headers = HeaderMap::new();
        if let Some(content_type) = content_type {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        }
        let answer = async {
            let response = self.transport.send(method, path, headers, None::<&()>, body, None).await?;
            let status = response.status_code().as_u16();
            Ok(Answer { node: Arc::clone(&self.name), status, body: response.bytes().await? })
        };
        let answer = answer.await;
        *self.rests_until.lock() = answer.is_err().then(|| Instant::now() + REST);
        let node = || self.name.to_string();
        let answer = answer.map_err(|source: opensearch::Error| match tls(&source) {
            Some(source) => Error::Tls { node: node(), source },
            None => Error::Unreachable { node: node(), source },
        })?;
        if answer.status == 401 {
            return Err(Error::Credentials { node: node(), who: self.who.clone(), reason: answer.cause().1 });
        }
        Ok(answer)
    }
}

/// What the two sides did not agree on, if that is why there was no connection.
fn tls(error: &(dyn error::Error + 'static)) -> Option<rustls::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<rustls::Error>() {
            return Some(found.clone());
        }
        // Of what it carries, an I/O error tells the source only.
        next = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(carried) => Some(carried),
            None => error.source(),
        };
    }
    None
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    fs::read(path).map_err(|source| Error::File { path: path.to_owned(), source })
}
