#!/usr/bin/env bash
# Shows the main job on real input: three nodes learn what DevOps agents have met and answer questions
# asked in other words, each the same; the leader is killed in the middle of writing, the others go
# on, it comes back, and everything that was acknowledged is on every node. Nothing is left behind
# but the built programs.
set -euo pipefail

cd "$(dirname "$0")/.."
bin=${CARGO_TARGET_DIR:-target}/release
corpus=examples/corpus
work=$(mktemp -d)
# Process, gRPC, HTTP and peer port of each node.
declare -a process=() grpc=() http=() peer=()

stop() {
    touch "$work/stop"
    for node in "${!process[@]}"; do
        kill -TERM "${process[$node]}" 2>/dev/null || true
    done
    for node in "${!process[@]}"; do
        wait "${process[$node]}" 2>/dev/null || true
    done
    rm -rf "$work"
}
trap stop EXIT

bold() { if [[ -t 1 && -z ${NO_COLOR:-} ]]; then printf '\n\033[1m%s\033[0m\n' "$*"; else printf '\n%s\n' "$*"; fi; }
say() { printf '  %s\n' "$*"; }
mgctl() { "$bin/mgctl" "$@"; }
# mgctl at one node.
at() {
    local node=$1
    shift
    "$bin/mgctl" --endpoint "http://127.0.0.1:${grpc[$node]}" "$@"
}

read -r -a ports < <(python3 - <<'PORTS'
import socket
sockets = [socket.socket() for _ in range(9)]
for s in sockets:
    s.bind(("127.0.0.1", 0))
print(*(s.getsockname()[1] for s in sockets))
PORTS
)
for node in 1 2 3; do
    grpc[node]=${ports[node - 1]} http[node]=${ports[node + 2]} peer[node]=${ports[node + 5]}
done
peers=127.0.0.1:${peer[1]},127.0.0.1:${peer[2]},127.0.0.1:${peer[3]}
export MEMORYGATE_ENDPOINT=http://127.0.0.1:${grpc[1]},http://127.0.0.1:${grpc[2]},http://127.0.0.1:${grpc[3]}

start() {
    local node=$1
    "$bin/memorygate" serve --data-dir "$work/node-$node" --model-dir .model/all-MiniLM-L6-v2 \
        --grpc-address "127.0.0.1:${grpc[$node]}" --http-address "127.0.0.1:${http[$node]}" \
        --peer-address "127.0.0.1:${peer[$node]}" --peers "$peers" >>"$work/node-$node.log" 2>&1 &
    process[node]=$!
}

# Waits until a node answers with all that it has.
ready() {
    local node=$1
    for _ in $(seq 600); do
        if python3 -c "import urllib.request; urllib.request.urlopen('http://127.0.0.1:${http[$node]}/readyz', timeout=1)" 2>/dev/null; then
            return
        fi
        kill -0 "${process[$node]}" 2>/dev/null || break
        sleep 0.1
    done
    say "node $node did not become ready; its log says:"
    cat "$work/node-$node.log"
    exit 1
}

bold "1. Three nodes start on empty data directories and form a cluster"
for node in 1 2 3; do
    start "$node"
    say "memorygate serve --data-dir node-$node --peer-address 127.0.0.1:${peer[$node]} --peers …   (process ${process[$node]})"
done
for node in 1 2 3; do
    ready "$node"
done
say "mgctl cluster status"
mgctl cluster status

bold "2. Agents' experiences are learned"
for domain in infrastructure code_review deployment incident_response; do
    say "mgctl import $corpus/$domain.jsonl"
    mgctl import "$corpus/$domain.jsonl"
done
mgctl stats

bold "3. Questions in other words bring the right ones back, from whichever node is asked"
node=0
while IFS= read -r question; do
    node=$((node % 3 + 1))
    printf '\n'
    say "node $node: mgctl recall --limit 2 \"$question\""
    at "$node" recall --limit 2 "$question"
done <<'QUESTIONS'
Rare 502 from the load balancer, nothing in our Node.js logs
What did we do when the kernel printed "nf_conntrack: table full, dropping packet"?
The service stayed down long after its database was healthy again
Why did replay on the standby stop although the stream from the primary arrived?
Why did vacuum on the huge payments table never get to its end?
Customers charged two times after a timeout towards the card processor
QUESTIONS

bold "4. The leader is killed in the middle of writing"
say "four writers learn one experience after the other and note each acknowledged key and when"
# A write that finds no leader is repeated by the library under its request id, until one is there.
writer() {
    local step=0 reply
    while [[ ! -e $work/stop ]]; do
        if reply=$(mgctl --output json --timeout 20s learn --domain incident_response \
            "Drill of writer $1, step $step: the pager rang and nobody was hurt." 2>>"$work/refused.$1"); then
            printf '%s %s\n' "$EPOCHREALTIME" "$reply" >>"$work/acknowledged.$1"
        fi
        step=$((step + 1))
    done
}
writers=()
for w in 1 2 3 4; do
    writer "$w" &
    writers+=($!)
done
sleep 3
leader=$(mgctl --output json cluster members | python3 -c '
import json, sys
leader = next(m for m in json.load(sys.stdin)["members"] if m["is_leader"])
print(leader["client_address"].rsplit(":")[-1])')
for node in 1 2 3; do
    [[ ${grpc[$node]} == "$leader" ]] && killed=$node
done
say "kill -9 ${process[$killed]}   (node $killed leads)"
killed_at=$EPOCHREALTIME
kill -9 "${process[$killed]}"
wait "${process[$killed]}" 2>/dev/null || true
sleep 6
touch "$work/stop"
wait "${writers[@]}"
rm "$work/stop"
python3 - "$work" "$killed_at" <<'GAP'
import glob, sys
work, killed = sys.argv[1], float(sys.argv[2])
times = sorted(float(line.split(" ", 1)[0]) for path in glob.glob(f"{work}/acknowledged.*") for line in open(path))
before = [t for t in times if t <= killed]
after = [t for t in times if t > killed]
if not before or not after:
    sys.exit("  no write was acknowledged before the kill, or none after it: nothing was shown")
gap, at = max((b - a, a) for a, b in zip(times, times[1:]))
print(f"  acknowledged before the kill {len(before)}, after it {len(after)}")
print(f"  longest time without an acknowledged write: {gap:.2f} s, from {at - killed:+.2f} s after the kill on")
refused = sum(len(open(path).read().splitlines()) > 0 for path in glob.glob(f"{work}/refused.*"))
print(f"  writers that were told of a failure: {refused} of 4")
GAP
say "mgctl cluster status"
mgctl cluster status || true

bold "5. The killed node starts again, catches up, and every node has everything"
start "$killed"
ready "$killed"
for node in 1 2 3; do
    # Answered when this node has all that was acknowledged before.
    at "$node" stats --linearizable >/dev/null
    at "$node" --everything export "$work/export-$node.jsonl"
done
python3 - "$work" <<'CHECK'
import glob, json, sys
work = sys.argv[1]
lines = [line.split(" ", 1)[1] for path in glob.glob(f"{work}/acknowledged.*") for line in open(path)]
acknowledged = {json.loads(line)["key"] for line in lines}
exports = {}
for node in (1, 2, 3):
    exports[node] = {json.loads(line)["key"] for line in open(f"{work}/export-{node}.jsonl")}
    lost = acknowledged - exports[node]
    print(f"  node {node}: acknowledged {len(acknowledged)}, found {len(acknowledged & exports[node])}, lost {len(lost)}")
    if lost:
        sys.exit(f"  lost: {sorted(lost)[:5]}")
if not acknowledged:
    sys.exit("  nothing was acknowledged, so nothing was shown")
if len({frozenset(keys) for keys in exports.values()}) != 1:
    sys.exit("  the nodes hold different memories")
CHECK
say "mgctl cluster verify"
mgctl cluster verify
at "$killed" recall --limit 1 "The service stayed down long after its database was healthy again"

bold "Everything that was acknowledged is on every node."
