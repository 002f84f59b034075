#!/bin/sh
# ci-check.sh [CONNECTIONS]: the whole test on this machine's engine, from nothing to nothing.
#
# Deploys 12 replicas, holds CONNECTIONS (10,000) sessions through the overlay network while one
# replica is killed and the service is scaled 12 -> 16 -> 8, checks what the report says of it,
# deploys twice more, each right after a removal, removes everything and proves that nothing is left.
# Counts and facts are checked, no times: a
# machine that others use too may be slow. Needs a Docker engine that is in no swarm, python3,
# `reporter` with `erlmcp-server` and `loadgen` beside it. RUN_OPTIONS go to `reporter run`.
# Exit status 0 only if all of it held; 2 if the engine was not free to begin with.
set -eu
connections=${1:-10000}
reporter=${REPORTER:-reporter}
out=$(mktemp -d)
owner=label=io.erlmcp.owner=reporter
stack=label=com.docker.stack.namespace=erlmcp-swarm
swarm() { "$reporter" swarm "$@"; }
state() { docker info --format '{{.Swarm.LocalNodeState}}'; }
# All that this tool or its stack ever made on this engine, but for images.
left() {
	for label in $owner $stack; do
		docker ps -aq --filter $label
		docker volume ls -q --filter $label
		docker network ls -q --filter $label
		[ "$(state)" = active ] || continue
		for kind in service config secret; do docker $kind ls -q --filter $label; done
	done
}
images() { docker image ls -q --no-trunc --filter $owner | sort -u; }
finish() {
	swarm rm --volumes --quiet >/dev/null 2>&1 || true
	swarm leave --quiet >/dev/null 2>&1 || true
	rm -rf "$out"
}

docker version >/dev/null || { echo "ci-check: there is no Docker engine to try it on" >&2; exit 2; }
[ "$(state)" = inactive ] || { echo "ci-check: this engine is in a swarm already" >&2; exit 2; }
before=$(left)
[ -z "$before" ] || { echo "ci-check: this engine holds things of an earlier run: $before" >&2; exit 2; }
images >"$out/images"
trap finish EXIT
trap 'exit 130' INT TERM

swarm init
# The thresholds of time are not what is tried here (exit status 1), nor how quiet this machine is (3).
status=0
"$reporter" run --backend swarm --force --connections "$connections" --out "$out" ${RUN_OPTIONS:-} || status=$?
case $status in 0 | 1 | 3) ;; *) exit "$status" ;; esac

python3 - "$out" "$connections" <<'EOF'
import glob, json, os, sys
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
check(len(failovers) == 1, f"{len(failovers)} failover in the report")
for failover in failovers:
    check(failover["sessions_lost"] == failover["sessions_reestablished"],
          f"sessions lost and back: {failover['sessions_lost']}, "
          f"{failover['sessions_reestablished']}")
held = max(stage["connections"]["session_alive_peak"] for stage in results["stages"]
           if stage.get("connections"))
check(held == planned, f"{held} of {planned} sessions alive at once, by the report")
counted = [t for t in results["thresholds"] if t["name"] in ("sessions", "success")]
check(len(counted) == 2, "the report judges sessions and success")
for threshold in counted:
    check(threshold["pass"] is True,
          f"{threshold['name']} {threshold['value']} {threshold['limit']}")
for name in ("FINAL_REPORT.md", "FINAL_REPORT.html", "metrics/replicas.csv", "logs/service.log"):
    check(os.path.getsize(f"{folder}/{name}") > 0, name)
sys.exit(1 if problems else 0)
EOF

# The run has just taken its stack away: another one can be deployed at once, and again after that.
for _ in 1 2; do
	swarm deploy --replicas 2
	swarm rm
done
swarm rm --volumes
after=$(left)
swarm leave
after="$after$(left)"
# The image that this run built; one that was there before stays.
images | comm -13 "$out/images" - | xargs -r docker image rm --force >/dev/null
[ -z "$after" ] || { echo "ci-check: left behind: $after" >&2; exit 1; }
[ "$(images)" = "$(cat "$out/images")" ] || { echo "ci-check: an image is left" >&2; exit 1; }
[ "$(state)" = inactive ] || { echo "ci-check: the engine is still in a swarm" >&2; exit 1; }
echo "ci-check: all held, nothing is left"
