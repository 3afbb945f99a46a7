//! What a step's log says: how many tests passed, and what to show of a failure.

use std::fmt;
use std::ops::AddAssign;

/// Results.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(super) struct Counts {
    /// Tests, or steps without tests, that passed.
    pub(super) passed: u64,
    /// Those that failed.
    pub(super) failed: u64,
    /// Tests that say themselves that they need something this machine lacks.
    pub(super) ignored: u64,
}

impl Counts {
    /// What the step that succeeded or not, and printed this, adds to the sum.
    pub(super) fn of(succeeded: bool, has_tests: bool, log: &str) -> Counts {
        let mut counts = Counts::default();
        if has_tests {
            log.lines().filter_map(result_line).for_each(|result| counts += result);
            // A test program that a signal ended has printed no result.
            let crashes = log.lines().filter(|line| {
                line.contains("process didn't exit successfully") && line.contains("(signal:")
            });
            counts.failed += crashes.count() as u64;
        }
        match succeeded {
            false => counts.failed = counts.failed.max(1),
            true if !has_tests => counts.passed += 1,
            true => {}
        }
        counts
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Counts) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.ignored += other.ignored;
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)?;
        if self.ignored > 0 {
            write!(f, ", {} ignored", self.ignored)?;
        }
        Ok(())
    }
}

/// Reads `test result: ok. 5 passed; 0 failed; 1 ignored; …`.
fn result_line(line: &str) -> Option<Counts> {
    let rest = line.strip_prefix("test result: ")?.split_once(". ")?.1;
    let figure = |what: &str| {
        rest.split("; ").find_map(|part| part.strip_suffix(what)?.trim().parse().ok()).unwrap_or_default()
    };
    Some(Counts { passed: figure("passed"), failed: figure("failed"), ignored: figure("ignored") })
}

/// The lines of a failed step's log that tell why: all of a short log; of a long one the failed tests' own output,
/// errors, and the end; no more of them than a reader can take in.
pub(super) fn failure(log: &str) -> String {
    const SHORT: usize = 200;
    const END: usize = 80;
    const MOST: usize = 400;
    let lines: Vec<&str> = log.lines().collect();
    if lines.len() <= SHORT {
        return lines.join("\n");
    }
    let mut in_failures = false;
    let mut kept = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        in_failures = (in_failures || *line == "failures:") && !line.starts_with("test result:");
        let tells = in_failures || line.starts_with("error") || line.ends_with("FAILED");
        if tells || index + END >= lines.len() {
            kept.push(*line);
        }
    }
    let omitted = kept.len().saturating_sub(MOST);
    if omitted > 0 {
        let note = format!("({omitted} lines left out)");
        let first = &kept[..MOST - END];
        let last = &kept[kept.len() - END..];
        return [first, &[note.as_str()], last].concat().join("\n");
    }
    kept.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "test result: ok. 5 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.1s\n\
                       test result: FAILED. 2 passed; 3 failed; 0 ignored; 0 measured; 0 filtered out; finished\n";

    #[test]
    fn results_of_all_test_programs_are_added() {
        assert_eq!(Counts::of(false, true, LOG), Counts { passed: 7, failed: 3, ignored: 1 });
    }

    #[test]
    fn a_failure_without_results_counts_as_one() {
        assert_eq!(
            Counts::of(false, true, "error: could not compile"),
            Counts { failed: 1, ..Counts::default() }
        );
        assert_eq!(Counts::of(false, false, ""), Counts { failed: 1, ..Counts::default() });
    }

    #[test]
    fn a_crashed_test_program_counts_as_one() {
        let log = format!(
            "{LOG}  process didn't exit successfully: `t` (signal: 11, SIGSEGV: invalid memory reference)\n"
        );
        assert_eq!(Counts::of(false, true, &log).failed, 4);
    }

    #[test]
    fn a_step_without_tests_counts_as_one() {
        assert_eq!(Counts::of(true, false, ""), Counts { passed: 1, ..Counts::default() });
    }

    #[test]
    fn a_long_log_is_cut_down_to_what_tells() {
        let log =
            format!("{}failures:\nwhy\ntest result: FAILED.\n{}", "noise\n".repeat(300), "end\n".repeat(300));
        let shown = failure(&log);
        assert!(shown.starts_with("failures:\nwhy\nend"));
        assert_eq!(shown.lines().count(), 82);
    }

    #[test]
    fn a_long_story_is_cut_in_its_middle() {
        let shown = failure(&format!("failures:\n{}", "why\n".repeat(600)));
        assert_eq!(shown.lines().count(), 401);
        assert!(shown.contains("\n(201 lines left out)\n"));
    }
}
