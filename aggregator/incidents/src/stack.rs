//! From the stacks of a profile to the frames that tell its cause.
//!
//! The one stack that was seen most often is a matter of chance where a hot function calls several others. So the path
//! is followed from the root: to the heaviest branch at first, then to the heaviest as long as it has most ([`MOST`]) of
//! the samples of the one before. Two machines that do the same so come to the same end, except where a branch has just
//! about that share.

use std::collections::HashMap;

/// Most frames of a stack that are looked at, the innermost.
pub(crate) const MAX_DEPTH: usize = 512;
/// Frames that go into a print: the innermost.
const TOP: usize = 8;
/// Part of the samples that a branch needs to be followed, in percent.
const MOST: u64 = 60;
/// Longest cycle of functions that call each other which is taken for recursion.
const CYCLE: usize = 4;

/// Names of a stack, the root first, with recursion collapsed.
pub(crate) fn collapse<T: PartialEq>(frames: impl Iterator<Item = T>) -> Vec<T> {
    let mut kept: Vec<T> = Vec::new();
    for frame in frames {
        kept.push(frame);
        for cycle in 1..=CYCLE {
            if let Some(start) = kept.len().checked_sub(2 * cycle)
                && kept[start..start + cycle] == kept[start + cycle..]
            {
                kept.truncate(start + cycle);
                break;
            }
        }
    }
    kept
}

/// The innermost frames of the path, the innermost first, of stacks with their samples. Empty if no stack has a name.
pub(crate) fn path(stacks: &HashMap<Vec<&str>, u64>) -> Vec<String> {
    let mut on_path: Vec<(&[&str], u64)> = stacks.iter().map(|(frames, samples)| (&**frames, *samples)).collect();
    on_path.retain(|(frames, _)| !frames.is_empty());
    let mut path: Vec<&str> = Vec::new();
    loop {
        let all: u64 = on_path.iter().map(|(_, samples)| samples).sum();
        let mut branches: HashMap<&str, u64> = HashMap::new();
        for (frames, samples) in &on_path {
            if let Some(frame) = frames.get(path.len()) {
                *branches.entry(frame).or_default() += samples;
            }
        }
        let heaviest = branches.into_iter().max_by(|a, b| a.1.cmp(&b.1).then_with(|| b.0.cmp(a.0)));
        let Some((frame, samples)) = heaviest else { break };
        if !path.is_empty() && samples * 100 < all * MOST {
            break;
        }
        let depth = path.len();
        on_path.retain(|(frames, _)| frames.get(depth) == Some(&frame));
        path.push(frame);
    }
    path.into_iter().rev().take(TOP).map(Into::into).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stack(text: &str) -> Vec<&str> {
        collapse(text.split(';'))
    }

    fn path_of(stacks: &[(&str, u64)]) -> Vec<String> {
        path(&stacks.iter().map(|(text, samples)| (stack(text), *samples)).collect())
    }

    #[test]
    fn recursion_is_one_call() {
        assert_eq!(stack("a;walk;walk;walk;leaf"), ["a", "walk", "leaf"]);
        assert_eq!(stack("a;eval;apply;eval;apply;eval;apply;leaf"), ["a", "eval", "apply", "leaf"]);
    }

    #[test]
    fn the_path_ends_where_the_samples_part() {
        let one = [("run;work;a", 34), ("run;work;b", 33), ("run;work;c", 33), ("idle", 5)];
        let other = [("run;work;a", 31), ("run;work;b", 36), ("run;work;c", 33)];
        assert_eq!(path_of(&one), ["work", "run"]);
        assert_eq!(path_of(&one), path_of(&other));
        assert_eq!(path_of(&[("run;work;a", 90), ("run;work;b", 10)]), ["a", "work", "run"]);
    }

    #[test]
    fn only_the_innermost_frames_count() {
        let deep = |root: &str| {
            let frames: Vec<String> = (0..20).map(|n| format!("f{n}")).collect();
            path_of(&[(&format!("{root};{}", frames.join(";")), 1)])
        };
        assert_eq!(deep("x"), deep("y"));
        assert_eq!(deep("x").len(), TOP);
        assert_eq!(path_of(&[]), Vec::<String>::new());
    }
}
