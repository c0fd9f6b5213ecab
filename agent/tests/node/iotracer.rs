use std::{fs, os::unix::fs::MetadataExt, path::Path};

use galen_proto::v1::{Event, EventKind};
use serde_json::Value;

use crate::{
    disks::{Cgroup, Disk},
    support::{TestAgent, data},
};

const WINDOW: &str = "2s";

async fn agent() -> TestAgent {
    TestAgent::only(
        "iotracer",
        &[
            ("tracers.iotracer.window", WINDOW),
            ("tracers.iotracer.run_tracing_tool_timeout", "2s"),
            // Disks of the machine itself may be busy too.
            ("tracers.iotracer.max_concurrent_captures", "16"),
        ],
    )
    .await
}

fn name(disk: &Disk) -> String {
    disk.device.file_name().unwrap().to_str().unwrap().to_owned()
}

/// Makes a loop device slow for a cgroup: the kernel holds up what it writes to the disk below.
fn slow_down(disk: &Disk, cgroup: &Cgroup, bytes_per_second: u64) {
    let below = fs::metadata(disk.file()).unwrap().dev();
    let number = format!("{}:{}", rustix::fs::major(below), rustix::fs::minor(below));
    let device = fs::canonicalize(Path::new("/sys/dev/block").join(&number)).unwrap();
    let whole = if device.join("partition").exists() { device.parent().unwrap() } else { &device };
    let whole = fs::read_to_string(whole.join("dev")).unwrap();
    let whole = whole.trim();
    for kind in ["read", "write"] {
        cgroup.set(&format!("blkio.throttle.{kind}_bps_device"), &format!("{whole} {bytes_per_second}"));
    }
    cgroup.set("io.max", &format!("{whole} rbps={bytes_per_second} wbps={bytes_per_second}"));
}

fn is_of(event: &Event, kind: EventKind, disk: &str) -> bool {
    let data = data(event);
    let device = [&data["reason_snapshot"]["device"], &data["device"]].into_iter().find_map(Value::as_str);
    event.kind() == kind && device == Some(disk)
}

#[tokio::test]
async fn a_slow_disk_is_told_with_the_process_and_container_that_write_to_it() {
    let test = agent().await;
    let (disk, cgroup) = (Disk::create(64 << 20), Cgroup::create());
    slow_down(&disk, &cgroup, 1 << 20);
    let writing = cgroup.start(&format!("exec dd if=/dev/zero of={} bs=512k count=1000 oflag=direct", disk.path()));
    let name = name(&disk);
    let trigger = test.event("trigger", |event| is_of(event, EventKind::Trigger, &name)).await;
    let snapshot = &data(&trigger)["reason_snapshot"];
    assert_eq!(trigger.tracer, "iotracer");
    assert!(["ioutil", "write_await"].contains(&snapshot["type"].as_str().unwrap()), "{snapshot}");
    assert!(snapshot["iostatus"]["write_await"].as_f64() > Some(100.0), "{snapshot}");
    assert!(trigger.explanation.contains(&name) && trigger.explanation.contains("rule"), "{}", trigger.explanation);

    let capture = test.event("capture", |event| is_of(event, EventKind::Capture, &name)).await;
    assert_eq!(capture.run_id, trigger.run_id);
    let data = data(&capture);
    let first = &data["processes"][0];
    assert_eq!((first["name"].as_str(), first["pid"].as_u64()), (Some("dd"), Some(writing.0.id().into())), "{data}");
    assert_eq!(first["cgroup"].as_str(), Some(cgroup.path().as_str()), "{data}");
    assert!(
        first["write_bytes"].as_u64() > Some(0) && first["write"]["d2c_mean_seconds"].as_f64() > Some(0.01),
        "{data}"
    );
    assert_eq!(data["containers"][0]["cgroup"].as_str(), Some(cgroup.path().as_str()), "{data}");
    assert_eq!(capture.container.unwrap().cgroup, cgroup.path());
    assert!(data["latency"]["write"]["d2c"][0]["requests"].as_u64() > Some(0), "{data}");
}

#[tokio::test]
async fn a_disk_that_is_busy_for_a_moment_and_one_that_does_nothing_raise_nothing() {
    let test = agent().await;
    let (busy, idle, cgroup) = (Disk::create(64 << 20), Disk::create(64 << 20), Cgroup::create());
    let mut ticker = test.agent.ticker();
    cgroup.run(&format!("exec dd if=/dev/zero of={} bs=64k count=256 oflag=direct", busy.path()));
    // As long as two windows, and one more.
    for _ in 0..7 {
        ticker.tick().await;
    }
    let status = test.agent.statuses().get("iotracer").unwrap().snapshot();
    assert!(status.evaluations > 0, "{status:?}");
    for disk in [&busy, &idle] {
        let name = name(disk);
        assert!(test.events().iter().all(|event| !is_of(event, EventKind::Trigger, &name)), "{name}");
    }
}
