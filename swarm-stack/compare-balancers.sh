#!/bin/sh
# compare-balancers.sh [CONNECTIONS]: the same run through HAProxy, through Traefik, and without a
# balancer; prints one table of them as Markdown.
#
# Each run kills a replica, replaces every replica and scales 12 -> 16 -> 8 under CONNECTIONS (4,000)
# sessions; another one asks each balancer for more connections (FULL, 12,000) than it can hold. On a
# swarm of several nodes NODE_OFF, a shell command that ends $NODE as a power loss does, adds the loss
# of a node, after which NODE_ON has to bring it back. Needs a swarm, `reporter` with its programs, and
# images (README.md, "Without a registry"). RESULTS names a folder that keeps the runs; those that are
# there already are not made again. RUN_OPTIONS go to each run.
set -eu
connections=${1:-4000}
full=${FULL:-12000}
reporter=${REPORTER:-reporter}
results=${RESULTS:-$(mktemp -d)}
here=$(dirname "$0")

run() { # name, options
	name=$1
	shift
	[ -d "$results/$name" ] && return
	echo "compare-balancers: $name" >&2
	status=0
	"$reporter" run --backend swarm --out "$results/$name.part" "$@" ${RUN_OPTIONS:-} >&2 || status=$?
	# A threshold that is missed, or a busy host, is in the table.
	case $status in 0 | 1 | 3) mv "$results/$name.part" "$results/$name" ;; *) exit "$status" ;; esac
}

for balancer in haproxy traefik none; do
	case $balancer in
	none) way="--path tasks" ;;
	*) way="--path balancer --balancer $balancer" ;;
	esac
	run "$balancer-kill" $way --connections "$connections" --rolling-update
	[ $balancer = none ] || run "$balancer-full" $way --connections "$full" --failover none --no-scaling
	[ -z "${NODE_OFF:-}" ] || [ -d "$results/$balancer-node-loss" ] || {
		run "$balancer-node-loss" $way --connections "$connections" --no-scaling \
			--failover node-loss --node-off "$NODE_OFF"
		sh -c "${NODE_ON:-:}" >&2
	}
done
exec python3 "$here/compare-balancers.py" "$results"
