#!/bin/sh
# ci-check.sh [CONNECTIONS]: the whole test on this machine's engine, from nothing to nothing.
#
# Deploys 12 replicas, holds CONNECTIONS (10,000) sessions through the overlay network while one
# replica is killed and the service is scaled 12 -> 16 -> 8, checks what the report says of it,
# removes everything and proves that nothing is left. Needs a Docker engine, `reporter`, and static
# `erlmcp-server` and `loadgen` (see README.md). Exit status 0 only if all of it held.
set -eu
connections=${1:-10000}
reporter=${REPORTER:-reporter}
out=$(mktemp -d)
swarm() { "$reporter" swarm "$@"; }
left() {
	for kind in "ps -aq" "volume ls -q"; do
		docker $kind --filter label=io.erlmcp.owner=reporter
	done
	docker network ls -q --filter name=erlmcp-swarm
}
finish() {
	swarm rm --volumes --quiet >/dev/null 2>&1 || true
	swarm leave --quiet >/dev/null 2>&1 || true
	rm -rf "$out"
}
trap finish EXIT

before=$(left)
[ -z "$before" ] || { echo "ci-check: this engine holds things of an earlier run: $before" >&2; exit 2; }
swarm init
# A shared machine may miss the thresholds of time; what it held and lost is judged below.
status=0
"$reporter" run --backend swarm --connections "$connections" --out "$out" ${RUN_OPTIONS:-} || status=$?
case $status in 0 | 1 | 3) ;; *) exit "$status" ;; esac

python3 - "$out" "$connections" <<'EOF'
import glob, json, sys
out, planned = sys.argv[1], int(sys.argv[2])
(folder,) = glob.glob(out + "/full-*")
run = json.load(open(folder + "/run.json"))
results = json.load(open(folder + "/results.json"))
problems = []
def check(held, text):
    print(("ok    " if held else "FAIL  ") + text)
    if not held:
        problems.append(text)

check(run["broken"] is None, f"the run went to its end ({run['broken']})")
check(run["backend"] == "swarm", "on Docker Swarm")
check(run["cluster"]["path"]["kind"] == "tasks", "straight to the tasks' addresses")
check(all(s["exit_code"] == 0 for s in run["stages"]), "every stage's generator ended well")
events = run["events"]
scales = [(e["from"], e["to"]) for e in events if e["kind"] == "scale_converged"]
check(scales == [(0, 12), (12, 16), (16, 8)], f"replicas: {scales}")
kills = [e for e in events if e["kind"] == "kill"]
check(len(kills) == 1, f"{len(kills)} replica killed")
for kill in kills:
    def first(kind):
        return next((e["at_ns"] - kill["at_ns"] for e in events if e["kind"] == kind
                     and e["replica"] == kill["replica"] and e["at_ns"] >= kill["at_ns"]), None)
    exit_ns, start_ns, healthy_ns = map(first, ("replica_exit", "replica_start", "replica_healthy"))
    times = [None if t is None else round(t / 1e9, 2) for t in (exit_ns, start_ns, healthy_ns)]
    check(None not in times and sorted(times) == times,
          f"after the kill: exit, start, health at {times} s")
moments = [e["text"] for e in events if e["kind"] == "sessions_converged"]
check(len(moments) >= 5, f"sessions complete {len(moments)} times")
failovers = results.get("failovers") or []
for failover in failovers:
    check(failover["sessions_lost"] == failover["sessions_reestablished"],
          f"sessions lost and back: {failover['sessions_lost']}, "
          f"{failover['sessions_reestablished']}")
held = max(stage["connections"]["session_alive_peak"] for stage in results["stages"]
           if stage.get("connections"))
check(held == planned, f"{held} of {planned} sessions alive at once, by the report")
sys.exit(1 if problems else 0)
EOF

swarm rm --volumes
swarm leave
after=$(left)
[ -z "$after" ] || { echo "ci-check: left behind: $after" >&2; exit 1; }
[ "$(docker info --format '{{.Swarm.LocalNodeState}}')" = inactive ]
echo "ci-check: all held, nothing is left"
