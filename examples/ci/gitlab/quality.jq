# Findings of `mgctl agent review --format json` as GitLab's report of code quality.

def severity: {note: "info", warning: "minor", error: "major"}[.] // "info";

[.findings[]
  | {
      description: "\(.message) (past review \(.past[0].key))",
      check_name: .rule,
      fingerprint,
      severity: (.severity | severity),
      location: {path, lines: {begin: .line}}
    }]
