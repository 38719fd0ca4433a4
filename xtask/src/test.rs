//! `cargo xtask test`.

use crate::{Usage, setup, shell};
use anyhow::{Context, Result};
use std::io::{BufRead, BufReader};
use std::process::{ExitCode, Stdio};
use std::time::Instant;

pub const HELP: &str = "\
Usage: cargo xtask test [name]

Does `cargo xtask setup`, then runs every test and doc test of the workspace, or those whose path contains the name, and
prints a summary with what was skipped and why. Exits 1 if anything fails.
";

pub fn run(args: &[String]) -> Result<ExitCode> {
    if args.len() > 1 || args.iter().any(|a| a.starts_with('-')) {
        return Err(Usage(format!("unexpected `{}`\n\n{HELP}", args.join(" "))).into());
    }
    if let Some(code) = setup::ensure()? {
        return Ok(code);
    }
    let start = Instant::now();
    let mut command = shell::cargo();
    command.args(["test", "--workspace", "--no-fail-fast"]).args(args);
    // Tests say on stderr what they skip; the harness keeps that from the eye unless asked for it.
    command.args(["--", "--show-output"]).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.spawn().context("cannot start cargo")?;
    let mut tally = Tally::default();
    for line in BufReader::new(child.stdout.take().context("cargo has no output")?).split(b'\n') {
        let line = String::from_utf8_lossy(&line?).into_owned();
        if tally.read(&line) {
            eprintln!("{line}");
        }
    }
    let passed = child.wait()?.success();
    eprint!("{}", tally.summary(start.elapsed().as_secs_f64(), passed));
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What the harness has reported so far.
#[derive(Default)]
struct Tally {
    passed: u32,
    failed: u32,
    ignored: u32,
    skipped: Vec<String>,
    failures: Vec<String>,
    /// Inside the output of tests that passed, and of which.
    in_successes: bool,
    test: String,
}

impl Tally {
    /// Takes one line in; whether to show it.
    fn read(&mut self, line: &str) -> bool {
        match line {
            "successes:" => self.in_successes = true,
            "failures:" => self.in_successes = false,
            _ if line.starts_with("test result:") => {
                self.in_successes = false;
                self.count(line);
                return true;
            }
            _ => {}
        }
        if let Some(name) = line.strip_prefix("test ").and_then(|l| l.strip_suffix(" ... FAILED")) {
            self.failures.push(name.to_owned());
        }
        if let Some(name) = line.strip_prefix("---- ").and_then(|l| l.split(' ').next()) {
            self.test = name.to_owned();
        }
        if let Some(why) = line.strip_prefix("skipped: ").filter(|_| self.in_successes) {
            self.skipped.push(format!("{}: {why}", self.test));
        }
        let passed = line.starts_with("test ") && line.ends_with(" ... ok");
        !self.in_successes && !passed && !line.is_empty()
    }

    /// `test result: ok. 11 passed; 0 failed; 0 ignored; ...`
    fn count(&mut self, line: &str) {
        let number = |what: &str| -> u32 {
            let before = line.split(what).next().and_then(|l| l.trim_end().rsplit(' ').next());
            before.and_then(|n| n.parse().ok()).unwrap_or(0)
        };
        self.passed += number(" passed;");
        self.failed += number(" failed;");
        self.ignored += number(" ignored;");
    }

    fn summary(&self, seconds: f64, all_passed: bool) -> String {
        let mut text = String::from("\n");
        let list = |text: &mut String, title: &str, names: &[String]| {
            if !names.is_empty() {
                text.push_str(&format!("{title}:\n"));
                names.iter().for_each(|name| text.push_str(&format!("  {name}\n")));
            }
        };
        list(&mut text, "skipped", &self.skipped);
        list(&mut text, "FAILED", &self.failures);
        let verdict = if all_passed { "ok" } else { "FAILED" };
        // A skipped test has returned early, which the harness takes for a pass.
        let (passed, skipped) = (self.passed.saturating_sub(self.skipped.len() as u32), self.skipped.len());
        text.push_str(&format!(
            "xtask test: {verdict}. {passed} passed, {} failed, {skipped} skipped, {} ignored, {seconds:.0} s\n",
            self.failed, self.ignored
        ));
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "
running 3 tests
test a::one ... ok
test a::two ... ok
test a::three ... FAILED

successes:

---- a::two stdout ----
skipped: no `ptxas` in ...
chatter

successes:
    a::one
    a::two

failures:

---- a::three stdout ----
assertion failed

failures:
    a::three

test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s
";

    #[test]
    fn skipped_and_failed_tests_are_told() {
        let mut tally = Tally::default();
        let shown: Vec<&str> = OUTPUT.lines().filter(|line| tally.read(line)).collect();
        assert!(shown.contains(&"assertion failed") && !shown.contains(&"chatter") && !shown.contains(&"test a::one ... ok"));
        let summary = tally.summary(12.0, false);
        assert!(summary.contains("skipped:\n  a::two: no `ptxas` in ...\nFAILED:\n  a::three\n"), "{summary}");
        assert!(summary.ends_with("xtask test: FAILED. 1 passed, 1 failed, 1 skipped, 0 ignored, 12 s\n"), "{summary}");
    }
}
