# What reviewers said on a merged pull request, one experience a thread, as lines for `mgctl import`.
#
# Reads pages of `GET /repos/{owner}/{repo}/pulls/{number}/comments`, slurped. Takes $repository and $number.
# Only people who belong to the repository are learned from: whoever may comment could otherwise teach. Programs are left
# out, so that a review by memory does not learn from itself.

# Characters of one comment, of the code that it is about, and answers of one thread, at most.
def comment_max: 4000;
def code_max: 1500;
def answers_max: 8;

def cut($max): gsub("\r"; "") | if length > $max then .[:$max] + "…" else . end;

[.[][]
  | select(.user.type == "User")
  | select(.author_association | IN("OWNER", "MEMBER", "COLLABORATOR"))
  | select((.body // "") | test("\\S"))]
| group_by(.in_reply_to_id // .id)[]
| sort_by(.created_at)
| . as $thread
| $thread[0] as $first
| ($first.diff_hunk // "" | split("\n")[-8:] | join("\n") | cut(code_max)) as $code
| {
    content: ([
      "Review of \($first.path) in \($repository): \($first.body | cut(comment_max))",
      ($thread[1:][:answers_max][] | "\(.user.login): \(.body | cut(comment_max))"),
      (if $code == "" then empty else "The code was:\n" + $code end)
    ] | join("\n")),
    domain: "code_review",
    occurred_at: $first.created_at,
    importance: 0.6,
    agent: "github-review",
    session: "github/\($repository)/pull/\($number)",
    metadata: ({
      source: "github",
      repository: $repository,
      pull_request: ($number | tostring),
      path: $first.path,
      line: (($first.line // $first.original_line // "") | tostring),
      author: $first.user.login,
      url: $first.html_url
    } | with_entries(.value |= (. // "" | tostring | .[:500]) | select(.value != "")))
  }
