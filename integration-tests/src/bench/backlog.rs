//! An agent that comes back to a backlog of a million events: how soon the first of them is acknowledged.

use std::{fs, path::Path, time::Duration};

use anyhow::Result;
use galen_buffer::{Buffer, Settings};
use galen_proto::v1::GetStatusRequest;
use tokio::time::Instant;

use super::{Figure, mib};
use crate::{
    fleet::{Agent, Aggregator},
    flood, wait,
};

const EVENTS: u64 = 1_000_000;
const GROUP: u64 = 1024;

pub(super) async fn measure(dir: &Path) -> Result<Vec<Figure>> {
    fs::create_dir_all(dir.join("data"))?;
    let settings = Settings { max_bytes: 16 << 30, ..Settings::new(dir.join("data/buffer")) };
    let buffer = Buffer::open(settings)?;
    for group in 0..EVENTS / GROUP + 1 {
        let numbers = group * GROUP..((group + 1) * GROUP).min(EVENTS);
        let receipts: Vec<_> = numbers.map(|number| buffer.append(flood::event(number).into())).collect();
        for receipt in receipts {
            receipt.await?;
        }
    }
    buffer.close()?;

    let aggregator_dir = dir.join("aggregator");
    fs::create_dir_all(&aggregator_dir)?;
    let aggregator = Aggregator::start(&aggregator_dir, &[]).await?;
    let start = Instant::now();
    let agent =
        Agent::start("galen-agent", "backlog", dir, aggregator.addresses.grpc, &["buffer.max_bytes=\"16GiB\""])?;
    let received = |least: u64| {
        let query = aggregator.query.clone();
        move || {
            let mut query = query.clone();
            async move {
                let status = query.get_status(GetStatusRequest {}).await?.into_inner();
                Ok((status.received >= least).then_some(()))
            }
        }
    };
    wait::until("the first acknowledgement", Duration::from_secs(60), received(1)).await?;
    let first = start.elapsed();
    wait::until("the whole backlog", Duration::from_secs(600), received(EVENTS)).await?;
    let all = start.elapsed();
    Ok(vec![
        Figure {
            name: "backlog of 1,000,000 events, agent restarted: first ack",
            measured: format!("{:.2} s", first.as_secs_f64()),
            reach: "<2 s",
        },
        Figure {
            name: "the same: all acknowledged",
            measured: format!(
                "{:.1} s, agent's peak {:.0} MiB",
                all.as_secs_f64(),
                mib(agent.process.usage()?.peak_resident_bytes)
            ),
            reach: "",
        },
    ])
}
