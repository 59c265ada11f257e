//! How standard error is written on: colour and letters, as the terminal and the user allow.

use std::io::{IsTerminal, stderr};

/// When to colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Color {
    /// On a terminal, unless NO_COLOR is set or TERM is dumb; CLICOLOR_FORCE colours a pipe too.
    Auto,
    Always,
    Never,
}

/// The looks of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    pub color: bool,
    pub ascii: bool,
}

impl Style {
    /// Of standard error. `variable` looks an environment variable up.
    pub fn of_stderr(color: Color, ascii: bool, variable: impl Fn(&str) -> Option<String>) -> Self {
        let said = |name: &str| variable(name).filter(|value| !value.is_empty());
        let color = match color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto if said("NO_COLOR").is_some() => false,
            Color::Auto if said("CLICOLOR_FORCE").is_some_and(|value| value != "0") => true,
            Color::Auto => said("TERM").as_deref() != Some("dumb") && stderr().is_terminal(),
        };
        Self { color, ascii }
    }

    pub fn good(self) -> String {
        self.mark("✓", "ok", "32")
    }

    pub fn bad(self) -> String {
        self.mark("✗", "FAIL", "31")
    }

    pub fn warning(self) -> String {
        self.mark("!", "warning:", "33")
    }

    /// Between two ends of a link.
    pub fn pair(self) -> &'static str {
        if self.ascii { "<->" } else { "↔" }
    }

    fn mark(self, sign: &str, word: &str, code: &str) -> String {
        let text = if self.ascii { word } else { sign };
        if self.color { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colour_is_asked_for_or_left_out() {
        #[track_caller]
        fn check(color: Color, variables: &[(&str, &str)], expected: bool) {
            let variable =
                |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned());
            assert_eq!(Style::of_stderr(color, false, variable).color, expected, "{color:?} {variables:?}");
        }
        check(Color::Always, &[("NO_COLOR", "1")], true);
        check(Color::Never, &[("CLICOLOR_FORCE", "1")], false);
        check(Color::Auto, &[("NO_COLOR", "1"), ("CLICOLOR_FORCE", "1")], false);
        check(Color::Auto, &[("CLICOLOR_FORCE", "1")], true);
        check(Color::Auto, &[("NO_COLOR", ""), ("CLICOLOR_FORCE", "1")], true);
        check(Color::Auto, &[("TERM", "dumb")], false);
    }

    #[test]
    fn nothing_is_said_by_colour_alone() {
        let plain = Style { color: false, ascii: true };
        assert_eq!((plain.good(), plain.bad()), ("ok".to_owned(), "FAIL".to_owned()));
        let colored = Style { color: true, ascii: false };
        assert_eq!(colored.bad(), "\x1b[31m✗\x1b[0m");
    }
}
