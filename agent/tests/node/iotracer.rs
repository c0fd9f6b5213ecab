use std::{fs, io::Read, os::unix::fs::MetadataExt, path::Path};

use galen_proto::v1::{Event, EventKind, SuppressionReason};
use serde_json::Value;

use crate::{
    disks::{self, Disk, Mount},
    support::{Cgroup, TestAgent, data, hierarchies, until},
};

const WINDOW: &str = "2s";

async fn agent(more: &[(&str, &str)]) -> TestAgent {
    let settings = [
        ("tracers.iotracer.window", WINDOW),
        ("tracers.iotracer.run_tracing_tool_timeout", "2s"),
        // Disks of the machine itself may be busy too.
        ("budget.max_concurrent_captures", "16"),
    ];
    TestAgent::only("iotracer", &[&settings[..], more].concat()).await
}

fn name(disk: &Disk) -> String {
    disk.device.file_name().unwrap().to_str().unwrap().to_owned()
}

/// Makes a loop device slow for a cgroup: the kernel holds up what it writes to the disk below.
fn slow_down(disk: &Disk, cgroup: &disks::Cgroup) {
    let below = fs::metadata(disk.file()).unwrap().dev();
    let number = format!("{}:{}", rustix::fs::major(below), rustix::fs::minor(below));
    let device = fs::canonicalize(Path::new("/sys/dev/block").join(&number)).unwrap();
    let whole = if device.join("partition").exists() { device.parent().unwrap() } else { &device };
    let number = fs::read_to_string(whole.join("dev")).unwrap();
    let (major, minor) = number.trim().split_once(':').unwrap();
    cgroup.slow_down(major.parse::<u32>().unwrap() << 20 | minor.parse::<u32>().unwrap(), 1 << 20);
}

fn table(event: &Event, name: &str) -> Vec<Value> {
    let attachment = event.attachments.iter().find(|attachment| attachment.name == name).unwrap();
    assert_eq!((attachment.media_type.as_str(), attachment.encoding.as_str()), ("application/json", "gzip"));
    let mut text = String::new();
    flate2::read::GzDecoder::new(&attachment.content[..]).read_to_string(&mut text).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn is_of(event: &Event, kind: EventKind, disk: &str) -> bool {
    let data = data(event);
    let device = [&data["reason_snapshot"]["device"], &data["device"]].into_iter().find_map(Value::as_str);
    event.kind() == kind && device == Some(disk)
}

#[tokio::test]
async fn a_slow_disk_is_told_with_the_process_and_container_that_write_to_it() {
    let test = agent(&[]).await;
    let (disk, cgroup) = (Disk::create(64 << 20), disks::Cgroup::create());
    slow_down(&disk, &cgroup);
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
    assert_eq!(capture.container.as_ref().unwrap().cgroup, cgroup.path());
    assert!(data["latency"]["write"]["d2c"][0]["requests"].as_u64() > Some(0), "{data}");
    assert_eq!(first["files"][0]["path"].as_str(), Some(disk.path()), "{data}");
    assert!(first["fs_write_bytes"].as_u64() > Some(0), "{data}");
    let of_dd = |wait: &&Value| wait["pid"].as_u64() == Some(writing.0.id().into());
    let waits = table(&capture, "io_waits.json");
    let wait = waits.iter().find(of_dd).unwrap_or_else(|| panic!("{waits:?}"));
    assert!(wait["seconds"].as_f64() > Some(0.1), "{wait}");
    assert!(wait["stack"][0].as_str().unwrap().starts_with("io_schedule"), "{wait}");
    let longest = data["io_waits"]["longest"].as_array().unwrap();
    assert!(longest.iter().any(|wait| of_dd(&wait)), "{longest:?}");
    assert_eq!(table(&capture, "processes.json")[0]["pid"], first["pid"]);
    assert_eq!(data["lost"]["table_full"], 0, "{data}");

    // It is slow still.
    let suppressed = || test.agent.statuses().get("iotracer").unwrap().snapshot().suppressed;
    let cooldown = SuppressionReason::Cooldown as i32;
    until("the disk is left alone", || suppressed().iter().any(|told| told.reason == cooldown && told.count > 0)).await;
    let events = test.events();
    assert_eq!(events.iter().filter(|event| is_of(event, EventKind::Trigger, &name)).count(), 1);
}

#[tokio::test]
async fn who_writes_through_the_page_cache_is_told_though_a_thread_of_the_kernel_writes_to_the_disk() {
    let test = agent(&[("tracers.iotracer.util_threshold", "0")]).await;
    let mount = Mount::create(64 << 20);
    let hierarchies = hierarchies();
    let v1: Vec<_> = [&hierarchies.blkio, &hierarchies.memory].into_iter().flatten().map(AsRef::as_ref).collect();
    let roots = if hierarchies.blkio.is_some() { v1 } else { vec![hierarchies.unified.as_deref().unwrap()] };
    let cgroup = Cgroup::create(&roots, "io-buffered");
    let file = mount.path.path().join("file");
    let _syncing = cgroup.start(&format!("while :; do sync -f {}; sleep 0.1; done", mount.path.path().display()));
    let write = r#"open F, ">", shift; while (1) { seek F, 0, 0; syswrite F, "x" x 4194304 }"#;
    let writing = cgroup.start(&format!("exec perl -e '{write}' {}", file.display()));
    let name = name(&mount.disk);
    let capture = test.event("capture", |event| is_of(event, EventKind::Capture, &name)).await;
    let data = data(&capture);
    let first = &data["processes"][0];
    assert_eq!((first["name"].as_str(), first["pid"].as_u64()), (Some("perl"), Some(writing.0.id().into())), "{data}");
    assert!(first["writeback_bytes"].as_u64() > Some(0), "{data}");
    assert_eq!(first["files"][0]["path"].as_str(), file.to_str(), "{data}");
    assert_eq!(data["containers"][0]["cgroup"].as_str(), Some(cgroup.path.as_str()), "{data}");
}

#[tokio::test]
async fn a_disk_that_is_busy_for_a_moment_and_one_that_does_nothing_raise_nothing() {
    let test = agent(&[]).await;
    let (busy, idle, cgroup) = (Disk::create(64 << 20), Disk::create(64 << 20), disks::Cgroup::create());
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
