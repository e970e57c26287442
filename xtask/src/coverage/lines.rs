//! From the export of llvm-cov (lcov's format) to lines of code that ran, those of tests left out.

use std::collections::BTreeMap;

use anyhow::Context as _;

/// Lines that hold code, and how many of them ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) struct Lines {
    pub(super) all: u64,
    pub(super) run: u64,
}

impl Lines {
    pub(super) fn add(&mut self, other: Self) {
        self.all += other.all;
        self.run += other.run;
    }

    pub(super) fn not_run(self) -> u64 {
        self.all - self.run
    }

    /// 0 without lines: nothing was measured then.
    pub(super) fn percent(self) -> f64 {
        if self.all == 0 {
            return 0.0;
        }
        100.0 * self.run as f64 / self.all as f64
    }
}

/// How often each line of a file ran.
pub(super) type Counts = BTreeMap<u64, u64>;

/// Reads `SF:` (a file) and `DA:` (a line and its count) records; the others say nothing of lines.
pub(super) fn parse(lcov: &str) -> anyhow::Result<BTreeMap<String, Counts>> {
    let mut files: BTreeMap<String, Counts> = BTreeMap::new();
    let mut file = None;
    for record in lcov.lines() {
        if let Some(path) = record.strip_prefix("SF:") {
            file = Some(path);
        } else if let Some(data) = record.strip_prefix("DA:") {
            let path = file.context("a line before any file")?;
            let mut numbers = data.split(',');
            let mut number = || -> anyhow::Result<u64> {
                let text = numbers.next().context("a line without a count")?;
                text.parse()
                    .with_context(|| format!("{text:?} is not a number"))
            };
            let (line, count) = (number()?, number()?);
            *files
                .entry(path.to_owned())
                .or_default()
                .entry(line)
                .or_default() += count;
        }
    }
    Ok(files)
}

/// The lines of `text` before its tests.
pub(super) fn count(counts: &Counts, text: &str) -> Lines {
    let end = tests_begin(text).unwrap_or(u64::MAX);
    let mut lines = Lines::default();
    for (_, count) in counts.range(..end) {
        lines.all += 1;
        lines.run += u64::from(*count > 0);
    }
    lines
}

/// Whether a whole file is of tests.
pub(super) fn is_test_file(path: &str) -> bool {
    path.ends_with("/tests.rs") || path.contains("/tests/")
}

/// The line of the `#[cfg(test)]` that stands over an inline module.
fn tests_begin(text: &str) -> Option<u64> {
    let lines: Vec<&str> = text.lines().collect();
    let at = lines.windows(2).position(|pair| {
        pair[0] == "#[cfg(test)]" && pair[1].starts_with("mod ") && pair[1].ends_with('{')
    })?;
    Some(at as u64 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_tests_do_not_count() {
        let text = "fn a() {\n    b();\n}\n\n#[cfg(test)]\nmod tests {\n    fn c() {}\n}\n";
        let counts = Counts::from([(1, 3), (2, 0), (3, 3), (7, 9)]);
        assert_eq!(count(&counts, text), Lines { all: 3, run: 2 });
        let declared = "fn a() {}\n#[cfg(test)]\nmod tests;\nfn b() {}\n";
        assert_eq!(
            count(&Counts::from([(1, 1), (4, 1)]), declared),
            Lines { all: 2, run: 2 }
        );
        assert!(is_test_file("crates/raft/src/log_store/tests.rs"));
        assert!(!is_test_file("crates/raft/src/log_store.rs"));
    }

    #[test]
    fn records_are_read_and_those_of_one_file_added() {
        let lcov = "SF:a.rs\nFN:1,f\nDA:1,2\nDA:2,0\nLF:2\nend_of_record\nSF:b.rs\nDA:9,1,sum\n\
                    end_of_record\nSF:a.rs\nDA:2,4\nend_of_record\n";
        let files = parse(lcov).unwrap();
        assert_eq!(files["a.rs"], Counts::from([(1, 2), (2, 4)]));
        assert_eq!(files["b.rs"], Counts::from([(9, 1)]));
        assert!(parse("DA:1,1").is_err());
        assert!(parse("SF:a\nDA:1,x").is_err());
    }

    #[test]
    fn nothing_measured_is_nothing_run() {
        assert_eq!(Lines::default().percent(), 0.0);
    }
}
