//! What a capture says: its data, its summary, its evidence.
//!
//! Two profiles of one format: what ran before the trigger, by the flight recorder, at its low rate, and what ran after
//! it. They do not overlap.

use std::time::Duration;

use galen_profile::{Lost, Profile, Recording, Summary};
use galen_proto::{PPROF_MEDIA_TYPE, PROFILE_AFTER, PROFILE_BEFORE, v1::Attachment};
use serde::Serialize;

use crate::tracer::{percent, round};

/// A capture that is complete.
pub(crate) struct Captured {
    recording: Recording,
    /// How long it was to take.
    asked: Duration,
}

/// What the flight recorder held when it was asked.
pub(super) struct Look {
    pub(super) profile: Profile,
    /// Why it is less than the settings say.
    pub(super) short: Option<String>,
}

/// `data` of it.
#[derive(Debug, Serialize)]
pub(super) struct Looked {
    #[serde(flatten)]
    profile: Profiled,
    #[serde(skip_serializing_if = "Option::is_none")]
    short_capture_because: Option<String>,
}

/// `data` of a capture.
#[derive(Debug, Serialize)]
pub(crate) struct Data {
    /// The seconds after the trigger.
    #[serde(flatten)]
    after: Profiled,
    /// Whether the agent was stopped before the capture was complete.
    cut_short: bool,
    /// The seconds before the trigger.
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<Profiled>,
    #[serde(skip_serializing_if = "Option::is_none")]
    no_before_because: Option<String>,
}

/// One profile.
#[derive(Debug, Serialize)]
struct Profiled {
    /// Samples in the profile, and of these the ones taken while the kernel ran.
    samples: u64,
    kernel_samples: u64,
    kernel_unreadable: u64,
    kernel_percent: f64,
    stacks: u64,
    lost: LostSamples,
    user_stacks: UserStacks,
    duration_seconds: f64,
    frequency_hertz: f64,
    /// CPUs that the samples stand for.
    cpus: f64,
    /// By samples in the function itself.
    hottest_functions: Vec<HotFunction>,
    hottest_stacks: Vec<HotStack>,
}

/// Samples that are not in the profile.
#[derive(Debug, Serialize)]
struct LostSamples {
    total: u64,
    ring_full: u64,
    table_full: u64,
    bad_record: u64,
}

/// How far the program's side of the samples could be walked.
#[derive(Debug, Serialize)]
struct UserStacks {
    whole: u64,
    truncated: u64,
    process_gone: u64,
    unreadable: u64,
    kernel_thread: u64,
    /// Of the samples of programs, those whose stack is not whole.
    missing_percent: f64,
    #[serde(skip_serializing_if = "String::is_empty")]
    missing_because: String,
}

#[derive(Debug, Serialize)]
struct HotFunction {
    name: String,
    own_percent: f64,
    total_percent: f64,
}

#[derive(Debug, Serialize)]
struct HotStack {
    comm: String,
    percent: f64,
    /// The innermost first.
    frames: Vec<String>,
}

impl Captured {
    pub(super) fn new(recording: Recording, asked: Duration) -> Self {
        Self { recording, asked }
    }

    /// The summaries: of the seconds before, if they are known, and of those after.
    pub(crate) fn summaries(&self) -> impl Iterator<Item = &Summary> {
        let before = self.recording.before.as_ref().ok();
        before.into_iter().chain([&self.recording.after]).map(|profile| &profile.summary)
    }

    pub(super) fn lost(&self) -> impl Iterator<Item = &Lost> {
        self.summaries().map(|summary| &summary.lost)
    }

    pub(super) fn bytes(&self) -> u64 {
        let before = self.recording.before.as_ref().map_or(0, |profile| profile.pprof.len());
        (before + self.recording.after.pprof.len()) as u64
    }

    pub(crate) fn data(&self) -> Data {
        let Recording { before, after } = &self.recording;
        Data {
            after: Profiled::of(&after.summary),
            cut_short: after.summary.lasted < self.asked,
            before: before.as_ref().ok().map(|profile| Profiled::of(&profile.summary)),
            no_before_because: before.as_ref().err().map(ToString::to_string),
        }
    }

    /// Whose profile it is, and what was hot in it.
    pub(crate) fn summary(&self, name: &str) -> String {
        let after = hottest(&self.recording.after.summary);
        match &self.recording.before {
            Ok(before) => format!("CPU profile of {name}: before {}; after {after}", hottest(&before.summary)),
            Err(_) => format!("CPU profile of {name}: {after}"),
        }
    }

    pub(crate) fn attachments(self) -> Vec<Attachment> {
        let Recording { before, after } = self.recording;
        let before = before.ok().map(|profile| attachment(PROFILE_BEFORE, profile));
        [attachment(PROFILE_AFTER, after)].into_iter().chain(before).collect()
    }
}

impl Look {
    pub(super) fn bytes(&self) -> u64 {
        self.profile.pprof.len() as u64
    }

    pub(super) fn data(&self) -> Looked {
        Looked { profile: Profiled::of(&self.profile.summary), short_capture_because: self.short.clone() }
    }

    pub(super) fn summary(&self, name: &str) -> String {
        let short = self.short.as_ref().map(|why| format!(" (short: {why})")).unwrap_or_default();
        format!("CPU profile of {name}: {}{short}", hottest(&self.profile.summary))
    }

    pub(super) fn attachments(self) -> Vec<Attachment> {
        vec![attachment(PROFILE_BEFORE, self.profile)]
    }
}

impl Profiled {
    fn of(summary: &Summary) -> Self {
        let share = |samples: u64| percent(samples, summary.samples);
        let lost = &summary.lost;
        Self {
            samples: summary.samples,
            kernel_samples: summary.kernel_samples,
            kernel_unreadable: summary.kernel_unreadable,
            kernel_percent: share(summary.kernel_samples),
            stacks: summary.stacks,
            lost: LostSamples {
                total: lost.total(),
                ring_full: lost.ring_full,
                table_full: lost.table_full,
                bad_record: lost.bad_record,
            },
            user_stacks: UserStacks::of(&summary.user_stacks),
            duration_seconds: round(summary.lasted.as_secs_f64()),
            frequency_hertz: round(summary.hertz()),
            cpus: round(summary.cpus()),
            hottest_functions: summary
                .hottest_functions
                .iter()
                .map(|function| HotFunction {
                    name: function.name.clone(),
                    own_percent: share(function.own),
                    total_percent: share(function.total),
                })
                .collect(),
            hottest_stacks: summary
                .hottest_stacks
                .iter()
                .map(|stack| HotStack {
                    comm: stack.comm.clone(),
                    percent: share(stack.samples),
                    frames: stack.frames.clone(),
                })
                .collect(),
        }
    }
}

impl UserStacks {
    fn of(stacks: &galen_profile::UserStacks) -> Self {
        let missing = [
            (stacks.truncated, "no frame pointers"),
            (stacks.process_gone, "process gone"),
            (stacks.unreadable, "stack unreadable"),
        ];
        let sum: u64 = missing.iter().map(|(samples, _)| samples).sum();
        let programs = sum + stacks.whole;
        let because = missing.iter().filter(|(samples, _)| *samples > 0);
        let because = because.map(|(samples, why)| format!("{why}: {} %", percent(*samples, programs)));
        Self {
            whole: stacks.whole,
            truncated: stacks.truncated,
            process_gone: stacks.process_gone,
            unreadable: stacks.unreadable,
            kernel_thread: stacks.kernel_thread,
            missing_percent: percent(sum, programs),
            missing_because: because.collect::<Vec<_>>().join(", "),
        }
    }
}

fn hottest(summary: &Summary) -> String {
    let hottest = summary.hottest_functions.first();
    let hottest =
        hottest.map(|function| format!(", {:.0}% in {}", percent(function.own, summary.samples), function.name));
    format!("{} samples in {:.1} s{}", summary.samples, summary.lasted.as_secs_f64(), hottest.unwrap_or_default())
}

fn attachment(name: &str, profile: Profile) -> Attachment {
    Attachment {
        name: name.into(),
        media_type: PPROF_MEDIA_TYPE.into(),
        encoding: "gzip".into(),
        content: profile.pprof,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mixed_profile_says_which_share_has_no_user_stack_and_why() {
        let stacks =
            galen_profile::UserStacks { whole: 60, truncated: 30, process_gone: 10, unreadable: 0, kernel_thread: 50 };
        let told = UserStacks::of(&stacks);
        assert_eq!(told.missing_percent, 40.0);
        assert_eq!(told.missing_because, "no frame pointers: 30 %, process gone: 10 %");
        let whole = UserStacks::of(&galen_profile::UserStacks { whole: 1, ..Default::default() });
        assert_eq!((whole.missing_percent, whole.missing_because.as_str()), (0.0, ""));
    }
}
