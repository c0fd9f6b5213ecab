//! Tracers of another crate, that fail in every way there is.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use galen_agent::{
    Factory, Tracer, TracerSet,
    clock::{Clock, Moment, Source},
    host::Environment,
    recorder::{Record, RunId},
    tracer::{BoxError, Context, Outcome, RawSettings, Support},
};
use galen_proto::v1::{self, EventKind, Severity};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::support::{TestAgent, until};

#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct Raw {
    /// The other way round, so that the default is on.
    off: bool,
}

impl RawSettings for Raw {
    fn enabled(&self) -> bool {
        !self.off
    }
}

/// A tracer with no settings of its own; what it does is in `$run`.
macro_rules! tracer {
    ($type:ident, $name:literal, $support:expr, |$context:ident| $run:expr) => {
        struct $type;

        impl Tracer for $type {
            const NAME: &'static str = $name;
            const RESTART: Duration = Duration::from_millis(10);
            type Raw = Raw;
            type Settings = Raw;

            fn new(_: Raw) -> Self {
                Self
            }

            fn support(_: &Raw, _: &Environment) -> Support {
                $support
            }

            #[allow(unused_mut, reason = "not every tracer waits for a tick")]
            async fn run(self, mut $context: Context) -> Result<Outcome, BoxError> {
                $run
            }
        }
    };
}

tracer!(Panics, "panics", Support::Full, |context| {
    context.tick().await;
    panic!("on purpose")
});
tracer!(PanicsAtOnce, "panics_at_once", Support::Full, |_context| panic!("at once"));
tracer!(Fails, "fails", Support::Full, |_context| Err("no luck".into()));
tracer!(Unsupported, "unsupported", Support::Unsupported("never here".into()), |_context| Ok(Outcome::Again));
tracer!(FindsOut, "finds_out", Support::Full, |_context| Ok(Outcome::Unsupported("found out".into())));
tracer!(PartPanics, "part_panics", Support::Full, |context| {
    context.spawn(async { panic!("in a part") });
    loop {
        context.tick().await;
        record(&context)?;
    }
});
tracer!(Returns, "returns", Support::Degraded("half of it".into()), |context| {
    context.tick().await;
    record(&context)?;
    Ok(Outcome::Again)
});

fn record(context: &Context) -> Result<(), BoxError> {
    context.record(Record {
        run: RunId::new(),
        kind: EventKind::Event,
        severity: Severity::Info,
        summary: "a tick".into(),
        explanation: String::new(),
        container: None,
        observed: context.clock.now(),
        data: serde_json::json!({}),
        attachments: Vec::new(),
    })?;
    Ok(())
}

struct Set;

impl TracerSet for Set {
    fn factories() -> Vec<Factory> {
        vec![
            Factory::of::<Panics>(),
            Factory::of::<PanicsAtOnce>(),
            Factory::of::<Fails>(),
            Factory::of::<Unsupported>(),
            Factory::of::<FindsOut>(),
            Factory::of::<PartPanics>(),
            Factory::of::<Returns>(),
        ]
    }
}

fn status(agent: &TestAgent, tracer: &str) -> v1::TracerStatus {
    agent.agent.statuses().get(tracer).unwrap().snapshot()
}

#[tokio::test]
async fn a_tracer_that_fails_is_started_again_and_touches_no_other() {
    let agent = TestAgent::start::<Set>(&[]).await;
    for tracer in ["panics", "panics_at_once", "fails"] {
        until(tracer, || status(&agent, tracer).failures >= 2).await;
    }
    assert_eq!(status(&agent, "panics").last_error, "panic: on purpose");
    assert_eq!(status(&agent, "panics_at_once").last_error, "panic: at once");
    assert_eq!(status(&agent, "fails").last_error, "no luck");

    // A part that panics counts as a failure, and neither the run nor anybody else notices.
    until("others go on", || status(&agent, "part_panics").triggers >= 2 && status(&agent, "returns").triggers >= 2)
        .await;
    let part = status(&agent, "part_panics");
    assert_eq!((part.failures, part.last_error.as_str()), (1, "panic: in a part"));
    assert_eq!(status(&agent, "returns").failures, 0);
    assert!(agent.events().iter().any(|event| event.tracer == "returns"));
    agent.agent.stop().await;
}

#[tokio::test]
async fn support_is_told_with_its_reason() {
    let agent = TestAgent::start::<Set>(&[("tracers.fails.off", "true")]).await;
    until("what it finds out is told", || status(&agent, "finds_out").support() == v1::Support::Unsupported).await;
    assert_eq!(status(&agent, "finds_out").reason, "found out");
    let unsupported = status(&agent, "unsupported");
    assert_eq!((unsupported.support(), unsupported.reason.as_str()), (v1::Support::Unsupported, "never here"));
    let degraded = status(&agent, "returns");
    assert_eq!((degraded.support(), degraded.reason.as_str()), (v1::Support::Degraded, "half of it"));
    let off = status(&agent, "fails");
    assert_eq!((off.enabled, off.failures), (false, 0));
    agent.agent.stop().await;
}

#[tokio::test]
async fn record_files_that_cannot_be_written_are_told_and_the_events_still_travel() {
    for place in ["/dev/full/records", "/proc/galen/records"] {
        let test = TestAgent::start::<Set>(&[("records.dir", place)]).await;
        test.event("event", |event| event.tracer == "returns").await;
        until("the failure is counted", || test.agent.recorder().stats().failures >= 1).await;
        until("others are skipped meanwhile", || test.agent.recorder().stats().lines_skipped >= 1).await;
        assert_eq!(test.agent.recorder().stats().lines_written, 0);
        test.agent.stop().await;
    }
}

/// A wall clock that is in 1970 and in 2100 by turns.
struct Jumping(AtomicBool);

impl Source for Jumping {
    fn now(&self) -> Moment {
        let late = self.0.fetch_xor(true, Ordering::Relaxed);
        Moment { unix_nanos: if late { 4_102_444_800_000_000_000 } else { 0 }, ..Clock::system().now() }
    }
}

#[tokio::test]
async fn a_wall_clock_that_jumps_stops_nobody_and_is_told_as_it_was() {
    let clock = Clock::new(Jumping(AtomicBool::new(false)));
    let test = TestAgent::start_with_clock::<Set>(&[], clock).await;
    for year in [0, 4_102_444_800_000_000_000] {
        let is_it = |event: &v1::Event| event.times.is_some_and(|times| times.observed_unix_nanos == year);
        let event = test.event("event of that year", is_it).await;
        assert!(event.times.unwrap().observed_boot_nanos > 0);
    }
    test.agent.stop().await;
}

#[test]
fn a_wrong_setting_is_refused_with_its_file_line_key_and_the_nearest_right_one() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("agent.toml");
    let refused = |text: &str| {
        std::fs::write(&file, text).unwrap();
        let error = galen_agent::Settings::<galen_agent::tracers::Shipped>::load(Some(&file), &[]).err().unwrap();
        let text = galen_runtime::Chain(&error).to_string();
        text.strip_prefix(&format!("{}:", file.display())).unwrap_or(&text).to_owned()
    };
    assert_eq!(
        refused("[tracers.cpuidle]\nwindow = '5s'\nuser_treshold = 3\n"),
        "3: there is no setting `tracers.cpuidle.user_treshold`, did you mean `tracers.cpuidle.user_threshold`?"
    );
    assert_eq!(refused("node = \"a\\u0007\"\n"), "`node` has control characters");
    assert_eq!(refused("data_dir = ''\n"), "`data_dir` must not be empty");
    assert_eq!(
        refused("[tracers.cpuidel]\n"),
        "1: there is no setting `tracers.cpuidel`, did you mean `tracers.cpuidle`?"
    );
    assert_eq!(
        refused("\n[tracers.cpuidle]\nuser_threshold = -3\n"),
        "3: `tracers.cpuidle.user_threshold`: -3 is not a percentage: it must be 0 or more"
    );
    assert_eq!(
        refused("[tracers.cpuidle]\nmax_cgroups = 0\n"),
        "1: `tracers.cpuidle`: `max_cgroups` is 0: it must be from 1 to 1048576"
    );
    assert_eq!(refused("[profiler]\nfrequency = 0\n"), "`profiler.frequency` is 0: it must be from 1 to 10000");
    assert_eq!(
        refused("[aggregator]\nendpoint = 'http://10.0.0.1:7400'\n").split(':').next(),
        Some("`aggregator.endpoint`")
    );
}
