#!/usr/bin/env python3
"""Prints the runs of compare-balancers.sh as one table. usage: compare-balancers.py RESULTS"""
import glob
import json
import shlex
import sys

WAYS = {"haproxy": "HAProxy", "traefik": "Traefik", "none": "none: straight to the tasks"}


def load(results, way, kind):
    found = glob.glob(f"{results}/{way}-{kind}/*/results.json")
    if not found:
        return None, None
    folder = found[0].rsplit("/", 1)[0]
    return json.load(open(found[0])), json.load(open(folder + "/run.json"))


def time(ns):
    if ns is None:
        return "never"
    if ns < 1e9:
        return f"{ns / 1e6:.2f} ms" if ns < 1e7 else f"{ns / 1e6:.0f} ms"
    return f"{ns / 1e9:.1f} s"


def command(typed):
    """The command without what is of one machine only: where results go, how nodes are reached."""
    words, kept = shlex.split(typed), []
    while words:
        word = words.pop(0)
        if word in ("--out", "--node-host"):
            words.pop(0)
        elif word == "--node-off":
            kept += [word, "COMMAND"]
            words.pop(0)
        else:
            kept.append(word)
    return " ".join(kept)


def count(number):
    return f"{number:,}"


def of_cause(results, cause):
    return next((f for f in results["failovers"] if f["cause"] == cause), None)


def blow(cause):
    rows = [
        ("requests failed", lambda f: count(f["lost_requests"])),
        ("sessions lost / back", lambda f: f"{count(f['sessions_lost'])} / {count(f['sessions_reestablished'])}"),
        ("first error", lambda f: "none" if f["first_error_ns"] is None else time(f["first_error_ns"])),
        ("last failed request", lambda f: "none" if f["last_error_ns"] is None else time(f["last_error_ns"])),
        ("replicas whole again", lambda f: time(f["replica_healthy_ns"])),
        ("recovered (sessions too)", lambda f: time(f["recovery_ns"])),
    ]
    return [(name, lambda r, row=row: (lambda f: "—" if f is None else row(f))(of_cause(r, cause)))
            for name, row in rows]


def change(results, up):
    return next((s for s in results["scaling"] if (s["to"] > s["from"]) == up), None)


def scale(up):
    return [
        ("requests failed", lambda r: "—" if not change(r, up) else count(change(r, up)["failed_requests"])),
        ("replicas there or gone", lambda r: "—" if not change(r, up) else time(change(r, up)["converged_ns"])),
    ]


def top(results):
    stress = [s for s in results["stages"] if s["kind"] == "stress" and s["hold_ns"]]
    return max(stress, key=lambda s: s["connections"]["planned"])


def held(results):
    stress = [s for s in results["stages"] if s["kind"] == "stress"]
    last = max(stress, key=lambda s: s["connections"]["planned"])
    return f"{count(last['connections']['session_alive_peak'] or 0)} of {count(last['connections']['planned'])}"


def reached(results):
    said = [f["because"] for f in results["findings"] if f["rule"] == "balancer"]
    if said:
        return said[-1]
    last = results["balancer"][-1] if results["balancer"] else None
    return "—" if not last else f"by its own figures {count(last['connections'] or 0)} of the " \
        f"{count(last['connections_max'] or last['fds_max'] // 2)} that it accepts"


def cores(results):
    mine = [b for b in results["balancer"] if b["stage"] == top(results)["name"]]
    return "—" if not mine or mine[0]["cpu_cores"] is None else f"{mine[0]['cpu_cores']:.2f}"


def memory(results):
    return "—" if not results["balancer"] else f"{max(b['rss_bytes'] for b in results['balancer']) / 2**20:.0f} MiB"


def lost(results):
    sums = {}
    for stage in results["stages"]:
        for reason, number in stage["errors"].items():
            sums[reason] = sums.get(reason, 0) + number
    return ", ".join(f"{reason} {count(number)}" for reason, number in sorted(sums.items())) or "none"


GROUPS = [
    ("With all replicas", "kill", [
        ("response p50", lambda r: time(top(r)["response_ns"]["p50"])),
        ("response p99", lambda r: time(top(r)["response_ns"]["p99"])),
        ("balancer's cores, memory", lambda r: f"{cores(r)}, {memory(r)}" if r['balancer'] else '—'),
    ]),
    ("A replica is killed", "kill", blow("kill")),
    ("Every replica is replaced", "kill", blow("rolling_update")),
    ("12 → 16 replicas", "kill", scale(True)),
    ("16 → 8 replicas", "kill", scale(False)),
    ("Failed requests by reason, all of these", "kill", [("", lost)]),
    ("A node is lost", "node-loss", blow("node_loss")),
    ("More connections than it can hold", "full", [("sessions held", held), ("limit", reached)]),
]


def main():
    results = sys.argv[1]
    runs = {(way, kind): load(results, way, kind) for way in WAYS for _, kind, _ in GROUPS}
    sample, record = next(pair for pair in runs.values() if pair[0])
    docker = record["cluster"]["docker"]
    print("| | " + " | ".join(WAYS.values()) + " |\n|---|" + "---|" * len(WAYS))
    for title, kind, rows in GROUPS:
        if not any(runs[way, kind][0] for way in WAYS):
            continue
        print(f"| **{title}** |" + " |" * len(WAYS))
        for name, cell in rows:
            cells = [cell(runs[way, kind][0]) if runs[way, kind][0] else "—" for way in WAYS]
            print(f"| {name} | " + " | ".join(cells) + " |")
    host = record["host"]
    print(f"\nConditions: {host['cores']} cores, Linux {host['kernel']}, engine {docker['engine']}; "
          f"{record['replicas_planned']} replicas; a descriptor limit of "
          f"{record['cluster']['path']['descriptors_a_replica'] or 'unknown'} for each process; "
          f"generator, balancer and replicas on the same cores.")
    print()
    for (way, kind), (found, own) in runs.items():
        if found:
            print(f"- {WAYS[way]}, {kind}: `{command(own['command'])}`: the run is "
                  + ("valid" if found["valid"] else "not valid: " + "; ".join(found["invalid_because"])))


if __name__ == "__main__":
    main()
