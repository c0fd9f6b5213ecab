//! Colours, on a terminal that wants them.

use std::{
    env, fmt,
    io::{self, IsTerminal},
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Colour {
    Bold,
    Dim,
    Red,
    Green,
    Yellow,
}

/// Whether to colour.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Style {
    colours: bool,
}

impl Style {
    /// For the standard output: colours if it is a terminal, and neither `NO_COLOR` nor `TERM=dumb` asks for none.
    pub(crate) fn of_stdout() -> Self {
        let refused = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || env::var_os("TERM").is_some_and(|value| value == "dumb");
        Self { colours: io::stdout().is_terminal() && !refused }
    }

    /// For files.
    pub(crate) fn none() -> Self {
        Self { colours: false }
    }

    /// `text`, coloured if colours are wanted.
    pub(crate) fn paint(self, colour: Colour, text: impl fmt::Display) -> String {
        if !self.colours {
            return text.to_string();
        }
        let code = match colour {
            Colour::Bold => 1,
            Colour::Dim => 2,
            Colour::Red => 31,
            Colour::Green => 32,
            Colour::Yellow => 33,
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_colours_text_stays_as_it_is() {
        assert_eq!(Style::none().paint(Colour::Red, "hot"), "hot");
        assert_eq!(Style { colours: true }.paint(Colour::Red, "hot"), "\x1b[31mhot\x1b[0m");
    }
}
