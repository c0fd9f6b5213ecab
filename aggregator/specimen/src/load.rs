//! Events of 1 KiB that differ as those of a fleet do: what benchmarks index.

use galen_proto::v1::{Container, Event, EventKind, Host, LogRecord, Severity, Times};
use prost::Message;

use crate::NOW;

/// Events of a record.
pub const BATCH: u64 = 64;

/// Records with this many events, or a few less: whole records.
pub fn records(events: u64) -> Vec<LogRecord> {
    (0..events / BATCH).map(record).collect()
}

fn record(index: u64) -> LogRecord {
    let first = index * BATCH;
    LogRecord {
        node: format!("node-{}", index % 100),
        epoch: 0x00c0_ffee_00c0_ffee,
        first_seq: first + 1,
        events: (first..first + BATCH).map(|n| event(n).encode_to_vec().into()).collect(),
        received_unix_nanos: NOW,
        ..LogRecord::default()
    }
}

fn event(n: u64) -> Event {
    let percent = (n * 7919 % 1000) as f64 / 10.0;
    let time = NOW + n as i64 * 1_000_000;
    let id = format!("{:016x}{:016x}{:016x}{:016x}", n % 500, n % 500 * 31, n % 500 * 77, n % 500 * 1013);
    let data = serde_json::json!({
        "user_percent": percent, "user_percent_threshold": 75.0,
        "system_percent": percent / 7.0, "system_percent_threshold": 45.0,
        "total_percent": percent * 1.1, "total_percent_threshold": 90.0,
        "rules": ["user"], "score": percent / 2.0, "capacity_cpus": 2.0, "window_seconds": 5,
        "top": [
            { "comm": format!("worker-{}", n % 300), "pid": 1000 + n % 30_000, "percent": percent / 2.0 },
            { "comm": "nginx", "pid": 900 + n % 7, "percent": percent / 3.0 },
        ],
    });
    Event {
        tracer: ["cpuidle", "memburst", "oom"][(n % 3) as usize].into(),
        run_id: format!("0193a7c0-{:04x}-7{:03x}-8000-{:012x}", n >> 16 & 0xffff, n >> 4 & 0xfff, n),
        kind: EventKind::Trigger.into(),
        severity: Severity::Warning.into(),
        summary: format!("CPU burst in web-{}: user {percent:.1} % of 2 CPUs over 5 s", n % 500),
        times: Some(Times { observed_boot_nanos: n, observed_unix_nanos: time, recorded_unix_nanos: time + 1_000_000 }),
        host: Some(Host {
            name: format!("node-{}", n / BATCH % 100),
            kernel: "6.18.5".into(),
            arch: "x86_64".into(),
            boot_id: "c5a9c1f0-8f0b-4c7e-9d7a-0c0ffee0c0ff".into(),
            cpus: 2,
            region: "eu-1".into(),
        }),
        container: Some(Container {
            cgroup: format!("/docker/{id}"),
            id,
            name: format!("web-{}", n % 500),
            runtime: "docker".into(),
            image: "registry.example/shop/web:1.42.0".into(),
            pod: format!("web-{}-5d9f7c6b8", n % 500),
            namespace: "production".into(),
            qos: "Burstable".into(),
            labels: [
                ("app.kubernetes.io/name".to_owned(), "shop".to_owned()),
                ("app.kubernetes.io/instance".to_owned(), format!("shop-{}", n % 20)),
                ("com.docker.compose.project.working_dir".to_owned(), "/srv/shop/production".to_owned()),
                ("tier".to_owned(), "web".to_owned()),
            ]
            .into(),
        }),
        data: data.to_string().into(),
        ..Event::default()
    }
}
