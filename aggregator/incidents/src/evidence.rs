//! What tells the cause of an event: the frames of a stack, or else who did it.
//!
//! The first of these that there is:
//!
//! | Of | Evidence |
//! |---|---|
//! | `cpuidle`, `cpusys` | the path of most samples in the profile ([`crate::stack`]) |
//! | `dload` | `stack`: where in the kernel most of the tasks wait |
//! | `oom` | the name of the process that was killed |
//! | `waitrate` | who held the CPU for the longest |
//! | `iotracer`, `memburst` | the process with the most bytes, or that grew most |

use galen_proto::v1::Event;
use serde::Deserialize;
use serde_json::Value;

use crate::{
    frame::{Frame, normalise, uncounted},
    profile,
    stack::{MAX_DEPTH, collapse, path},
};

/// What of an event's data is looked at. A field of another type is as good as none.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Data {
    capture: Value,
    stack: Value,
    victim: Value,
    interferer_list: Value,
    processes: Value,
}

impl Data {
    pub(crate) fn of(event: &Event) -> Self {
        serde_json::from_slice(&event.data).unwrap_or_default()
    }

    /// Whether the tracer said that no capture follows.
    pub(crate) fn is_all(&self) -> bool {
        self.capture == Value::Bool(false)
    }
}

/// The innermost first; empty if nothing tells the cause yet.
pub(crate) fn frames(event: &Event, data: &Data) -> Vec<String> {
    let sampled = profile::frames(event);
    if !sampled.is_empty() {
        return sampled;
    }
    let waiting = data.stack.as_str().map(waiting).unwrap_or_default();
    if !waiting.is_empty() {
        return waiting;
    }
    let named = [&data.victim, &data.interferer_list[0], &data.processes[0]].into_iter();
    let name = named.filter_map(|who| who["name"].as_str()).map(uncounted).find(|name| !name.is_empty());
    name.into_iter().map(|name| format!("[{name}]")).collect()
}

/// A function a line, the innermost first.
fn waiting(stack: &str) -> Vec<String> {
    let frames = stack.lines().take(MAX_DEPTH).filter_map(|symbol| normalise(Frame { symbol, module: "" }));
    let frames: Vec<String> = frames.collect();
    path(&[(collapse(frames.iter().rev().map(String::as_str)), 1)].into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(data: &str) -> (bool, Vec<String>) {
        let event = Event { data: data.to_owned().into(), ..Event::default() };
        let data = Data::of(&event);
        (data.is_all(), frames(&event, &data))
    }

    #[test]
    fn a_waiting_stack_is_told_without_how_it_sleeps_and_was_entered() {
        let older = "schedule\nio_schedule\nbit_wait_io\n__wait_on_bit\njbd2_log_wait_commit\next4_sync_file\n\
                     __x64_sys_fsync\ndo_syscall_64\nentry_SYSCALL_64_after_hwframe";
        let newer = "__schedule\nschedule\nio_schedule\nbit_wait_io\n__wait_on_bit\njbd2_log_wait_commit.cold\n\
                     ext4_sync_file\n__arm64_sys_fsync\ninvoke_syscall.constprop.0\ndo_el0_svc\nel0t_64_sync";
        let data = |stack: &str| serde_json::json!({ "stack": stack, "processes": [{ "name": "dd" }] }).to_string();
        let (_, frames) = of(&data(older));
        assert_eq!(frames, ["bit_wait_io", "__wait_on_bit", "jbd2_log_wait_commit", "ext4_sync_file", "sys_fsync"]);
        assert_eq!(of(&data(newer)).1, frames);
    }

    #[test]
    fn who_did_it_tells_the_cause_where_there_is_no_stack() {
        assert_eq!(of(r#"{"capture":false,"victim":{"name":"java"}}"#), (true, vec!["[java]".into()]));
        assert_eq!(of(r#"{"capture":true,"interferer_list":[{"name":"batch-7"}]}"#), (false, vec!["[batch]".into()]));
        assert_eq!(of(r#"{"processes":[{"name":"dd"},{"name":"cp"}]}"#).1, ["[dd]"]);
    }

    #[test]
    fn data_of_other_shapes_tells_nothing() {
        for data in ["", "7", "[1]", r#"{"stack":[1],"victim":[],"processes":{"name":"x"}}"#, r#"{"stack":""}"#] {
            assert_eq!(of(data), (false, Vec::new()), "{data}");
        }
    }
}
