//! What Kafka's client takes for the same records, with nothing around it.

use std::{
    fmt::Write as _,
    io::Write,
    time::{Duration, Instant},
};

use anyhow::Result;
use rdkafka::{
    ClientConfig,
    message::{Header, OwnedHeaders},
    producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer},
    types::RDKafkaErrorCode,
};

use crate::{Arguments, cpu_seconds, event};

/// Those of the aggregator's records, see docs/kafka.md.
const HEADERS: [(&str, &str); 6] = [
    ("ce_specversion", "1.0"),
    ("ce_source", "/nodes/node-17"),
    ("ce_type", "io.galen.event.cpuidle.trigger"),
    ("content-type", "application/vnd.google.protobuf; proto=galen.v1.Event"),
    ("ce_time", "2025-11-24T16:00:00.122999995Z"),
    ("ce_subject", "shop-cart-17"),
];

pub(crate) fn run(brokers: &str, arguments: &Arguments) -> Result<()> {
    let client: ThreadedProducer<DefaultProducerContext> = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("linger.ms", "5")
        .set("compression.type", "zstd")
        .set("queue.buffering.max.kbytes", "65536")
        .create()?;
    let events: Vec<_> = (0..arguments.batch).map(|place| event::encoded(place, arguments.event_bytes)).collect();
    let nodes: Vec<String> = (0..arguments.agents).map(|place| format!("node-{place}")).collect();
    let (mut sent, mut measured, mut id) = (0_usize, None, String::new());
    let warm = Instant::now() + Duration::from_secs(2);
    let end = warm + Duration::from_secs(arguments.seconds);
    while Instant::now() < end {
        if measured.is_none() && Instant::now() >= warm {
            measured = Some((sent, cpu_seconds(std::process::id())?, Instant::now()));
        }
        let node = &nodes[sent / events.len() % nodes.len()];
        for event in &events {
            id.clear();
            write!(id, "{node}/0000000000c0ffee/{sent}")?;
            let headers = OwnedHeaders::new_with_capacity(8).insert(Header { key: "ce_id", value: Some(&id) });
            let headers = HEADERS
                .iter()
                .fold(headers, |headers, (key, value)| headers.insert(Header { key, value: Some(*value) }));
            let mut record = BaseRecord::to("galen.events").key(node).payload(&event[..]).headers(headers);
            while let Err((error, back)) = client.send(record) {
                anyhow::ensure!(error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull), error);
                record = back;
                std::thread::sleep(Duration::from_millis(1));
            }
            sent += 1;
        }
    }
    client.flush(Duration::from_secs(30))?;
    let Some((before, (user, system), began)) = measured else { anyhow::bail!("no time was measured") };
    let (user_after, system_after) = cpu_seconds(std::process::id())?;
    let (events, took) = ((sent - before) as f64, began.elapsed().as_secs_f64());
    let (user, system) = (user_after - user, system_after - system);
    writeln!(
        std::io::stdout(),
        "Kafka's client alone: {:.0} events/s, CPU {:.2} s (user {user:.2}, system {system:.2}) in {took:.1} s, \
         {:.0} events per core-second",
        events / took,
        user + system,
        events / (user + system),
    )?;
    Ok(())
}
