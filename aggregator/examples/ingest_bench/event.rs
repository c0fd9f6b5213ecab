//! The event that is sent.

use bytes::Bytes;
use galen_proto::v1::{Attachment, Container, Event, EventKind, Host, Severity, Times};
use prost::Message;

/// An encoded event of about `bytes` bytes, as an agent makes them.
pub(crate) fn encoded(place: usize, bytes: usize) -> Bytes {
    let mut event = Event {
        tracer: "cpuidle".into(),
        run_id: format!("0193c5a8-7a1e-7c3e-9b1a-{place:012x}"),
        kind: EventKind::Trigger as i32,
        severity: Severity::Warning as i32,
        summary: format!("CPU burst in shop-cart-{place}: 187 % user, 3.1 times the window before"),
        times: Some(Times {
            observed_boot_nanos: 86_400_000_000_000 + place as u64,
            observed_unix_nanos: 1_764_000_000_000_000_000,
            recorded_unix_nanos: 1_764_000_000_000_100_000,
        }),
        host: Some(Host {
            name: "web-1.example".into(),
            kernel: "6.18.0".into(),
            arch: "x86_64".into(),
            boot_id: "5c1d1f9e-3f0e-4f43-8c3a-0c6a6f1c2d10".into(),
            cpus: 64,
            region: "eu-1".into(),
        }),
        container: Some(Container {
            id: "4f1c0a".repeat(10),
            name: format!("shop-cart-{place}"),
            runtime: "docker".into(),
            cgroup: "/docker/4f1c0a".into(),
            ..Container::default()
        }),
        data: Bytes::new(),
        attachments: Vec::<Attachment>::new(),
        ..Event::default()
    };
    let mut data = format!(
        r#"{{"user_percent":{},"system_percent":12.5,"total_percent":199.5,"delta_percent":130.25,"rule":"user","threshold_percent":75,"window_seconds":5,"score":{},"threads":["#,
        100 + place,
        place * 3
    );
    let mut thread = 0;
    while event.encoded_len() + data.len() < bytes.saturating_sub(12) {
        data.push_str(&format!(r#"{}{}"#, if thread > 0 { "," } else { "" }, 4000 + thread * 7 % 513));
        thread += 1;
    }
    data.push_str("]}");
    event.data = data.into();
    event.encode_to_vec().into()
}
