//! Diffs as git and others write them, and what is wrong with those that are refused.

use proptest::prelude::*;

use super::*;

/// Each file with its added lines.
fn check(text: &str) -> Vec<String> {
    let diff = Diff::parse(text.as_bytes()).unwrap();
    let of = |file: &File| {
        let added = file.hunks.iter().flat_map(Hunk::added);
        let added: Vec<String> = added.map(|l| format!("{}:{}", l.number, l.text)).collect();
        format!("{} {}", file.path, added.join(" "))
    };
    diff.files.iter().map(of).collect()
}

fn refused(text: &str) -> String {
    Diff::parse(text.as_bytes()).unwrap_err().to_string()
}

#[test]
fn every_form_that_git_writes_is_read() {
    let text = "From 1234 Mon Sep 17\nSubject: x\n---\n a.py | 2 +-\n\n\
        diff --git a/a.py b/a.py\nindex 1..2 100644\n--- a/a.py\n+++ b/a.py\n\
        @@ -1,2 +1,3 @@ def f():\n one\n-two\n+2\n+3\n\
        @@ -9 +10 @@\n-x\n+y\n\\ No newline at end of file\n\
        diff --git a/old.rs b/new name.rs\nsimilarity index 90%\nrename from old.rs\nrename to new name.rs\n\
        --- a/old.rs\n+++ b/new name.rs\t\n@@ -0,0 +1 @@\n+++ b/not a head\n\
        diff --git a/logo.png b/logo.png\nBinary files a/logo.png and b/logo.png differ\n\
        diff --git a/d.bin b/d.bin\nGIT binary patch\nliteral 3\nKcmZ\n\nliteral 0\n\n\
        diff --git a/gone b/gone\ndeleted file mode 100644\n--- a/gone\n+++ /dev/null\n@@ -1 +0,0 @@\n-bye\n\
        diff --git \"a/\\303\\244.c\" \"b/\\303\\244.c\"\nnew file mode 100644\n--- /dev/null\n+++ \"b/\\303\\244.c\"\n\
        @@ -0,0 +1 @@\n+z\n-- \n2.43.0\n";
    let read = [
        "a.py 2:2 3:3 10:y",
        "new name.rs 1:++ b/not a head",
        "logo.png ",
        "d.bin ",
        "gone ",
        "ä.c 1:z",
    ];
    assert_eq!(check(text), read);
    // The same from Windows.
    assert_eq!(check(&text.replace('\n', "\r\n")), read);
}

#[test]
fn a_diff_without_gits_heads_and_with_cut_blanks_is_read() {
    let text = "--- a/x.c\t2026-01-01\n+++ b/x.c\t2026-01-02\n@@ -1,2 +1,3 @@\n\n+new\n end\n";
    assert_eq!(check(text), ["x.c 2:new"]);
}

#[test]
fn what_is_wrong_is_named_with_its_line() {
    let head = "--- a/x\n+++ b/x\n";
    for (text, message) in [
        (String::new(), "line 1 of the diff: no diff in it"),
        ("hello\n".into(), "line 1 of the diff: no diff in it"),
        (
            format!("{head}@@ -1,x +1 @@\n"),
            "line 3 of the diff: expected `@@ -line",
        ),
        (
            format!("{head}@@ -1,2 +1,2 @@\n a\n"),
            "line 4 of the diff: it ends within a hunk, expected 1 more",
        ),
        (
            format!("{head}@@ -1 +1 @@\n-a\n+b\n+c\n"),
            "line 6 of the diff: the hunk has more lines",
        ),
        (
            format!("{head}@@ -1,2 +1 @@\n+b\n+c\n"),
            "line 5 of the diff: the hunk has more such lines",
        ),
        (
            format!("{head}@@ -1,2 +1,2 @@\n a\n!b\n"),
            "line 5 of the diff: expected a line that begins",
        ),
        (
            "--- a/x\n@@ -1 +1 @@\n".into(),
            "line 2 of the diff: expected `+++`",
        ),
        (
            "diff --git a/x b/x\n@@ -1 +1 @@\n".into(),
            "line 2 of the diff: a hunk without",
        ),
        (
            "--- /dev/null\n+++ /dev/null\n".into(),
            "line 2 of the diff: both paths",
        ),
        (
            head.into(),
            "line 2 of the diff: it ends before the first hunk",
        ),
        (
            "diff --cc x\n".into(),
            "line 1 of the diff: it is a combined diff",
        ),
        (
            format!("{head}@@ -1 +99999999999 @@\n"),
            "line 3 of the diff: expected `@@",
        ),
        (
            "--- \"a/\\9\"\n".into(),
            "line 1 of the diff: a quoted path",
        ),
        (
            "diff --git a/x b/x\n--- \"a/\\9\"\n".into(),
            "line 2 of the diff: a quoted path",
        ),
    ] {
        let refused = refused(&text);
        assert!(refused.starts_with(message), "{text:?}: {refused}");
    }
    let large = vec![b'x'; DIFF_BYTES_MAX + 1];
    assert!(
        Diff::parse(&large)
            .unwrap_err()
            .what
            .contains("leave out generated files")
    );
    let many = "diff --git a/x b/x\n".repeat(FILES_MAX + 1);
    assert!(refused(&many).contains("more than 2000 files"));
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = Diff::parse(&bytes);
    }

    #[test]
    fn no_order_of_lines_makes_it_panic(lines in prop::collection::vec(prop::sample::select(vec![
        "diff --git a/x b/y", "diff --git \"a/x\" \"b/y\"", "diff --git ", "--- a/x", "--- /dev/null", "+++ b/x",
        "+++ /dev/null", "@@ -1 +1 @@", "@@ -0,0 +1,2 @@ x", "@@ -1,2 +0,0 @@", "+a", "-a", " a", "", "\\ No newline",
        "rename to \"x", "rename to z", "GIT binary patch", "Binary files a and b differ", "-- ", "@@@ -1 -1 +1 @@@",
    ]), 0..30)) {
        if let Ok(diff) = Diff::parse(lines.join("\n").as_bytes()) {
            prop_assert!(!diff.files.is_empty());
        }
    }

    #[test]
    fn added_lines_come_back_with_their_numbers(start in 1..1000_u32, lines in prop::collection::vec("[ -~]{0,60}", 1..20)) {
        let body: String = lines.iter().map(|line| format!("+{line}\n")).collect();
        let count = lines.len();
        let text = format!("--- a/f\n+++ b/f\n@@ -{start},0 +{start},{count} @@\n{body}");
        let diff = Diff::parse(text.as_bytes()).unwrap();
        let read: Vec<(u32, &str)> = diff.files[0].hunks[0].added().map(|l| (l.number, l.text.as_str())).collect();
        let expected: Vec<(u32, &str)> = (start..).zip(lines.iter().map(String::as_str)).collect();
        prop_assert_eq!(read, expected);
    }
}
