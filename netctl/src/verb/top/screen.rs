//! What keys do to the screen of `netctl top`: order, filter, holding still. Pure.

use std::cmp::Reverse;

use super::Row;

/// What rows are sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(super) enum Sort {
    /// Bytes in both directions
    #[default]
    Busy,
    Rx,
    Tx,
    RxPps,
    TxPps,
    Drops,
    Errors,
    Name,
}

/// How the screen is at the moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Screen {
    pub(super) sort: Sort,
    pub(super) filter: String,
    /// Keys go to the filter.
    pub(super) editing: bool,
    pub(super) frozen: bool,
}

/// What a key asks of the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pressed {
    Go,
    Quit,
    Interrupt,
}

impl Screen {
    /// Takes a key as a terminal sends it.
    pub(super) fn press(&mut self, key: u8) -> Pressed {
        match (key, self.editing) {
            (CONTROL_C, _) => return Pressed::Interrupt,
            (b'\r' | b'\n', true) => self.editing = false,
            (ESCAPE, true) => (self.editing, self.filter) = (false, String::new()),
            (BACKSPACE | DELETE, true) => drop(self.filter.pop()),
            (b' '..=b'~', true) => self.filter.push(char::from(key)),
            (b'q', false) => return Pressed::Quit,
            (b's', false) => self.sort = self.sort.next(),
            (b' ', false) => self.frozen = !self.frozen,
            (b'/', false) => self.editing = true,
            (ESCAPE, false) => self.filter.clear(),
            _ => {}
        }
        Pressed::Go
    }

    /// Those that pass the filter, in order; equal ones as they come.
    pub(super) fn pick<'a>(&self, rows: &'a [Row]) -> Vec<&'a Row> {
        let wanted = |row: &&Row| row.container.contains(&self.filter) || row.network.contains(&self.filter);
        let mut picked: Vec<_> = rows.iter().filter(wanted).collect();
        match self.sort {
            // They come by name.
            Sort::Name => {}
            sort => picked.sort_by_key(|row| Reverse(sort.number(row))),
        }
        picked
    }

    /// What of it is not as usual, and the keys.
    pub(super) fn line(&self) -> String {
        let sort = format!("sort: {}", self.sort.name());
        let filter = match (self.editing, self.filter.as_str()) {
            (true, filter) => format!("  filter: {filter}_"),
            (false, "") => String::new(),
            (false, filter) => format!("  filter: {filter}"),
        };
        let frozen = if self.frozen { "  held" } else { "" };
        format!("{sort}{filter}{frozen}  (s sort, / filter, space hold, q quit)")
    }
}

impl Sort {
    fn next(self) -> Self {
        match self {
            Self::Busy => Self::Rx,
            Self::Rx => Self::Tx,
            Self::Tx => Self::RxPps,
            Self::RxPps => Self::TxPps,
            Self::TxPps => Self::Drops,
            Self::Drops => Self::Errors,
            Self::Errors => Self::Name,
            Self::Name => Self::Busy,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Busy => "busy",
            Self::Rx => "rx",
            Self::Tx => "tx",
            Self::RxPps => "rx-pps",
            Self::TxPps => "tx-pps",
            Self::Drops => "drops",
            Self::Errors => "errors",
            Self::Name => "name",
        }
    }

    fn number(self, row: &Row) -> u64 {
        let Row { received, sent, .. } = row;
        match self {
            Self::Busy => received[0] + sent[0],
            Self::Rx => received[0],
            Self::Tx => sent[0],
            Self::RxPps => received[1],
            Self::TxPps => sent[1],
            Self::Errors => received[2] + sent[2],
            Self::Drops => received[3] + sent[3],
            Self::Name => 0,
        }
    }
}

const CONTROL_C: u8 = 3;
const BACKSPACE: u8 = 8;
const ESCAPE: u8 = 27;
const DELETE: u8 = 127;

#[cfg(test)]
mod tests {
    use super::*;

    fn row(container: &str, received: [u64; 4], sent: [u64; 4]) -> Row {
        Row { container: container.to_owned(), network: "net".to_owned(), received, sent }
    }

    #[test]
    fn keys_sort_filter_and_hold() {
        let rows = [
            row("a1", [5, 9, 0, 0], [0, 0, 0, 1]),
            row("a2", [1, 1, 7, 0], [9, 0, 0, 0]),
            row("b1", [0, 0, 0, 3], [0, 2, 0, 0]),
        ];
        #[track_caller]
        fn check(rows: &[Row], keys: &str, expected: &[&str]) {
            let mut screen = Screen::default();
            assert!(keys.bytes().all(|key| screen.press(key) == Pressed::Go));
            let shown: Vec<_> = screen.pick(rows).iter().map(|row| row.container.as_str()).collect();
            assert_eq!(shown, expected, "{keys:?}: {}", screen.line());
        }
        check(&rows, "", &["a2", "a1", "b1"]);
        check(&rows, "s", &["a1", "a2", "b1"]);
        check(&rows, "ss", &["a2", "a1", "b1"]);
        check(&rows, "sss", &["a1", "a2", "b1"]);
        check(&rows, "ssss", &["b1", "a1", "a2"]);
        check(&rows, "sssss", &["b1", "a1", "a2"]);
        check(&rows, "ssssss", &["a2", "a1", "b1"]);
        check(&rows, "sssssss", &["a1", "a2", "b1"]);
        check(&rows, "ssssssss", &["a2", "a1", "b1"]);
        check(&rows, "/a\r", &["a2", "a1"]);
        check(&rows, "/ax\x7f1\r", &["a1"]);
        check(&rows, "/net\r", &["a2", "a1", "b1"]);
        check(&rows, "/nobody\x1b", &["a2", "a1", "b1"]);
        // Within the filter, keys are letters.
        check(&rows, "/sq ", &[]);
        let mut screen = Screen::default();
        screen.press(b' ');
        assert!(screen.frozen && screen.line().contains("held"));
        assert_eq!([b'q', 3].map(|key| screen.press(key)), [Pressed::Quit, Pressed::Interrupt]);
    }
}
