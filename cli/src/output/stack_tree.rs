//! A profile on a terminal: the call tree, hottest branch first, with the share of each frame.
//!
//! A frame whose time is all in one callee is followed by it at the same depth, so that deep stacks stay readable; only
//! a fork indents.

use std::{
    collections::BTreeMap,
    io::{self, Write},
};

use super::{Colour, Style, plain};
use crate::error::Error;

/// From these shares on, percent, a frame is hot, or warm.
const HOT: f64 = 50.0;
const WARM: f64 = 10.0;

/// Frames by caller.
#[derive(Debug, Default)]
pub(crate) struct StackTree {
    /// Samples with this frame, and with it on top.
    total: u64,
    own: u64,
    callees: BTreeMap<String, StackTree>,
}

impl StackTree {
    /// Reads stacks as flame graph tools write them: frames from the root, joined by `;`, a space, the samples.
    pub(crate) fn from_folded(text: &str) -> Result<Self, Error> {
        let mut root = Self::default();
        for line in text.lines().filter(|line| !line.is_empty()) {
            let (stack, samples) = line.rsplit_once(' ').ok_or(Error::Profile("a stack has no number of samples"))?;
            let samples: u64 = samples.parse().map_err(|_| Error::Profile("a stack has no number of samples"))?;
            let mut node = &mut root;
            node.total = node.total.saturating_add(samples);
            for frame in stack.split(';') {
                node = node.callees.entry(frame.to_owned()).or_default();
                node.total = node.total.saturating_add(samples);
            }
            node.own = node.own.saturating_add(samples);
        }
        Ok(root)
    }

    /// Whether any frame's name contains `name`.
    pub(crate) fn contains(&self, name: &str) -> bool {
        self.callees.iter().any(|(frame, callee)| frame.contains(name) || callee.contains(name))
    }

    /// Writes what has at least `min_percent` of the samples, at most `lines` of it.
    pub(crate) fn write(&self, out: &mut impl Write, style: Style, min_percent: f64, lines: usize) -> io::Result<()> {
        if self.total == 0 {
            return writeln!(out, "no samples");
        }
        writeln!(
            out,
            "{}",
            style.paint(Colour::Dim, format_args!("{:>6} {:>6}  {} samples", "TOTAL", "SELF", self.total))
        )?;
        let mut writer = Writer { style, samples: self.total, min_percent, left: lines, hidden: 0 };
        writer.callees(out, self, "")?;
        if writer.hidden > 0 {
            writeln!(out, "{}", style.paint(Colour::Dim, format_args!("{:15}and {} more frames", "", writer.hidden)))?;
        }
        Ok(())
    }
}

struct Writer {
    style: Style,
    samples: u64,
    min_percent: f64,
    left: usize,
    hidden: usize,
}

impl Writer {
    fn callees(&mut self, out: &mut impl Write, caller: &StackTree, indent: &str) -> io::Result<()> {
        let mut shown: Vec<_> =
            caller.callees.iter().filter(|(_, callee)| self.percent(callee.total) >= self.min_percent).collect();
        shown.sort_by(|a, b| b.1.total.cmp(&a.1.total).then(a.0.cmp(b.0)));
        let fork = shown.len() > 1;
        for (position, (frame, callee)) in shown.iter().enumerate() {
            let (branch, below) = match (fork, position + 1 == shown.len()) {
                (false, _) => ("", ""),
                (true, false) => ("├─ ", "│  "),
                (true, true) => ("└─ ", "   "),
            };
            self.frame(out, frame, callee, &format!("{indent}{branch}"))?;
            self.callees(out, callee, &format!("{indent}{below}"))?;
        }
        Ok(())
    }

    fn frame(&mut self, out: &mut impl Write, frame: &str, node: &StackTree, indent: &str) -> io::Result<()> {
        if self.left == 0 {
            self.hidden += 1;
            return Ok(());
        }
        self.left -= 1;
        let percent = self.percent(node.total);
        let own = if node.own == 0 { String::new() } else { format!("{:.1}%", self.percent(node.own)) };
        let share = format!("{percent:>5.1}%");
        let share = match percent {
            _ if percent >= HOT => self.style.paint(Colour::Red, share),
            _ if percent >= WARM => self.style.paint(Colour::Yellow, share),
            _ => share,
        };
        let frame = plain(frame);
        let frame =
            if self.percent(node.own) >= WARM { self.style.paint(Colour::Bold, frame) } else { frame.into_owned() };
        writeln!(out, "{share} {own:>6}  {}{frame}", self.style.paint(Colour::Dim, indent))
    }

    #[allow(clippy::cast_precision_loss, reason = "shares are shown with one digit")]
    fn percent(&self, samples: u64) -> f64 {
        samples as f64 * 100.0 / self.samples as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FOLDED: &str = "app;main;work;hot 70\napp;main;work;warm 20\napp;main;idle 9\napp;main;rare 1\n";

    fn show(folded: &str, min_percent: f64, lines: usize) -> String {
        let mut out = Vec::new();
        StackTree::from_folded(folded).unwrap().write(&mut out, Style::none(), min_percent, lines).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_hottest_branch_is_first_and_only_forks_indent() {
        assert_eq!(
            show(FOLDED, 5.0, usize::MAX),
            " TOTAL   SELF  100 samples\n\
             100.0%         app\n\
             100.0%         main\n \
              90.0%         ├─ work\n \
              70.0%  70.0%  │  ├─ hot\n \
              20.0%  20.0%  │  └─ warm\n  \
               9.0%   9.0%  └─ idle\n"
        );
    }

    #[test]
    fn what_does_not_fit_is_counted() {
        assert!(show(FOLDED, 0.0, 3).ends_with("work\n               and 4 more frames\n"), "{}", show(FOLDED, 0.0, 3));
    }

    #[test]
    fn frames_may_hold_spaces_and_are_escaped() {
        assert!(show("a b;<impl X for\x1bY>::f 3\n", 0.0, 9).contains("<impl X for\\u{1b}Y>::f"));
    }

    #[test]
    fn an_empty_profile_says_so() {
        assert_eq!(show("", 1.0, 9), "no samples\n");
    }

    #[test]
    fn what_is_not_folded_is_refused() {
        for text in ["nonsense", "a;b", "a;b x"] {
            assert!(matches!(StackTree::from_folded(text), Err(Error::Profile(_))), "{text}");
        }
    }

    #[test]
    fn frames_are_found_at_any_depth() {
        let tree = StackTree::from_folded(FOLDED).unwrap();
        assert!(tree.contains("hot") && tree.contains("app") && !tree.contains("cold"));
    }
}
