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
    symbols::{Origin, Symbols},
};

/// Program sides of no more frames than this are called truncated, unless they reach the begin of a thread.
const FEW_FRAMES: usize = 3;
/// Where threads begin, in programs that do not begin them in the C library.
const ENTRIES: [&str; 4] = ["_start", "main", "runtime.goexit", "runtime.rt0_go"];
/// Names of C libraries, of which most are stripped: that they were reached is all that can be known.
const C_LIBRARIES: [&str; 4] = ["libc.so", "libc-", "libpthread", "ld-musl"];

/// When and how the samples were taken.
pub(crate) struct Taken {
    pub(crate) started: SystemTime,
    pub(crate) lasted: Duration,
    pub(crate) period: Duration,
}

/// # Errors
/// Those of compressing to memory: none in practice.
pub(crate) fn build(ended: Ended, taken: &Taken) -> io::Result<Profile> {
    let Ended { collector, ring_full } = ended;
    let lost = Lost { ring_full, table_full: collector.table_full, bad_record: collector.bad_records };
    let kernel_unreadable = collector.kernel_unreadable;
    let Collected { places, stacks, mut processes } = collector.finish();
    processes.sort_unstable_by_key(|busy| (std::cmp::Reverse(busy.samples), busy.pid));
    let symbols = Symbols::of(&places);

    let mut summary = Summary {
        started: taken.started,
        lasted: taken.lasted,
        period: taken.period,
        samples: 0,
        kernel_samples: 0,
        kernel_unreadable,
        stacks: stacks.len() as u64,
        user_stacks: UserStacks::default(),
        lost,
        hottest_stacks: hot::stacks(&stacks, &symbols),
        hottest_functions: hot::functions(&stacks, &symbols),
        processes,
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
        period: i64::try_from(taken.period.as_nanos()).unwrap_or(i64::MAX),
        comments: remarks(&summary, &symbols),
    };
    let pprof = pprof::encode(&header, &places, &stacks, &symbols)?;
    Ok(Profile { pprof, summary })
}

/// A walk that came from the program into the C library went through to the function that starts threads.
fn is_truncated(stack: &Stack, symbols: &Symbols) -> bool {
    let user = &stack.frames[stack.kernel as usize..];
    let Some(outermost) = user.last() else { return true };
    let name = symbols.name(symbols.function_of(*outermost));
    let whole = ENTRIES.contains(&name)
        || (in_c_library(*outermost, symbols) && !user.iter().all(|place| in_c_library(*place, symbols)));
    user.len() <= FEW_FRAMES && !whole
}

fn in_c_library(place: u32, symbols: &Symbols) -> bool {
    let Origin::File(file) = symbols.origin(place) else { return false };
    let path = &symbols.files[file as usize].path;
    let name = path.rsplit('/').next().unwrap_or(path);
    C_LIBRARIES.iter().any(|library| name.starts_with(library))
}

fn remarks(summary: &Summary, symbols: &Symbols) -> Vec<String> {
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
    if symbols.tables_left_out > 0 {
        remarks.push(format!("{} symbol tables were too large to be read", symbols.tables_left_out));
    }
    remarks
}
