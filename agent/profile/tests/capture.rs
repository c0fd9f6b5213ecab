//! Captures on the running kernel: real cgroups, real load. They need root.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test fails by panicking and says when it is skipped")]

#[allow(dead_code, reason = "each test program uses a part of it")]
mod support;

use std::{
    io::Read,
    process::Command,
    time::{Duration, Instant},
};

use galen_profile::{Cancel, Error, Profile, Request, Scope, Settings, Target};
use galen_proto::pprof;
use prost::Message;
use support::{Cgroup, Load, any, capture, sampler, v1, v2};

fn hottest(profile: &Profile) -> &str {
    profile.summary.hottest_functions.first().map_or("", |function| &function.name)
}

fn decoded(profile: &Profile) -> pprof::Profile {
    let mut bytes = Vec::new();
    flate2::read::GzDecoder::new(&profile.pprof[..]).read_to_end(&mut bytes).unwrap();
    pprof::Profile::decode(&bytes[..]).unwrap()
}

fn pids(profile: &pprof::Profile) -> Vec<i64> {
    let mut pids: Vec<_> = profile
        .sample
        .iter()
        .flat_map(|sample| &sample.label)
        .filter(|label| profile.string_table[label.key as usize] == "pid")
        .map(|label| label.num)
        .collect();
    pids.sort_unstable();
    pids.dedup();
    pids
}

/// How many samples a capture of these loads can have. Their CPU time is known from before the call to after it, which
/// is longer than the capture; in the rest of it each had between none of a CPU and all of one.
fn measured(loads: &[&Load], hertz: u32, capture: impl FnOnce() -> Profile) -> (Profile, std::ops::Range<f64>) {
    let used = || loads.iter().map(|load| load.cpu_seconds()).sum::<f64>();
    let (clock, before) = (Instant::now(), used());
    let profile = capture();
    let most = used() - before;
    let beyond = (clock.elapsed() - profile.summary.lasted).as_secs_f64() * loads.len() as f64;
    let hertz = f64::from(hertz);
    (profile, hertz * (most - beyond) * 0.8 - 5.0..hertz * most * 1.1 + 5.0)
}

/// A spinner in a nested cgroup is found through its parent, in proportion to the CPU it had; one in another cgroup is
/// not there.
fn subtree_is_sampled(root: &std::path::Path) {
    let parent = Cgroup::below(root);
    let nested = Cgroup::below(&parent.path);
    let other = Cgroup::below(root);
    let load = Load::start("spin", &nested);
    let stranger = Load::start("spin", &other);
    let sampler = sampler(&Settings::default());

    let (profile, possible) = measured(&[&load], 99, || capture(&sampler, &[parent.target()]));

    let summary = &profile.summary;
    assert!(possible.contains(&(summary.samples as f64)), "{} samples where {possible:?} can be", summary.samples);
    assert_eq!(hottest(&profile), "galen_hot_loop", "{summary:#?}");
    let frames = &summary.hottest_stacks[0].frames;
    assert_eq!(frames[..3], ["galen_hot_loop", "galen_middle", "main"], "{summary:#?}");
    assert_eq!(summary.lost.total(), 0);
    assert!(summary.user_stacks.whole > summary.samples / 2, "{summary:#?}");
    assert_eq!(pids(&decoded(&profile)), [i64::from(load.pid())], "{} is a stranger", stranger.pid());
}

#[test]
fn whole_subtree_of_a_v1_cgroup_is_sampled_and_nothing_else() {
    if let Some(root) = v1() {
        subtree_is_sampled(&root);
    }
}

#[test]
fn whole_subtree_of_a_v2_cgroup_is_sampled_and_nothing_else() {
    if let Some(root) = v2() {
        subtree_is_sampled(&root);
    }
}

#[test]
fn captures_at_one_time_are_apart() {
    let root = any();
    let (one, two) = (Cgroup::below(&root), Cgroup::below(&root));
    let (spin, kernel) = (Load::start("spin", &one), Load::start("kernel", &two));
    let sampler = sampler(&Settings::default());
    let (first, second) = std::thread::scope(|scope| {
        let second = scope.spawn(|| capture(&sampler, &[two.target()]));
        (capture(&sampler, &[one.target()]), second.join().unwrap())
    });
    assert_eq!(pids(&decoded(&first)), [i64::from(spin.pid())]);
    assert_eq!(pids(&decoded(&second)), [i64::from(kernel.pid())]);
    assert_eq!(hottest(&first), "galen_hot_loop");
    assert!(second.summary.kernel_samples * 100 > second.summary.samples * 98, "{:#?}", second.summary);
    assert!(first.summary.kernel_samples < first.summary.samples / 10, "{:#?}", first.summary);
}

#[test]
fn nested_captures_each_get_the_sample() {
    let root = any();
    let outer = Cgroup::below(&root);
    let inner = Cgroup::below(&outer.path);
    let load = Load::start("spin", &inner);
    let sampler = sampler(&Settings::default());
    let (first, second) = std::thread::scope(|scope| {
        let second = scope.spawn(|| capture(&sampler, &[outer.target()]));
        (capture(&sampler, &[inner.target()]), second.join().unwrap())
    });
    for profile in [first, second] {
        assert!(profile.summary.samples > 20, "{:#?}", profile.summary);
        assert_eq!(pids(&decoded(&profile)), [i64::from(load.pid())]);
    }
}

#[test]
fn kernel_functions_have_names() {
    let cgroup = Cgroup::below(&any());
    let _load = Load::start("kernel", &cgroup);
    let profile = capture(&sampler(&Settings::default()), &[cgroup.target()]);
    let frames: Vec<_> = profile.summary.hottest_stacks.iter().flat_map(|stack| &stack.frames).collect();
    assert!(frames.iter().any(|name| *name == "read_zero" || *name == "read_iter_zero"), "{:#?}", profile.summary);
}

#[test]
fn short_lived_processes_keep_their_names() {
    let cgroup = Cgroup::below(&any());
    let _load = Load::start("brood", &cgroup);
    let profile = capture(&sampler(&Settings::default()), &[cgroup.target()]);
    let summary = &profile.summary;
    assert_eq!(hottest(&profile), "galen_brief_loop", "{summary:#?}");
    assert!(pids(&decoded(&profile)).len() >= 4, "{summary:#?}");
    assert!(summary.user_stacks.process_gone * 10 <= summary.samples, "{summary:#?}");
}

#[test]
fn code_made_at_run_time_has_the_name_that_its_runtime_gave() {
    let cgroup = Cgroup::below(&any());
    let load = Load::start("made", &cgroup);
    let profile = capture(&sampler(&Settings::default()), &[cgroup.target()]);
    let _ = std::fs::remove_file(format!("/tmp/perf-{}.map", load.pid()));
    assert_eq!(hottest(&profile), "galen_made_code", "{:#?}", profile.summary);
}

#[test]
fn every_sample_that_finds_the_ring_full_is_counted() {
    let cgroup = Cgroup::below(&any());
    let loads = [Load::start("spin", &cgroup), Load::start("spin", &cgroup)];
    // A rate that a ring of one page cannot hold until its reader gets a CPU.
    const HERTZ: u32 = 19_999;
    let sampler = sampler(&Settings { hertz: HERTZ, ring_bytes: Some(4096), ..Settings::default() });
    let (profile, possible) = measured(&[&loads[0], &loads[1]], HERTZ, || capture(&sampler, &[cgroup.target()]));
    let summary = &profile.summary;
    assert!(summary.lost.ring_full > 0, "{summary:#?}");
    let all = (summary.samples + summary.lost.total()) as f64;
    assert!(possible.contains(&all), "{all} where {possible:?} can be: {summary:#?}");
}

#[test]
fn cancelled_capture_gives_what_it_has() {
    let cgroup = Cgroup::below(&any());
    let _load = Load::start("spin", &cgroup);
    let sampler = sampler(&Settings::default());
    let cancel = Cancel::new().unwrap();
    let request = Request { scope: cgroup.target().into(), duration: Duration::from_secs(600) };
    let profile = std::thread::scope(|scope| {
        let capture = scope.spawn(|| sampler.capture(&request, &cancel));
        cancel.cancel();
        capture.join().unwrap()
    });
    assert!(profile.unwrap().summary.lasted < request.duration);
}

#[test]
fn captures_beyond_the_limit_are_refused_and_the_slot_comes_back() {
    let cgroup = Cgroup::below(&any());
    let sampler = sampler(&Settings::default());
    let cancel = Cancel::new().unwrap();
    let request = |targets| Request { scope: Scope::Cgroups(targets), duration: Duration::from_millis(1) };
    assert!(matches!(sampler.capture(&request(Vec::new()), &cancel), Err(Error::NoTarget)));
    let many = (0..2000).map(|cgroup| Target { cgroup, hierarchy: galen_profile::Hierarchy::Unified }).collect();
    assert!(matches!(sampler.capture(&request(many), &cancel), Err(Error::TooManyTargets)));
    for _ in 0..40 {
        assert_eq!(sampler.capture(&request(vec![cgroup.target()]), &cancel).unwrap().summary.samples, 0);
    }
}

#[test]
fn go_opens_the_profile() {
    if Command::new("go").arg("version").output().is_err() {
        galen_scratch::skip("go is not on PATH");
        return;
    }
    let cgroup = Cgroup::below(&any());
    let _load = Load::start("spin", &cgroup);
    let profile = capture(&sampler(&Settings::default()), &[cgroup.target()]);
    let file = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("go-{}.pb.gz", std::process::id()));
    std::fs::write(&file, &profile.pprof).unwrap();
    let output = Command::new("go").args(["tool", "pprof", "-top"]).arg(&file).output().unwrap();
    let _ = std::fs::remove_file(&file);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("Type: cpu"), "{text}");
    assert!(text.contains("galen_hot_loop"), "{text}");
}

#[test]
fn what_is_not_a_cgroup_is_refused() {
    let error = Target::from_path("/proc").unwrap_err();
    assert!(error.to_string().contains("/proc"), "{error}");
    assert!(Target::from_path("/sys/fs/cgroup/no-such-thing").is_err());
}
