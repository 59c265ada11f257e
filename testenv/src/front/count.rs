//! Counting what test binaries said, so that none passes by not running.

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Count {
    pub(super) passed: usize,
    pub(super) failed: usize,
    pub(super) ignored: usize,
}

impl Count {
    /// The closing line, and whether all is well. A skipped test ended as a passed one for the harness.
    pub(super) fn verdict(&self, skipped: usize) -> (String, bool) {
        let passed = self.passed.saturating_sub(skipped);
        let skipped = skipped + self.ignored;
        let line = format!("{passed} passed, {} failed, {skipped} skipped", self.failed);
        (line, self.failed == 0 && passed > 0)
    }

    /// Counts as failed what ended as passed: skipped here, it failed elsewhere.
    pub(super) fn turn_over(&mut self, tests: usize) {
        self.passed = self.passed.saturating_sub(tests);
        self.failed += tests;
    }

    /// Takes in libtest's closing line, such as `test result: ok. 3 passed; 0 failed; 1 ignored; ...`.
    pub(super) fn add_result(&mut self, line: &str) {
        let Some(result) = line.strip_prefix("test result: ") else { return };
        for part in result.split(['.', ';']) {
            match part.trim().split_once(' ') {
                Some((number, "passed")) => self.passed += number.parse().unwrap_or(0),
                Some((number, "failed")) => self.failed += number.parse().unwrap_or(0),
                Some((number, "ignored")) => self.ignored += number.parse().unwrap_or(0),
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_lines_add_up() {
        let mut count = Count::default();
        let output = [
            "running 4 tests",
            "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 2 filtered out; finished in 0.00s",
            "test result: FAILED. 10 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.20s",
            "said: test result: ok. 7 passed; 7 failed",
        ];
        for line in output {
            count.add_result(line);
        }
        assert_eq!(count, Count { passed: 13, failed: 2, ignored: 1 });
    }

    #[test]
    fn only_a_test_that_ran_makes_a_success() {
        let check = |passed, failed, ignored, skipped, line: &str, good| {
            let said = Count { passed, failed, ignored }.verdict(skipped);
            assert_eq!(said, (line.to_string(), good));
        };
        check(5, 0, 0, 0, "5 passed, 0 failed, 0 skipped", true);
        check(5, 0, 1, 2, "3 passed, 0 failed, 3 skipped", true);
        check(5, 1, 0, 0, "5 passed, 1 failed, 0 skipped", false);
        check(2, 0, 0, 2, "0 passed, 0 failed, 2 skipped", false);
        check(0, 0, 0, 0, "0 passed, 0 failed, 0 skipped", false);
        let mut count = Count { passed: 5, failed: 0, ignored: 0 };
        count.turn_over(1);
        assert_eq!(count.verdict(1), ("3 passed, 1 failed, 1 skipped".to_string(), false));
    }
}
