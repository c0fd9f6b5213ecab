//! Profiles, drawn and handed out.

use std::process::Command;

use galen_proto::v1::{Attachment, Event, EventKind};
use tempfile::tempdir;

use crate::{
    client::get,
    events::{NOON, SECOND, event, profile, with_events},
};

#[tokio::test]
async fn before_after_and_their_difference_are_shown_apart() {
    let dir = tempdir().unwrap();
    let named = |name: &str| Attachment { name: name.into(), ..profile() };
    let attachments = vec![named("after.pb.gz"), named("before.pb.gz")];
    let both = Event { kind: EventKind::Capture.into(), attachments, ..event("cpuidle", NOON) };
    let one = Event { kind: EventKind::Capture.into(), attachments: vec![profile()], ..event("cpuidle", NOON) };
    let (aggregator, _agent) = with_events(&dir, &[both, one]).await;
    let http = aggregator.addresses.http;
    let of = |seq: u64, what: &str| format!("/api/v1/events/web-1/0000000000c0ffee/{seq}/{what}");
    for part in ["before", "after"] {
        let folded = get(http, &of(1, &format!("flame.folded?part={part}"))).await;
        assert_eq!(folded.text(), "main;<script>alert(1)</script> 42\n");
    }
    let folded = get(http, &of(1, "flame.folded?part=diff")).await;
    assert_eq!(folded.text(), "main;<script>alert(1)</script> 42 42\n");
    let svg = get(http, &of(1, "flame.svg?part=diff")).await;
    assert_eq!(svg.header("content-type"), "image/svg+xml");
    assert!(svg.text().contains("&lt;script&gt;alert(1)") && !svg.text().contains("<script>alert"));
    assert_eq!(get(http, &of(1, "profile.pb.gz?part=diff")).await.status, 400);
    assert_eq!(get(http, &of(1, "flame.svg?part=middle")).await.status, 400);
    assert_eq!(get(http, &of(2, "flame.svg?part=before")).await.status, 404);
    assert_eq!(get(http, &of(2, "flame.svg?part=after")).await.status, 200);
    let page = get(http, "/events/web-1/0000000000c0ffee/1").await;
    assert!(page.text().contains("/flame.svg?part=diff"), "{}", page.text());
}

#[tokio::test]
async fn the_flame_graph_of_a_run_is_drawn_for_its_trigger_too() {
    let dir = tempdir().unwrap();
    let trigger = event("cpuidle", NOON);
    let capture =
        Event { kind: EventKind::Capture.into(), attachments: vec![profile()], ..event("cpuidle", NOON + 10 * SECOND) };
    let other = Event { run_id: "run-2".into(), ..event("cpuidle", NOON) };
    let (aggregator, _agent) = with_events(&dir, &[trigger, capture, other]).await;
    let http = aggregator.addresses.http;
    let of = |seq: u64, what: &str| format!("/api/v1/events/web-1/0000000000c0ffee/{seq}/{what}");
    for seq in [1, 2] {
        let folded = get(http, &of(seq, "flame.folded")).await;
        assert_eq!(folded.text(), "main;<script>alert(1)</script> 42\n");
        let svg = get(http, &of(seq, "flame.svg")).await;
        assert_eq!(svg.header("content-type"), "image/svg+xml");
        assert!(svg.header("content-security-policy").starts_with("sandbox allow-scripts; default-src 'none'"));
        assert!(svg.text().contains("&lt;script&gt;alert(1)") && !svg.text().contains("<script>alert"));
        assert_eq!(get(http, &of(seq, "profile.pb.gz")).await.body, profile().content);
        let page = get(http, &format!("/events/web-1/0000000000c0ffee/{seq}")).await;
        assert!(
            page.text().contains("/flame.svg\" title=\"Flame graph\" sandbox=\"allow-scripts\""),
            "{}",
            page.text()
        );
        assert!(page.text().contains(r#"<td class="number">97.5</td><td class="number">75</td>"#), "{}", page.text());
    }
    assert_eq!(get(http, &of(3, "flame.svg")).await.status, 404);

    match Command::new("go").arg("version").output() {
        Ok(found) if found.status.success() => {
            let file = dir.path().join("profile.pb.gz");
            std::fs::write(&file, get(http, &of(1, "profile.pb.gz")).await.body).unwrap();
            let top = Command::new("go").args(["tool", "pprof", "-top"]).arg(&file).output().unwrap();
            let text = String::from_utf8_lossy(&top.stdout).into_owned();
            assert!(top.status.success() && text.contains("42") && text.contains("main"), "{text}");
        }
        _ => galen_scratch::skip("`go` is not there to open the profile with"),
    }
    aggregator.stop().await;
}
