//! Text from machines, made harmless for a terminal.

use std::borrow::Cow;

/// `text` on one line, with every character escaped that a terminal would obey instead of show: control characters, and
/// those that change the direction of writing.
pub(crate) fn plain(text: &str) -> Cow<'_, str> {
    if text.chars().any(acts) {
        let mut out = String::with_capacity(text.len() + 16);
        for c in text.chars() {
            if acts(c) {
                out.extend(c.escape_default());
            } else {
                out.push(c);
            }
        }
        out.into()
    } else {
        text.into()
    }
}

/// Whether a terminal would do something else than show it.
pub(super) fn acts(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_harmless_is_left_alone() {
        assert!(matches!(plain("größe 漢字 ✓"), Cow::Borrowed("größe 漢字 ✓")));
    }

    #[test]
    fn nothing_that_a_terminal_obeys_is_left() {
        assert_eq!(plain("a\x1b[31mb\nc\td"), "a\\u{1b}[31mb\\nc\\td");
        assert_eq!(plain("x\u{9b}2J\u{7f}"), "x\\u{9b}2J\\u{7f}");
        assert_eq!(plain("\u{202e}gpj.exe"), "\\u{202e}gpj.exe");
    }
}
