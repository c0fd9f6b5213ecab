//! What a daemon says of a container that speaks the Docker Engine API on a unix socket: docker, and podman.
//!
//! A question has a connection of its own: it is asked once in a container's life. The answer is limited in size, and
//! one about another id is an error.

use std::{collections::HashMap, path::Path};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{Request, StatusCode, client::conn::http1, header::HOST};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::UnixStream;

use super::{Description, MAX_ANSWER};
use crate::tracer::BoxError;

/// Why a daemon did not answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("failed to connect")]
    Connect(#[source] std::io::Error),
    #[error("the id does not fit into a request")]
    Request(#[from] hyper::http::Error),
    #[error("failed to ask")]
    Ask(#[source] hyper::Error),
    #[error("failed to read the answer")]
    Read(#[source] BoxError),
    #[error("the daemon answered {0}")]
    Refused(StatusCode),
    #[error("the answer is not what the API says")]
    Json(#[from] serde_json::Error),
    #[error("the answer is about another container")]
    Another,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Inspected {
    id: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    config: Option<Config>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Config {
    image: String,
    labels: Option<HashMap<String, String>>,
}

/// `None` if the daemon knows no container of this id, which is made of hex digits.
pub(super) async fn inspect(socket: &Path, id: &str) -> Result<Option<Description>, Error> {
    let stream = UnixStream::connect(socket).await.map_err(Error::Connect)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(Error::Ask)?;
    let answer = async move {
        // Without a version in the path the daemon answers in the words of its own.
        let request = Request::get(format!("/containers/{id}/json")).header(HOST, "localhost");
        let request = request.body(Empty::<Bytes>::new())?;
        let response = sender.send_request(request).await.map_err(Error::Ask)?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => return Ok(None),
            status => return Err(Error::Refused(status)),
        }
        let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await.map_err(Error::Read)?;
        let inspected: Inspected = serde_json::from_slice(&body.to_bytes())?;
        if inspected.id != id {
            return Err(Error::Another);
        }
        let config = inspected.config.unwrap_or_default();
        Ok(Some(Description {
            name: inspected.name.trim_start_matches('/').to_owned(),
            image: config.image,
            labels: config.labels.unwrap_or_default(),
            ..Default::default()
        }))
    };
    // The sender goes with the answer, and with it the connection.
    tokio::join!(answer, connection).0
}
