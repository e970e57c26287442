# What reviewers said on a merged merge request, one experience a thread, as lines for `mgctl import`.
#
# Reads pages of `GET /projects/:id/merge_requests/:iid/discussions`, slurped. Takes $repository, $number and $url.
# What GitLab writes itself and what its bots write is left out, so that a review by memory does not learn
# from itself. A thread that was resolved before the merge counts for more than one that was left open.

# Characters of one comment, and answers of one thread, at most.
def comment_max: 4000;
def answers_max: 8;

def cut($max): gsub("\r"; "") | if length > $max then .[:$max] + "…" else . end;

.[][]
| [.notes[]
    | select(.system | not)
    | select(.author.username | test("^(project|group)_[0-9]+_bot") | not)
    | select((.body // "") | test("\\S"))] as $thread
| $thread[0]
| select(.type == "DiffNote")
| . as $first
| (.position.new_path // .position.old_path) as $path
| {
    content: ([
      "Review of \($path) in \($repository): \($first.body | cut(comment_max))",
      ($thread[1:][:answers_max][] | "\(.author.username): \(.body | cut(comment_max))")
    ] | join("\n")),
    domain: "code_review",
    occurred_at: $first.created_at,
    importance: (if $first.resolved then 0.7 else 0.5 end),
    agent: "gitlab-review",
    # A name holds 256 bytes.
    session: ("gitlab/\($repository)/merge_requests/\($number)" | .[-250:]),
    metadata: ({
      source: "gitlab",
      repository: $repository,
      merge_request: ($number | tostring),
      path: $path,
      line: (($first.position.new_line // $first.position.old_line // "") | tostring),
      author: $first.author.username,
      url: "\($url)#note_\($first.id)"
    } | with_entries(.value |= (. // "" | tostring | .[:500]) | select(.value != "")))
  }
