//! What ten thousand connected agents take of the aggregator, and how long it needs for all when they come back at once.

use std::{fs, path::Path, time::Duration};

use anyhow::Result;
use galen_runtime::Span;

use super::{Figure, mib};
use crate::load::{Arguments, Report, run};

const AGENTS: usize = 10_000;
const WATCH: Duration = Duration::from_secs(60);
const RECONNECTS: u32 = 3;

pub(super) async fn connected(dir: &Path) -> Result<Vec<Figure>> {
    let report = measure(dir, WATCH, 0).await?;
    let kib = |bytes: u64| bytes as f64 / 1024.0;
    let memory = format!("{:.1} KiB ({:.1} silent)", kib(report.sending_bytes), kib(report.silent_bytes));
    Ok(vec![
        Figure { name: "10,000 agents, an event each in 10 s: RSS a connection", measured: memory, reach: "≤40 KiB" },
        Figure {
            name: "   CPU", measured: format!("{:.1} % of a core", report.cpu_percent), reach: "≤25 % of a core"
        },
    ])
}

pub(super) async fn reconnect(dir: &Path) -> Result<Vec<Figure>> {
    let report = measure(dir, Duration::ZERO, RECONNECTS).await?;
    let slowest = report.reconnects.iter().map(|(took, _)| took.as_secs_f64()).fold(0.0, f64::max);
    let memory = format!("{:.0} MiB (without agents {:.0})", mib(report.peak_bytes), mib(report.before_bytes));
    Ok(vec![
        Figure {
            name: "10,000 agents back at once: all acknowledged, worst of 3",
            measured: format!("{slowest:.1} s"),
            reach: "<60 s",
        },
        Figure { name: "   peak resident memory", measured: memory, reach: "bounded" },
    ])
}

async fn measure(dir: &Path, watch: Duration, reconnects: u32) -> Result<Report> {
    fs::create_dir_all(dir)?;
    let arguments = Arguments {
        agents: AGENTS,
        every: Span::from_secs(10),
        settle: Span::from_secs(15),
        watch: Span(watch),
        reconnects,
        aggregator: None,
        tls: false,
        pid: None,
        settings: Vec::new(),
    };
    run(&arguments, dir).await
}
