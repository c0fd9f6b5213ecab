//! `make demo-full`: the whole of it on one machine. Two agents, two replicas of the aggregator, Kafka, OpenSearch, Redis
//! and Prometheus; a real CPU burst, seen in Kafka, in OpenSearch and in Prometheus by the commands that it prints.

use std::{
    fs,
    path::Path,
    process::{Command, ExitCode},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use galen_integration_tests::{
    burst::Burst,
    fleet::{Agent, Aggregator},
    query, wait,
};
use galen_proto::v1::{Event, EventKind};
use galen_runtime::{Span, signal};
use galen_services::Server;
use tokio::time::{Instant, sleep, sleep_until};

/// For each step, on a machine that does much else.
const LIMIT: Duration = Duration::from_secs(60);
/// Longer than the windows of the detectors, so that the burst stands out.
const QUIET: Duration = Duration::from_secs(12);

#[derive(Debug, Parser)]
#[command(name = "galen-full", about = "Galen with Kafka, OpenSearch, Redis and Prometheus on one machine")]
struct Arguments {
    /// End by itself after this time, with exit code 0 only if the burst was seen in Kafka and in OpenSearch
    #[arg(long = "for", value_name = "DURATION")]
    limit: Option<Span>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let told = tokio::select! {
        told = run(&arguments) => told,
        () = signal::terminated() => Err(anyhow::anyhow!("interrupted")),
    };
    match told {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// What runs. Dropped in this order, so that nothing is cut off on its way.
struct Stage {
    agents: Vec<Agent>,
    aggregators: Vec<Aggregator>,
    prometheus: Server,
    kafka: Server,
    opensearch: Server,
    redis: Server,
}

async fn run(arguments: &Arguments) -> Result<()> {
    let started = Instant::now();
    let dir = tempfile::Builder::new().prefix("galen-full-").tempdir()?;
    let stage = Stage::set(dir.path()).await?;
    say("both agents watch; waits until they have seen a quiet window");
    sleep(QUIET).await;
    let event = stage.burst(dir.path()).await?;
    let id = event.id.context("an event has an id")?.to_string();
    say(&format!("caught: {}\n  event {id}", event.summary));
    stage.show("Kafka", &stage.in_kafka(), &id).await?;
    stage.show("OpenSearch", &stage.in_opensearch(&id), &id).await?;
    stage.show("Prometheus", &stage.in_prometheus(), "galen_aggregator_fleet_connected_nodes").await?;
    for aggregator in &stage.aggregators {
        // Under its name there: the host, and the port of the agents.
        stage.show("Redis", &stage.in_redis(), &format!(":{}", aggregator.addresses.grpc.port())).await?;
        say(&format!(
            "replica: page http://{}/  query: galen --aggregator http://{} events",
            aggregator.addresses.http, aggregator.addresses.grpc
        ));
    }
    match arguments.limit {
        Some(limit) => sleep_until(started + limit.0).await,
        None => {
            say("runs until Ctrl-C");
            std::future::pending().await
        }
    }
    Ok(())
}

impl Stage {
    async fn set(dir: &Path) -> Result<Self> {
        say("starts Kafka, OpenSearch and Redis");
        let (kafka, opensearch, redis) =
            (galen_services::kafka(), galen_services::opensearch(), galen_services::redis());
        let settings = [
            format!("kafka.brokers=\"{}\"", kafka.address()),
            format!("opensearch.urls=[\"{}\"]", opensearch.url()),
            format!("limits.redis.url=\"redis://{}\"", redis.address()),
            "limits.events_per_second=1000".to_owned(),
            "limits.replicas=2".to_owned(),
        ];
        let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
        let (mut aggregators, mut agents) = (Vec::new(), Vec::new());
        for name in ["one", "two"] {
            say(&format!("starts replica {name} of the aggregator, and an agent"));
            let dir = dir.join(name);
            fs::create_dir(&dir)?;
            let aggregator = Aggregator::start(&dir, &settings).await?;
            let dir = dir.join("agent");
            fs::create_dir(&dir)?;
            agents.push(Agent::start("galen-agent", name, &dir, aggregator.addresses.grpc, &[])?);
            aggregators.push(aggregator);
        }
        for (agent, aggregator) in agents.iter().zip(&aggregators) {
            wait::until("an agent to connect", LIMIT, || {
                let mut query = aggregator.query.clone();
                async move { query::node(&mut query, &agent.name).await }
            })
            .await?;
        }
        let targets: Vec<_> = aggregators.iter().map(|aggregator| aggregator.addresses.http.to_string()).collect();
        let targets: Vec<_> = targets.iter().map(String::as_str).collect();
        let prometheus = galen_services::prometheus(&targets);
        Ok(Self { agents, aggregators, prometheus, kafka, opensearch, redis })
    }

    /// The trigger of a real burst, which the first agent reported, as the other replica finds it.
    async fn burst(&self, dir: &Path) -> Result<Event> {
        let path = format!("/galen-full-{}", std::process::id());
        say("lets a process spin in a cgroup that may use half a CPU");
        let burst = Burst::start_limited(&path, 1, 0.5, LIMIT, dir.join("burst.log"))?;
        let node = &self.agents[0].name;
        let text = format!("tracer:cpuidle AND node:{node} AND container.cgroup:\"{path}\"");
        let event = query::first(&self.aggregators[1].query, &text, EventKind::Trigger, LIMIT).await?;
        drop(burst);
        Ok(event)
    }

    fn in_kafka(&self) -> String {
        let broker = self.kafka.address();
        format!("kcat -q -b {broker} -C -t galen.events -o beginning -e -f '%k  %h\\n'")
    }

    fn in_opensearch(&self, id: &str) -> String {
        let url = self.opensearch.url();
        format!("curl -sS '{url}/galen-events-*/_search?pretty&size=1&q=_id:\"{id}\"'")
    }

    fn in_redis(&self) -> String {
        format!("redis-cli -h 127.0.0.1 -p {} hkeys '{{galen:limits}}:replicas'", self.redis.port())
    }

    fn in_prometheus(&self) -> String {
        format!("curl -sS '{}/api/v1/query?query=galen_aggregator_fleet_connected_nodes'", self.prometheus.url())
    }

    /// Waits until the command's output has `wanted`, and prints both.
    async fn show(&self, place: &str, command: &str, wanted: &str) -> Result<()> {
        let until = Instant::now() + LIMIT;
        loop {
            let output = Command::new("sh").args(["-c", command]).output()?;
            let text = String::from_utf8_lossy(&output.stdout);
            if let Some(line) = text.lines().find(|line| line.contains(wanted)) {
                say(&format!("in {place}:\n  $ {command}\n  {}", line.trim()));
                return Ok(());
            }
            ensure!(output.status.success() || Instant::now() < until, "{}", String::from_utf8_lossy(&output.stderr));
            if Instant::now() >= until {
                bail!("{place} does not have it: {command}");
            }
            sleep(Duration::from_millis(500)).await;
        }
    }
}

#[allow(clippy::print_stdout, reason = "it is a program for people")]
fn say(text: &str) {
    println!("{text}");
}
