#!/bin/sh
# check-queries.sh haproxy|traefik: does every query of the dashboards and every alert rule have data?
#
# Makes a run through that balancer with Prometheus, and asks while replicas are killed and scaled under
# load. Needs a swarm, `reporter` with its programs, and images (README.md, "Without a registry"). Exit
# status 1 names each query without data. A generator that gives no figures of its own, and reasons for
# failures that did not occur, are excused.
set -eu
balancer=${1:?haproxy or traefik}
reporter=${REPORTER:-reporter}
here=$(dirname "$0")
prometheus=http://127.0.0.1:9091
case $balancer in haproxy) other=traefik ;; *) other=haproxy ;; esac
out=$(mktemp -d)
"$reporter" run --backend swarm --path balancer --balancer "$balancer" --monitoring --connections 1000 \
	--replicas 4 --out "$out" --quiet ${RUN_OPTIONS:-} &
run=$!
trap 'kill -INT $run 2>/dev/null; wait $run || true; rm -rf "$out"' EXIT
# The longest query looks back for half a minute.
sleep 45
status=0
python3 "$here/grafana/check.py" --rules --empty-ok "$other" ${EMPTY_OK:-} $prometheus \
	"$here"/grafana/dashboards/*.json || status=$?
exit $status
