//! Counting what test binaries said, so that none passes by not running.

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Count {
    pub(super) passed: usize,
    pub(super) failed: usize,
    pub(super) ignored: usize,
    /// The names of those that failed.
    pub(super) failures: Vec<String>,
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

    /// Takes what passed when it ran `again` for passed, and says what that was. A name that stands in two binaries must pass
    /// in both.
    pub(super) fn settle(&mut self, again: &Self) -> Vec<String> {
        let all_ran = again.passed + again.failed >= self.failures.len();
        let (settled, failures): (Vec<_>, Vec<_>) = std::mem::take(&mut self.failures)
            .into_iter()
            .partition(|test| all_ran && !again.failures.contains(test));
        self.failures = failures;
        self.failed = self.failed.saturating_sub(settled.len());
        self.passed += settled.len();
        settled
    }

    /// Takes in a line of libtest: `test NAME ... FAILED`, or the closing one, such as
    /// `test result: ok. 3 passed; 0 failed; 1 ignored; ...`.
    pub(super) fn add(&mut self, line: &str) {
        if let Some(name) = line.strip_prefix("test ").and_then(|rest| rest.strip_suffix(" ... FAILED")) {
            self.failures.push(name.to_owned());
        }
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
            count.add(line);
        }
        assert_eq!(count, Count { passed: 13, failed: 2, ignored: 1, failures: Vec::new() });
    }

    #[test]
    fn only_a_test_that_ran_makes_a_success() {
        let check = |passed, failed, ignored, skipped, line: &str, good| {
            let said = Count { passed, failed, ignored, ..Count::default() }.verdict(skipped);
            assert_eq!(said, (line.to_string(), good));
        };
        check(5, 0, 0, 0, "5 passed, 0 failed, 0 skipped", true);
        check(5, 0, 1, 2, "3 passed, 0 failed, 3 skipped", true);
        check(5, 1, 0, 0, "5 passed, 1 failed, 0 skipped", false);
        check(2, 0, 0, 2, "0 passed, 0 failed, 2 skipped", false);
        check(0, 0, 0, 0, "0 passed, 0 failed, 0 skipped", false);
        let mut count = Count { passed: 5, ..Count::default() };
        count.turn_over(1);
        assert_eq!(count.verdict(1), ("3 passed, 1 failed, 1 skipped".to_string(), false));
    }

    #[test]
    fn what_passes_by_itself_is_settled() {
        let run = |lines: &[&str]| {
            let mut count = Count::default();
            lines.iter().for_each(|line| count.add(line));
            count
        };
        let first = || {
            run(&[
                "test wire::a ... FAILED",
                "test wire::b ... FAILED",
                "test wire::c ... ok",
                "test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out",
            ])
        };
        let check = |again: &[&str], settled: &[&str], line: &str, good| {
            let mut count = first();
            assert_eq!(count.settle(&run(again)), settled);
            assert_eq!(count.verdict(0), (line.to_string(), good));
        };
        let none = "test result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; 9 filtered out";
        let both = "test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 1 filtered out";
        check(&[none, both], &["wire::a", "wire::b"], "3 passed, 0 failed, 0 skipped", true);
        let one = [
            "test wire::b ... FAILED",
            "test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 1 filtered out",
        ];
        check(&one, &["wire::a"], "2 passed, 1 failed, 0 skipped", false);
        // A binary that crashed ran nothing.
        check(&[none], &[], "1 passed, 2 failed, 0 skipped", false);
    }
}
