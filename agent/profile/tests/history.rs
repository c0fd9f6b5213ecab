//! The flight recorder on the running kernel: real cgroups, real load. They need root.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test fails by panicking and says when it is skipped")]

#[allow(dead_code, reason = "each test program uses a part of it")]
mod support;

use std::time::{Duration, Instant};

use galen_profile::{Cancel, Profile, Request, Sampler, Scope, Settings};
use support::{Cgroup, Load, any, sampler, v1, v2};

const SPAN: Duration = Duration::from_secs(30);
const DEADLINE: Duration = Duration::from_secs(60);

fn hottest(profile: &Profile) -> &str {
    profile.summary.hottest_functions.first().map_or("", |function| &function.name)
}

/// Until this much CPU time was used, so that there are some 12 samples for each second of it.
fn run_for(load: &Load, seconds: f64, sampler: &Sampler) {
    let (until, begin) = (Instant::now() + DEADLINE, load.cpu_seconds());
    while load.cpu_seconds() - begin < seconds {
        assert!(Instant::now() < until, "the load gets no CPU");
        std::thread::sleep(Duration::from_millis(50));
        if let Some(news) = sampler.news() {
            sampler.keep_up(&news);
        }
    }
}

/// All that a program was sampled doing was in the kernel, but for its begin.
fn is_all_in_the_kernel(samples: u64, of_kernel: u64) -> bool {
    of_kernel > 0 && of_kernel + 1 >= samples
}

/// A burst that is over, its process dead, when anybody asks.
fn past_is_known(root: &std::path::Path) {
    let parent = Cgroup::below(root);
    let nested = Cgroup::below(&parent.path);
    let other = Cgroup::below(root);
    let sampler = sampler(&Settings::default());
    let load = Load::start("spin", &nested);
    let stranger = Load::start("kernel", &other);
    run_for(&load, 2.0, &sampler);
    let used = load.cpu_seconds();
    drop((load, stranger));
    drop(nested);

    let request = Request { scope: parent.target().into(), duration: Duration::from_millis(100) };
    let recording = sampler.record(&request, SPAN, &Cancel::new().unwrap()).unwrap();

    let before = recording.before.unwrap();
    let summary = &before.summary;
    assert_eq!(recording.after.summary.samples, 0);
    assert_eq!(hottest(&before), "galen_hot_loop", "{summary:#?}");
    assert_eq!(summary.hottest_stacks[0].frames[..3], ["galen_hot_loop", "galen_middle", "main"], "{summary:#?}");
    let sampled = summary.samples as f64 * summary.period.as_secs_f64();
    assert!((used * 0.6..used * 1.4 + 0.3).contains(&sampled), "{sampled} s sampled of {used} s: {summary:#?}");
    assert!(summary.kernel_samples * 4 < summary.samples, "{summary:#?}");
    assert_eq!(summary.processes.len(), 1, "{summary:#?}");
}

#[test]
fn a_burst_that_is_over_in_a_nested_cgroup_of_version_1_that_is_gone_is_known() {
    if let Some(root) = v1() {
        past_is_known(&root);
    }
}

#[test]
fn a_burst_that_is_over_in_a_nested_cgroup_of_version_2_that_is_gone_is_known() {
    if let Some(root) = v2() {
        past_is_known(&root);
    }
}

#[test]
fn kernel_stacks_begin_where_the_tick_interrupted_them() {
    let cgroup = Cgroup::below(&any());
    let sampler = sampler(&Settings::default());
    let load = Load::start("kernel", &cgroup);
    run_for(&load, 2.0, &sampler);
    let profile = sampler.freeze(&cgroup.target().into(), SPAN).unwrap().name().unwrap();
    let summary = &profile.summary;
    let frames: Vec<_> = summary.hottest_stacks.iter().flat_map(|stack| &stack.frames).collect();
    assert!(frames.iter().any(|name| *name == "read_zero" || *name == "read_iter_zero"), "{summary:#?}");
    assert!(!frames.iter().any(|name| name.contains("hrtimer") || name.contains("bpf")), "{summary:#?}");
    assert!(is_all_in_the_kernel(summary.samples, summary.kernel_samples), "{summary:#?}");
    assert_eq!(summary.kernel_unreadable, 0, "{summary:#?}");
}

#[test]
fn short_lived_processes_are_named_by_the_build_id_of_their_file() {
    let cgroup = Cgroup::below(&any());
    let sampler = sampler(&Settings::default());
    // One that lives when it is looked at is enough for all.
    let witness = Load::start("spin", &cgroup);
    run_for(&witness, 0.5, &sampler);
    let load = Load::start("brood", &cgroup);
    let until = Instant::now() + DEADLINE;
    loop {
        let profile = sampler.freeze(&cgroup.target().into(), SPAN).unwrap().name().unwrap();
        let summary = &profile.summary;
        let brood = |name: &str| name == "galen_brief_loop";
        let named: u64 = summary.hottest_functions.iter().filter(|hot| brood(&hot.name)).map(|hot| hot.own).sum();
        if named >= 10 {
            assert!(summary.user_stacks.process_gone * 10 <= summary.samples, "{summary:#?}");
            assert!(summary.processes.len() >= 4, "{summary:#?}");
            break;
        }
        assert!(Instant::now() < until, "{summary:#?}");
        std::thread::sleep(Duration::from_millis(100));
    }
    drop((load, witness));
}

#[test]
fn the_whole_machine_is_asked_for_without_naming_a_cgroup() {
    let (one, two) = (Cgroup::below(&any()), Cgroup::below(&any()));
    let sampler = sampler(&Settings::default());
    let (spin, kernel) = (Load::start("spin", &one), Load::start("kernel", &two));
    run_for(&spin, 1.0, &sampler);
    run_for(&kernel, 1.0, &sampler);
    let request = Request { scope: Scope::Host, duration: Duration::from_secs(2) };
    let recording = sampler.record(&request, SPAN, &Cancel::new().unwrap()).unwrap();
    for profile in [recording.before.unwrap(), recording.after] {
        let of = |pid| profile.summary.processes.iter().find(|busy| busy.pid == pid).unwrap().clone();
        let (spin, kernel) = (of(spin.pid()), of(kernel.pid()));
        assert!(spin.kernel_samples * 4 < spin.samples, "{spin:?}");
        assert!(is_all_in_the_kernel(kernel.samples, kernel.kernel_samples), "{kernel:?}");
        assert_eq!(profile.summary.kernel_unreadable, 0, "{:#?}", profile.summary);
        assert!(spin.cgroups != kernel.cgroups && spin.comm == "workload", "{spin:?} {kernel:?}");
        assert!(profile.summary.processes.iter().all(|busy| busy.pid != std::process::id()));
    }
}

/// The samples are a share of the ticks that found a task running: an idle CPU has no tick, and there is no timer or
/// perf event of its own that could wake one.
#[test]
fn nothing_is_sampled_but_ticks_that_find_a_task_running() {
    let cgroup = Cgroup::below(&any());
    let sampler = sampler(&Settings::default());
    let events = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
    let events = events.filter_map(|fd| std::fs::read_link(fd.path()).ok());
    assert!(!events.into_iter().any(|file| file.to_string_lossy().contains("perf_event")));
    let begin = sampler.counts().unwrap();
    let load = Load::start("spin", &cgroup);
    run_for(&load, 1.0, &sampler);
    let end = sampler.counts().unwrap();
    let (samples, ticks) = (end.samples - begin.samples, end.ticks - begin.ticks);
    let profile = sampler.freeze(&cgroup.target().into(), SPAN).unwrap().name().unwrap();
    let every = profile.summary.period.as_secs_f64() / tick_seconds();
    let cpus = std::thread::available_parallelism().unwrap().get() as f64;
    // Of each CPU one may be counted before, and the last ticks come to none.
    assert!(samples as f64 <= ticks as f64 / every + cpus, "{samples} samples of {ticks} ticks, one of {every}");
    assert!(profile.summary.samples <= samples);
}

fn tick_seconds() -> f64 {
    let tick = rustix::time::clock_getres(rustix::time::ClockId::MonotonicCoarse);
    tick.tv_nsec as f64 / 1e9
}
