//! What the events say.

use std::{collections::HashMap, sync::Arc, time::Duration};

use serde::Serialize;

use super::{
    crowd::{Blocked, Crowd, Stack},
    issues::Issues,
    load::HOST,
    settings::Settings,
    source::States,
    watch::Over,
};

/// Groups of tasks that are told of the entity, and of the others.
const GROUPS: usize = 20;
const GROUPS_ELSEWHERE: usize = 5;
/// Names that are told of a group.
const NAMES: usize = 10;
/// Tasks in the attachment.
const TASKS: usize = 2000;

/// `data` of a trigger.
#[derive(Debug, Serialize)]
pub(super) struct Trigger {
    threshold: f64,
    /// The load of tasks in uninterruptible sleep that was compared with it.
    dload_avg: f64,
    average_over_seconds: f64,
    nr_uninterruptible: u32,
    nr_iowait: u32,
    /// `null` where they cannot be had cheaply.
    nr_running: Option<u32>,
    nr_sleeping: Option<u32>,
    nr_stopped: Option<u32>,
    /// The machine's load average of a minute.
    load_avg: Option<f64>,
    /// Whether a capture follows, and if not, why.
    capture: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    no_capture_because: Option<String>,
}

/// `data` of a capture.
#[derive(Debug, Serialize)]
pub(super) struct Capture {
    nr_uninterruptible: usize,
    /// Of the largest group that has one.
    known_issue: Option<String>,
    /// Of the largest group: a function a line, the innermost first.
    stack: String,
    /// The largest first.
    stacks: Vec<Group>,
    /// Groups and tasks that are not among them.
    more_stacks: usize,
    more_tasks: usize,
    /// Of tasks of the machine that are not the entity's.
    stacks_elsewhere: Vec<Group>,
    longest_waiting_seconds: Option<f64>,
    /// Why the single tasks are not attached.
    #[serde(skip_serializing_if = "Option::is_none")]
    reduced_because: Option<String>,
}

/// Tasks with the same stack.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Group {
    count: usize,
    /// How many of each name, the most frequent first.
    tasks: Vec<Named>,
    shortest_waiting_seconds: Option<f64>,
    longest_waiting_seconds: Option<f64>,
    known_issue: Option<String>,
    /// The innermost first.
    frames: Vec<String>,
}

#[derive(Debug, Clone, Serialize)]
struct Named {
    name: String,
    count: usize,
}

/// A line of the attachment.
#[derive(Debug, Serialize)]
pub(super) struct Listed<'a> {
    pid: u32,
    tid: u32,
    name: &'a str,
    cgroup: &'a str,
    waiting_seconds: Option<f64>,
    iowait: bool,
    stack: String,
}

/// Names of kernel addresses.
pub(super) type Names = HashMap<u64, String>;

impl Trigger {
    pub(super) fn new(
        over: &Over,
        states: Option<States>,
        load_avg: Option<f64>,
        no_capture: Option<&str>,
        settings: &Settings,
    ) -> Self {
        Self {
            threshold: settings.threshold,
            dload_avg: round(over.load),
            average_over_seconds: settings.average_over.as_secs_f64(),
            nr_uninterruptible: over.count.blocked,
            nr_iowait: over.count.iowait,
            nr_running: states.map(|states| states.running),
            nr_sleeping: states.map(|states| states.sleeping),
            nr_stopped: states.map(|states| states.stopped),
            load_avg,
            capture: no_capture.is_none(),
            no_capture_because: no_capture.map(str::to_owned),
        }
    }
}

impl Capture {
    /// `entity`: whose tasks are told.
    pub(super) fn new(crowd: &Crowd, entity: &str, names: &Names, reduced: Option<&str>, issues: &Issues) -> Self {
        let (own, others): (Vec<&Blocked>, Vec<&Blocked>) =
            crowd.tasks.iter().partition(|task| task.owner.is_or_is_in(entity));
        let mut stacks = groups(crowd, &own, names, issues);
        let mut stacks_elsewhere = groups(crowd, &others, names, issues);
        stacks_elsewhere.truncate(GROUPS_ELSEWHERE);
        let more = stacks.split_off(stacks.len().min(GROUPS));
        let unkept = if entity == HOST { crowd.more as usize } else { 0 };
        Self {
            nr_uninterruptible: own.len() + unkept,
            known_issue: stacks.iter().find_map(|group| group.known_issue.clone()),
            stack: stacks.first().map(|group| group.frames.join("\n")).unwrap_or_default(),
            longest_waiting_seconds: own.iter().filter_map(|task| task.waiting).max().map(seconds),
            more_stacks: more.len(),
            more_tasks: more.iter().map(|group| group.count).sum::<usize>() + unkept,
            stacks,
            stacks_elsewhere,
            reduced_because: reduced.map(str::to_owned),
        }
    }

    /// Where most of them wait, and what that means.
    pub(super) fn summary(&self, place: &str) -> String {
        let Some(first) = self.stacks.first() else { return format!("no task waits in {place}") };
        let name = first.tasks.first().map_or("?", |task| task.name.as_str());
        let frames = first.frames.iter().take(3).map(String::as_str).collect::<Vec<_>>().join(" < ");
        let at = if frames.is_empty() { "their stacks could not be had".into() } else { format!("in {frames}") };
        let issue = self.known_issue.as_ref().map(|issue| format!(": {issue}")).unwrap_or_default();
        format!("{} of {} tasks that wait in {place} ({name}) {at}{issue}", first.count, self.nr_uninterruptible)
    }
}

/// The tasks of the entity, those that wait longest first.
pub(super) fn listed<'a>(crowd: &'a Crowd, entity: &str, names: &Names) -> Vec<Listed<'a>> {
    let mut tasks: Vec<&Blocked> = crowd.tasks.iter().filter(|task| task.owner.is_or_is_in(entity)).collect();
    tasks.sort_by_key(|task| std::cmp::Reverse(task.waiting));
    tasks.truncate(TASKS);
    let line = |task: &'a Blocked| Listed {
        pid: task.pid,
        tid: task.tid,
        name: &task.name,
        cgroup: &task.owner.cgroup,
        waiting_seconds: task.waiting.map(seconds),
        iowait: task.iowait,
        stack: frames(&crowd.stacks[task.stack], names).join(" < "),
    };
    tasks.into_iter().map(line).collect()
}

/// Addresses whose names a report needs.
pub(super) fn addresses(crowd: &Crowd) -> Vec<u64> {
    let of = |stack: &Arc<Stack>| match &**stack {
        Stack::Addresses(addresses) => addresses.clone(),
        Stack::Names(_) => Vec::new(),
    };
    crowd.stacks.iter().flat_map(of).collect()
}

pub(super) fn summary(over: &Over, place: &str) -> String {
    format!("{} tasks in uninterruptible sleep in {place}, {:.1} on average", over.count.blocked, over.load)
}

pub(super) fn explanation(over: &Over, settings: &Settings) -> String {
    format!(
        "tasks in uninterruptible sleep, averaged over {} s, were {:.2} (rule: over {}); {} are now, {} of them for IO",
        settings.average_over.as_secs_f64(),
        over.load,
        settings.threshold,
        over.count.blocked,
        over.count.iowait
    )
}

/// Those with the same functions are one group, also where they wait at different places of them.
fn groups(crowd: &Crowd, tasks: &[&Blocked], names: &Names, issues: &Issues) -> Vec<Group> {
    let named: Vec<Vec<String>> = crowd.stacks.iter().map(|stack| frames(stack, names)).collect();
    let mut by_stack: HashMap<&[String], Vec<&Blocked>> = HashMap::new();
    for task in tasks {
        by_stack.entry(&named[task.stack]).or_default().push(task);
    }
    let group = |(frames, tasks): (&[String], Vec<&Blocked>)| Group {
        count: tasks.len(),
        tasks: most_frequent(&tasks),
        shortest_waiting_seconds: tasks.iter().filter_map(|task| task.waiting).min().map(seconds),
        longest_waiting_seconds: tasks.iter().filter_map(|task| task.waiting).max().map(seconds),
        known_issue: issues.of(frames).map(str::to_owned),
        frames: frames.to_vec(),
    };
    let mut groups: Vec<Group> = by_stack.into_iter().map(group).collect();
    groups.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.frames.cmp(&b.frames)));
    groups
}

fn most_frequent(tasks: &[&Blocked]) -> Vec<Named> {
    let mut counts: HashMap<&str, usize> = HashMap::new();
    for task in tasks {
        *counts.entry(&task.name).or_default() += 1;
    }
    let mut named: Vec<Named> = counts.into_iter().map(|(name, count)| Named { name: name.into(), count }).collect();
    named.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.name.cmp(&b.name)));
    named.truncate(NAMES);
    named
}

fn frames(stack: &Stack, names: &Names) -> Vec<String> {
    match stack {
        Stack::Names(names) => names.clone(),
        Stack::Addresses(addresses) => {
            let name = |address: &u64| names.get(address).cloned().unwrap_or_else(|| format!("{address:#x}"));
            addresses.iter().map(name).collect()
        }
    }
}

fn seconds(waiting: Duration) -> f64 {
    round(waiting.as_secs_f64())
}

fn round(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}
