//! Settings that are read again while the agent runs, and what becomes of its tracers.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use galen_agent::{
    Agent, Factory, Settings, Tracer, TracerSet,
    host::Environment,
    recorder::{Record, RunId},
    tracer::{BoxError, Context, OnDemand, Outcome, RawSettings, Support},
};
use galen_proto::v1::{
    Command, CommandOutcome, CommandResult, Event, EventKind, ReloadSettings, SetTracer, Setting, Severity,
    TriggerTracer, command,
};
use prometheus::{IntGauge, core::Collector};
use prost::Message;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use crate::support::until;

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct Raw {
    /// Whether it runs.
    enabled: bool,
    /// Told at the beginning of each run.
    word: String,
}

impl Default for Raw {
    fn default() -> Self {
        Self { enabled: true, word: "default".into() }
    }
}

impl RawSettings for Raw {
    fn enabled(&self) -> bool {
        self.enabled
    }
}

#[derive(Debug, Clone)]
struct Valid(String);

impl TryFrom<Raw> for Valid {
    type Error = String;

    fn try_from(raw: Raw) -> Result<Self, String> {
        if raw.word.is_empty() { Err("`word` is empty".into()) } else { Ok(Self(raw.word)) }
    }
}

/// Says its word once a run, and does nothing more but what is demanded.
macro_rules! speaker {
    ($type:ident, $name:literal) => {
        struct $type(Valid);

        impl Tracer for $type {
            const NAME: &'static str = $name;
            const ON_DEMAND: OnDemand = OnDemand::Yes;
            const RESTART: Duration = Duration::from_millis(10);
            type Raw = Raw;
            type Settings = Valid;

            fn new(settings: Valid) -> Self {
                Self(settings)
            }

            fn support(_: &Valid, _: &Environment) -> Support {
                Support::Full
            }

            async fn run(self, context: Context) -> Result<Outcome, BoxError> {
                say(&context, self.0.0)?;
                let demands = context.demands();
                loop {
                    let demand = demands.next().await;
                    match demand.cgroup.clone() {
                        Some(cgroup) => demand.refuse(format!("there is no cgroup `{cgroup}`")),
                        None => {
                            say(&context, "on demand".into())?;
                            demand.accept("said");
                        }
                    }
                }
            }

            fn collector(_: &Valid) -> Option<Box<dyn Collector>> {
                let name = concat!("galen_agent_", $name, "_words");
                let gauge = IntGauge::new(name, "Words.").unwrap();
                gauge.set(7);
                Some(Box::new(gauge))
            }
        }
    };
}

speaker!(First, "first");
speaker!(Second, "second");

fn say(context: &Context, word: String) -> Result<(), BoxError> {
    context.record(Record {
        run: RunId::new(),
        kind: EventKind::Event,
        severity: Severity::Info,
        summary: word,
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
        vec![Factory::of::<First>(), Factory::of::<Second>()]
    }
}

/// An agent with a settings file.
struct Subject {
    agent: Agent,
    file: PathBuf,
    _dir: TempDir,
}

impl Subject {
    async fn start(text: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("agent.toml");
        std::fs::write(&file, text).unwrap();
        let path = |path: &Path| path.display().to_string();
        let own = [
            ("data_dir", path(&dir.path().join("data"))),
            ("aggregator.endpoint", "http://127.0.0.1:1".into()),
            ("node", "test".into()),
        ];
        let own = own.map(|(key, value)| (key.to_owned(), value));
        let settings = Settings::<Set>::load(Some(&file), &own).unwrap();
        Self { agent: Agent::start(settings).await.unwrap(), file, _dir: dir }
    }

    /// What the tracer said so far.
    fn said(&self, tracer: &str) -> Vec<String> {
        let buffer = self.agent.buffer();
        let queue = buffer.queues().pop().unwrap();
        let read = buffer.read(queue.epoch, queue.first_unacked, 10_000, 64 << 20).unwrap();
        let events = read.into_iter().map(|(_, bytes)| Event::decode(bytes).unwrap());
        events.filter(|event| event.tracer == tracer).map(|event| event.summary).collect()
    }

    async fn says(&self, tracer: &str, words: &[&str]) {
        until(&format!("{tracer} says {words:?}"), || self.said(tracer) == words).await;
    }

    async fn reload(&self, text: &str) -> (CommandOutcome, String) {
        std::fs::write(&self.file, text).unwrap();
        let CommandResult { outcome, detail, .. } = self.agent.control().reload().await;
        (outcome.try_into().unwrap(), detail)
    }

    async fn obey(&self, command: command::Command) -> (CommandOutcome, String) {
        let command = Command { command: Some(command), ..Command::default() };
        let CommandResult { outcome, detail, .. } = self.agent.control().obey(command).await;
        (outcome.try_into().unwrap(), detail)
    }

    async fn set(&self, tracer: &str, enabled: Option<bool>) -> (CommandOutcome, String) {
        self.obey(command::Command::SetTracer(SetTracer { tracer: tracer.into(), enabled })).await
    }

    async fn trigger(&self, tracer: &str, cgroup: &str) -> (CommandOutcome, String) {
        let trigger = TriggerTracer { tracer: tracer.into(), cgroup: cgroup.into() };
        self.obey(command::Command::TriggerTracer(trigger)).await
    }

    fn shows(&self, name: &str) -> bool {
        self.agent.metrics().measures().measures.iter().any(|measure| measure.name == name)
    }
}

#[tokio::test]
async fn only_tracers_with_new_settings_are_begun_again() {
    let subject = Subject::start("[tracers.first]\nword = 'one'\n").await;
    subject.says("first", &["one"]).await;
    subject.says("second", &["default"]).await;
    let (outcome, said) = subject.reload("[tracers.first]\nword = 'two'\n").await;
    assert_eq!((outcome, said.as_str()), (CommandOutcome::Done, "new settings for first"));
    subject.says("first", &["one", "two"]).await;

    let (_, said) = subject.reload("[tracers.first]\nword = 'two'\n").await;
    assert_eq!(said, "no tracer has new settings");
    let (_, said) = subject.reload("[tracers.first]\nword = 'two'\n[tracers.second]\nenabled = false\n").await;
    assert_eq!(said, "new settings for second");
    let statuses = subject.agent.statuses().snapshot();
    assert_eq!(statuses.iter().map(|status| status.enabled).collect::<Vec<_>>(), [true, false]);
    // The figures of a tracer that does not run are not told.
    assert!(subject.shows("galen_agent_first_words") && !subject.shows("galen_agent_second_words"));
    subject.reload("").await;
    subject.says("first", &["one", "two", "default"]).await;
    subject.says("second", &["default", "default"]).await;
    assert!(subject.shows("galen_agent_second_words"));
    subject.agent.stop().await;
}

#[tokio::test]
async fn settings_that_are_wrong_are_refused_as_a_whole_and_those_of_before_hold_on() {
    let subject = Subject::start("[tracers.first]\nword = 'one'\n").await;
    subject.says("first", &["one"]).await;
    for (text, why) in [
        ("[tracers.first]\nword = 'two'\n[tracers.second]\nwort = 'x'\n", "agent.toml:4: there is no setting"),
        ("[tracers.first]\nword = 'two'\n[tracers.second]\nword = ''\n", "`word` is empty"),
        ("[log]\nfilter = 'galen=loud'\n", "galen=loud"),
        ("[tracers.first", "agent.toml:1: not TOML"),
    ] {
        let (outcome, said) = subject.reload(text).await;
        assert_eq!(outcome, CommandOutcome::Failed, "{said}");
        assert!(said.contains(why) && said.contains("those of before hold on"), "{said}");
        assert_eq!(subject.agent.control().standing().error, said);
    }
    std::fs::remove_file(&subject.file).unwrap();
    let CommandResult { detail, .. } = subject.agent.control().reload().await;
    assert!(detail.contains("failed to read"), "{detail}");
    assert_eq!(subject.said("first"), ["one"]);

    let (outcome, _) = subject.reload("[tracers.first]\nword = 'two'\n").await;
    assert_eq!((outcome, subject.agent.control().standing().error.as_str()), (CommandOutcome::Done, ""));
    subject.says("first", &["one", "two"]).await;
    subject.agent.stop().await;
}

#[tokio::test]
async fn what_needs_a_restart_is_named() {
    let subject = Subject::start("").await;
    let text = "[buffer]\nmax_bytes = '7GiB'\n[host]\nregion = 'eu'\n[log]\nfilter = 'info'\n";
    for _ in 0..2 {
        let (outcome, said) = subject.reload(text).await;
        assert_eq!(outcome, CommandOutcome::Done);
        assert!(said.ends_with("needs a restart of the agent: buffer.max_bytes, host.region"), "{said}");
    }
    let (_, said) = subject.reload("").await;
    assert_eq!(said, "no tracer has new settings");
    subject.agent.stop().await;
}

#[tokio::test]
async fn the_aggregators_word_goes_before_the_settings_until_it_is_taken_back() {
    let subject = Subject::start("").await;
    subject.says("first", &["default"]).await;
    let (outcome, said) = subject.set("first", Some(false)).await;
    assert_eq!((outcome, said.as_str()), (CommandOutcome::Done, "`first` is disabled"));
    subject.reload("[tracers.first]\nword = 'one'\n").await;
    let status = || subject.agent.statuses().get("first").unwrap().snapshot();
    assert_eq!((status().enabled, status().overridden), (false, true));
    let (_, said) = subject.set("first", None).await;
    assert_eq!(said, "`first` is enabled by the node's settings");
    subject.says("first", &["default", "one"]).await;
    assert!(!status().overridden);

    let lay = |value: &str| {
        let settings = vec![Setting { key: "tracers.first.word".into(), value: value.into() }];
        command::Command::ReloadSettings(ReloadSettings { settings })
    };
    subject.obey(lay("laid")).await;
    subject.says("first", &["default", "one", "laid"]).await;
    // One that is refused leaves the changes as they are, also when the settings are read again.
    assert_eq!(subject.obey(lay("")).await.0, CommandOutcome::Failed);
    let (_, said) = subject.reload("").await;
    assert_eq!(said, "no tracer has new settings");
    subject.obey(command::Command::ReloadSettings(ReloadSettings::default())).await;
    subject.says("first", &["default", "one", "laid", "default"]).await;
    subject.agent.stop().await;
}

#[tokio::test]
async fn a_demand_reaches_the_tracer_and_its_answer_comes_back() {
    let subject = Subject::start("[tracers.second]\nenabled = false\n").await;
    assert_eq!(subject.trigger("first", "").await, (CommandOutcome::Done, "said".into()));
    subject.says("first", &["default", "on demand"]).await;
    for (tracer, cgroup, why) in [
        ("first", "/nowhere", "`first` does not capture: there is no cgroup `/nowhere`"),
        ("second", "", "`second` is not enabled"),
        ("third", "", "there is no tracer `third`"),
    ] {
        assert_eq!(subject.trigger(tracer, cgroup).await, (CommandOutcome::Failed, why.into()));
    }
    let CommandResult { outcome, .. } = subject.agent.control().obey(Command { id: 9, ..Command::default() }).await;
    assert_eq!(outcome, CommandOutcome::Unknown as i32);
    subject.agent.stop().await;
}
