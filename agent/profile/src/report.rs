//! From the collected samples of a capture to its profile and summary.

use std::{
    io,
    time::{Duration, SystemTime},
};

use crate::{
    collector::{Collected, Stack, UserSide},
    hot, pprof,
    profile::{Lost, Profile, Summary, UserStacks},
    session::Ended,
    symbols::Symbols,
};

/// Program sides of no more frames than this are called truncated, unless they reach the begin of a thread.
const FEW_FRAMES: usize = 3;
/// Where threads begin.
const ENTRIES: [&str; 9] = [
    "_start",
    "__libc_start_main",
    "__libc_start_call_main",
    "clone",
    "clone3",
    "__clone3",
    "start_thread",
    "runtime.goexit",
    "runtime.rt0_go",
];

/// When and how the samples were taken.
pub(crate) struct Taken {
    pub(crate) started: SystemTime,
    pub(crate) lasted: Duration,
    pub(crate) hertz: u32,
}

/// # Errors
/// Those of compressing to memory: none in practice.
pub(crate) fn build(ended: Ended, taken: Taken) -> io::Result<Profile> {
    let Ended { collector, ring_full } = ended;
    let lost = Lost { ring_full, table_full: collector.table_full, bad_record: collector.bad_records };
    let Collected { places, stacks } = collector.finish();
    let symbols = Symbols::of(&places);

    let mut summary = Summary {
        started: taken.started,
        lasted: taken.lasted,
        hertz: taken.hertz,
        samples: 0,
        kernel_samples: 0,
        stacks: stacks.len() as u64,
        user_stacks: UserStacks::default(),
        lost,
        hottest_stacks: hot::stacks(&stacks, &symbols),
        hottest_functions: hot::functions(&stacks, &symbols),
    };
    for (stack, samples) in &stacks {
        summary.samples += samples;
        if stack.kernel > 0 {
            summary.kernel_samples += samples;
        }
        let counted = &mut summary.user_stacks;
        *match stack.user {
            UserSide::None => &mut counted.kernel_thread,
            UserSide::Unreadable => &mut counted.unreadable,
            UserSide::Gone => &mut counted.process_gone,
            UserSide::Cut => &mut counted.truncated,
            UserSide::Walked if is_truncated(stack, &symbols) => &mut counted.truncated,
            UserSide::Walked => &mut counted.whole,
        } += samples;
    }
    let header = pprof::Header {
        started: taken.started,
        lasted: taken.lasted,
        period: 1_000_000_000 / i64::from(taken.hertz),
        comments: remarks(&summary),
    };
    let pprof = pprof::encode(&header, &places, &stacks, &symbols)?;
    Ok(Profile { pprof, summary })
}

fn is_truncated(stack: &Stack, symbols: &Symbols) -> bool {
    let user = &stack.frames[stack.kernel as usize..];
    user.len() <= FEW_FRAMES
        && user.last().is_some_and(|place| {
            let name = symbols.name(symbols.function_of(*place));
            !ENTRIES.iter().any(|entry| name.split('@').next() == Some(entry))
        })
}

fn remarks(summary: &Summary) -> Vec<String> {
    let mut remarks = Vec::new();
    let lost = summary.lost.total();
    if lost > 0 {
        remarks.push(format!("{lost} samples were lost"));
    }
    let user = &summary.user_stacks;
    if user.truncated > 0 {
        remarks.push(format!("{} samples have a truncated stack: likely no frame pointers", user.truncated));
    }
    if user.process_gone > 0 {
        remarks
            .push(format!("{} samples are of processes that ended before they could be looked at", user.process_gone));
    }
    remarks
}
