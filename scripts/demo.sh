#!/usr/bin/env bash
# Shows the main job on real input: one node learns what DevOps agents have met, answers questions
# asked in other words, is killed in the middle of writing, and after the restart everything that
# was acknowledged is there. Nothing is left behind but the built programs.
set -euo pipefail

cd "$(dirname "$0")/.."
bin=${CARGO_TARGET_DIR:-target}/release
corpus=examples/corpus
work=$(mktemp -d)
server=

stop() {
    if [[ -n $server ]]; then
        kill -TERM "$server" 2>/dev/null || true
        wait "$server" 2>/dev/null || true
    fi
    rm -rf "$work"
}
trap stop EXIT

bold() { if [[ -t 1 && -z ${NO_COLOR:-} ]]; then printf '\n\033[1m%s\033[0m\n' "$*"; else printf '\n%s\n' "$*"; fi; }
say() { printf '  %s\n' "$*"; }
free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
mgctl() { "$bin/mgctl" "$@"; }

grpc=$(free_port)
http=$(free_port)
export MEMORYGATE_ENDPOINT=http://127.0.0.1:$grpc

start() {
    "$bin/memorygate" serve --data-dir "$work/data" --model-dir .model/all-MiniLM-L6-v2 \
        --grpc-address "127.0.0.1:$grpc" --http-address "127.0.0.1:$http" >>"$work/server.log" 2>&1 &
    server=$!
    for _ in $(seq 300); do
        if python3 -c "import urllib.request; urllib.request.urlopen('http://127.0.0.1:$http/readyz', timeout=1)" 2>/dev/null; then
            return
        fi
        if ! kill -0 "$server" 2>/dev/null; then
            server=
            break
        fi
        sleep 0.1
    done
    say "the server did not become ready; its log says:"
    cat "$work/server.log"
    exit 1
}

bold "1. A node starts on an empty data directory, with the real all-MiniLM-L6-v2"
start
say "memorygate serve --data-dir $work/data   (process $server)"

bold "2. Agents' experiences are learned"
for domain in infrastructure code_review deployment incident_response; do
    say "mgctl import $corpus/$domain.jsonl"
    mgctl import "$corpus/$domain.jsonl"
done
mgctl stats

bold "3. Questions in other words bring the right ones back, each score taken apart"
while IFS= read -r question; do
    printf '\n'
    say "mgctl recall --limit 2 \"$question\""
    mgctl recall --limit 2 "$question"
done <<'QUESTIONS'
Rare 502 from the load balancer, nothing in our Node.js logs
What did we do when the kernel printed "nf_conntrack: table full, dropping packet"?
The service stayed down long after its database was healthy again
Why did replay on the standby stop although the stream from the primary arrived?
Why did vacuum on the huge payments table never get to its end?
Customers charged two times after a timeout towards the card processor
QUESTIONS

bold "4. SIGKILL in the middle of writing"
say "four writers learn one experience after the other and note each acknowledged key"
# Ends at the first write that is not acknowledged; each reply is a line of JSON that names the key.
writer() {
    local n=0
    while mgctl --output json --timeout 2s learn --domain incident_response \
        "Drill of writer $1, step $n: the pager rang and nobody was hurt." \
        >>"$work/acknowledged.$1" 2>/dev/null; do
        n=$((n + 1))
    done
}
writers=()
for w in 1 2 3 4; do
    writer "$w" &
    writers+=($!)
done
sleep 4
say "kill -9 $server"
kill -9 "$server"
wait "$server" 2>/dev/null || true
server=
wait "${writers[@]}"
cat "$work"/acknowledged.* >"$work/acknowledged"
say "$(wc -l <"$work/acknowledged") experiences were acknowledged before the kill"

bold "5. The node starts again on the same directory"
start
mgctl --everything export "$work/export.jsonl"
python3 - "$work" <<'CHECK'
import json, sys
work = sys.argv[1]
acknowledged = {json.loads(line)["key"] for line in open(f"{work}/acknowledged")}
stored = {json.loads(line)["key"] for line in open(f"{work}/export.jsonl")}
lost = acknowledged - stored
print(f"  acknowledged {len(acknowledged)}, found again {len(acknowledged & stored)}, lost {len(lost)}")
if not acknowledged:
    sys.exit("  nothing was acknowledged before the kill, so nothing was shown")
if lost:
    sys.exit(f"  lost: {sorted(lost)[:5]}")
CHECK
mgctl recall --limit 1 "The service stayed down long after its database was healthy again"

bold "Everything that was acknowledged is there."
