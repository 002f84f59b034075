#!/bin/sh
# nodes.sh up COUNT | off N | down: several Docker nodes on one machine, for tests of what
# needs more than one: placement, a remote kill, images without a registry, the loss of a node.
#
# Each node is a dockerd with network, host name, mounts and processes of its own, at 10.78.0.(10+N)
# on a bridge that only they share; its socket is $NODES/N/docker.sock. `off N` ends a node as a
# power loss does. Needs root, iproute2, util-linux and dockerd; NODES names a folder of your own,
# DOCKERD_CONFIG may hold a daemon.json, such as {"storage-driver": "fuse-overlayfs"}, and
# DOCKERD_CONFIG_2 another one for the second node. LAB names the lab where there are several at once.
set -eu
nodes=${NODES:?name an empty folder of your own}
lab=${LAB:-erl} any=${DOCKERD_CONFIG:-{\}}
hub=${lab}hub

start() { # number
	dir=$nodes/$1 space=${lab}node$1
	mkdir -p "$dir/data"
	eval "config=\${DOCKERD_CONFIG_$1:-\$any}"
	echo "$config" >"$dir/daemon.json"
	ip netns add "$space"
	ip link add "erl$1" netns "$hub" type veth peer name eth0 netns "$space"
	ip -n "$hub" link set "erl$1" master bridge up
	ip -n "$space" address add "10.78.0.1$1/24" dev eth0
	ip -n "$space" link set lo up
	ip -n "$space" link set eth0 up
	ip -n "$space" route add default via 10.78.0.1
	# Inside: private mounts, a /run of its own (sockets, pid files), then the daemon as process 1.
	inside="hostname node$1; mount --make-rprivate /; mount --bind $dir $dir; mount -t tmpfs run /run
		mkdir /run/docker
		exec dockerd --config-file $dir/daemon.json --data-root $dir/data --exec-root /run/docker --pidfile /run/dockerd.pid \
			-H unix://$dir/docker.sock"
	rm -f "$dir/docker.sock"
	# Not `ip netns exec`: that mounts another /sys, without control groups.
	nsenter --net="/run/netns/$space" setsid unshare --uts --mount --pid --fork --kill-child --mount-proc \
		sh -c "$inside" </dev/null >"$dir/log" 2>&1 &
	echo $! >"$dir/pid"
	tries=0
	until DOCKER_HOST=unix://$dir/docker.sock docker version >/dev/null 2>&1; do
		tries=$((tries + 1))
		[ $tries -lt 300 ] && kill -0 "$(cat "$dir/pid")" || { echo "node $1 does not start; see $dir/log" >&2; exit 1; }
		sleep 0.2
	done
	echo "node$1 unix://$dir/docker.sock"
}

off() { # number
	pid=$(cat "$nodes/$1/pid" 2>/dev/null) || return 0
	# The daemon is the only child of unshare, and process 1 of all that runs on the node.
	for child in $(cat "/proc/$pid/task/$pid/children" 2>/dev/null); do kill -9 "$child"; done
	rm -f "$nodes/$1/pid"
}

case ${1:-} in
up)
	ip netns add $hub
	ip -n $hub link add bridge type bridge
	ip -n $hub address add 10.78.0.1/24 dev bridge
	ip -n $hub link set bridge up
	ip -n $hub link set lo up
	number=1
	while [ $number -le "$2" ]; do start $number; number=$((number + 1)); done
	;;
off) off "$2" ;;
down)
	for dir in "$nodes"/*/; do
		number=$(basename "$dir")
		off "$number"
		ip netns delete "${lab}node$number" 2>/dev/null || true
	done
	ip netns delete $hub 2>/dev/null || true
	;;
*) sed -n '2,11s/^# \{0,1\}//p' "$0"; exit 2 ;;
esac
