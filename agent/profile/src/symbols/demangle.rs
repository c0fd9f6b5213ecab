//! Readable names of Rust and C++ functions.
//!
//! A name may be written to do harm: few bytes can stand for gigabytes. So what comes out is cut at a limit, with which
//! the work ends as well. Reading a C++ name can take time that doubles with each level of it, and the stack of a thread:
//! names of more levels than nine in ten names of heavy template libraries have stay as they are.

use std::fmt::{self, Write};

use cpp_demangle::{DemangleOptions, ParseOptions, Symbol};

const MAX_BYTES: usize = 4096;
const MAX_CPP_BYTES: usize = 1024;
/// Of the reading; a type within a type takes several.
const MAX_CPP_LEVELS: u32 = 24;
const CUT: &str = "...";

/// A name that is not mangled, or not understood, stays as it is.
pub(super) fn demangled(name: String) -> String {
    let mut text = Text::default();
    let done = if let Ok(name) = rustc_demangle::try_demangle(&name) {
        write!(text, "{name:#}")
    } else if name.len() <= MAX_CPP_BYTES
        && let Ok(name) = Symbol::new_with_options(&name, &ParseOptions::default().recursion_limit(MAX_CPP_LEVELS))
    {
        name.structured_demangle(&mut text, &DemangleOptions::default().recursion_limit(2 * MAX_CPP_LEVELS))
    } else {
        return name;
    };
    match done {
        Err(fmt::Error) if !text.cut => name,
        _ => text.text,
    }
}

#[derive(Default)]
struct Text {
    text: String,
    cut: bool,
}

impl Write for Text {
    fn write_str(&mut self, more: &str) -> fmt::Result {
        if self.text.len() + more.len() > MAX_BYTES {
            self.cut = true;
            self.text.push_str(CUT);
            return Err(fmt::Error);
        }
        self.text.push_str(more);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(name: &str) -> String {
        demangled(name.to_owned())
    }

    #[test]
    fn names_of_rust_and_cpp_are_readable_and_others_stay() {
        assert_eq!(shown("_ZN4core3fmt5Write9write_fmt17h0123456789abcdefE"), "core::fmt::Write::write_fmt");
        assert_eq!(shown("_RNvC6_123foo3bar"), "123foo::bar");
        assert_eq!(
            shown("_ZNSt6vectorIiSaIiEE9push_backERKi"),
            "std::vector<int, std::allocator<int> >::push_back(int const&)"
        );
        assert_eq!(shown("malloc"), "malloc");
        assert_eq!(shown("_Znonsense"), "_Znonsense");
    }

    #[test]
    fn a_name_that_would_fill_memory_is_cut() {
        // Each pair is made of the two before it: 2^60 names.
        let mut name = "_Z1fSt4pairIiiE".to_owned();
        for number in 0..60 {
            let last = if number == 0 { "S_".to_owned() } else { format!("S{}_", base36(number - 1)) };
            name.push_str(&format!("St4pairI{last}{last}E"));
        }
        let text = shown(&name);
        assert!(text.len() <= name.len().max(MAX_BYTES + CUT.len()), "{}", text.len());
    }

    #[test]
    fn names_that_take_long_to_read_or_much_stack_stay() {
        for unit in ["nw", "cl", "X", "A", "pt", "fL"] {
            for name in [format!("_Z1fIX{}i_E", unit.repeat(30)), format!("_Z1fIX{}", unit.repeat(2000))] {
                assert_eq!(shown(&name), name);
            }
        }
    }

    fn base36(number: u32) -> char {
        char::from_digit(number % 36, 36).unwrap_or('0').to_ascii_uppercase()
    }
}
