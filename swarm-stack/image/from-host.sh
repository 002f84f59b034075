#!/bin/sh
# from-host.sh NAME PROGRAM [FILE...]: makes the image NAME of a program of this host, with the
# libraries that it loads and nothing else. For tests where there is no registry: Debian's haproxy,
# prometheus and prometheus-node-exporter. Prints the image's id.
set -eu
name=$1 program=$2
shift 2
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
copy() { mkdir -p "$root$(dirname "$1")" && cp -L "$1" "$root$1"; }
copy "$program"
mkdir -p "$root/bin" "$root/tmp" "$root/data" "$root/etc"
[ -e "$root/bin/$(basename "$program")" ] || ln -s "$program" "$root/bin/$(basename "$program")"
ldd "$program" 2>/dev/null | grep -o '/[^ ]*' | sort -u | while read -r library; do copy "$library"; done
for file in "$@"; do copy "$file"; done
echo 'root:x:0:0:root:/:/' >"$root/etc/passwd"
tar -C "$root" --owner=0 --group=0 -c . |
	docker import --change 'ENV PATH=/bin:/usr/bin:/usr/sbin' --change 'LABEL io.erlmcp.owner=reporter' \
		--change "ENTRYPOINT [\"/bin/$(basename "$program")\"]" - "$name"
