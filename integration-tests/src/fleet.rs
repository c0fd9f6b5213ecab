//! The aggregator and agents as processes, each with a directory of its own that survives its restarts.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result};
use galen_proto::v1::{GetStatusRequest, query_service_client::QueryServiceClient};
use galen_runtime::tls::Dialler;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tonic::{codegen::http::Uri, transport::Channel};
use tower::service_fn;

use crate::{
    process::{Process, program},
    query, wait,
};

const START: Duration = Duration::from_secs(30);
const CONNECT: Duration = Duration::from_secs(60);

/// An agent whose only tracer is the flood.
pub const FLOOD_AGENT: &str = "galen-flood-agent";

pub type Query = QueryServiceClient<Channel>;

/// Where an aggregator listens, as it writes it itself.
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct Addresses {
    pub grpc: SocketAddr,
    pub http: SocketAddr,
}

pub struct Aggregator {
    pub process: Process,
    pub addresses: Addresses,
    pub query: Query,
}

impl Aggregator {
    /// Starts it with its gRPC listener at `grpc`.
    pub async fn start_at(dir: &Path, grpc: SocketAddr) -> Result<Self> {
        Self::start(dir, &[&format!("listen.grpc=\"{grpc}\"")]).await
    }

    /// Starts it on the data in `dir`, on the ports it had there before, if any, and waits until it answers.
    pub async fn start(dir: &Path, settings: &[&str]) -> Result<Self> {
        Self::start_with(dir, settings, None).await
    }

    /// As [`start`](Self::start); it is asked through `dialler`, if its settings are such that it speaks TLS.
    pub async fn start_with(dir: &Path, settings: &[&str], dialler: Option<Dialler>) -> Result<Self> {
        let written = dir.join("data/addresses.json");
        let before: Option<Addresses> =
            fs::read(dir.join("addresses.json")).ok().and_then(|text| serde_json::from_slice(&text).ok());
        let _ = fs::remove_file(&written);
        let port = |address: Option<SocketAddr>| address.map_or(0, |address| address.port());
        let mut all = vec![
            format!("data_dir=\"{}\"", dir.join("data").display()),
            format!("listen.grpc=\"127.0.0.1:{}\"", port(before.map(|b| b.grpc))),
            format!("listen.http=\"127.0.0.1:{}\"", port(before.map(|b| b.http))),
        ];
        all.extend(settings.iter().map(ToString::to_string));
        let mut process = start("galen-aggregator", &all, dir.join("aggregator.log"))?;
        let addresses: Addresses = wait::until("the aggregator's addresses", START, || {
            let ended = process.ended();
            let answer = match ended {
                Ok(Some(status)) => Err(anyhow::anyhow!("it ended: {status}\n{}", process.tail())),
                _ => Ok(fs::read(&written).ok().and_then(|text| serde_json::from_slice(&text).ok())),
            };
            std::future::ready(answer)
        })
        .await?;
        fs::copy(&written, dir.join("addresses.json"))?;
        let query = ask(addresses.grpc, dialler)?;
        wait::until("the aggregator to answer", START, || {
            let mut query = query.clone();
            async move { Ok(Some(query.get_status(GetStatusRequest {}).await?)) }
        })
        .await
        .with_context(|| process.tail())?;
        Ok(Self { process, addresses, query })
    }
}

/// Asks at `grpc`, through `dialler` if it speaks TLS there.
pub fn ask(grpc: SocketAddr, dialler: Option<Dialler>) -> Result<Query> {
    let channel = match dialler {
        None => Channel::from_shared(format!("http://{grpc}"))?.connect_lazy(),
        Some(dialler) => {
            let connect = service_fn(move |_: Uri| {
                let dialler = dialler.clone();
                async move { dialler.dial(&grpc.to_string()).await.map(TokioIo::new) }
            });
            Channel::from_shared(format!("https://{grpc}"))?.connect_with_connector_lazy(connect)
        }
    };
    Ok(QueryServiceClient::new(channel).max_decoding_message_size(64 << 20))
}

pub struct Agent {
    pub process: Process,
    pub name: String,
    pub dir: PathBuf,
}

impl Agent {
    /// Starts `binary` on the data in `dir`, dialling `aggregator`.
    pub fn start(binary: &str, name: &str, dir: &Path, aggregator: SocketAddr, settings: &[&str]) -> Result<Self> {
        let mut all = vec![
            format!("node=\"{name}\""),
            format!("data_dir=\"{}\"", dir.join("data").display()),
            format!("records.dir=\"{}\"", dir.join("records").display()),
            format!("aggregator.endpoint=\"http://{aggregator}\""),
        ];
        if binary == FLOOD_AGENT {
            all.push(format!("tracers.flood.tally=\"{}\"", dir.join("tally").display()));
        }
        all.extend(settings.iter().map(ToString::to_string));
        let process = start(binary, &all, dir.join("agent.log"))?;
        Ok(Self { process, name: name.to_owned(), dir: dir.to_owned() })
    }

    /// Starts the agent with the settings of `agent.toml` in `dir`, dialling `aggregator`.
    pub fn start_with_file(name: &str, dir: &Path, aggregator: SocketAddr) -> Result<Self> {
        let arguments = [
            "--config".to_owned(),
            dir.join("agent.toml").display().to_string(),
            format!("--set=node=\"{name}\""),
            format!("--set=data_dir=\"{}\"", dir.join("data").display()),
            format!("--set=aggregator.endpoint=\"http://{aggregator}\""),
        ];
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let process = Process::start(&program("galen-agent")?, &arguments, dir.join("agent.log"))?;
        Ok(Self { process, name: name.to_owned(), dir: dir.to_owned() })
    }

    /// Waits until the aggregator knows it.
    pub async fn connected(&self, aggregator: &Aggregator) -> Result<()> {
        let name = &self.name;
        let known = || {
            let mut query = aggregator.query.clone();
            async move { query::node(&mut query, name).await }
        };
        wait::until("the agent to connect", CONNECT, known).await.with_context(|| self.process.tail())?;
        Ok(())
    }
}

fn start(binary: &str, settings: &[String], log: PathBuf) -> Result<Process> {
    let arguments: Vec<&str> = settings.iter().flat_map(|setting| ["--set", setting]).collect();
    Process::start(&program(binary)?, &arguments, log)
}

/// An address on loopback where nothing listens.
pub fn nowhere() -> Result<SocketAddr> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}
