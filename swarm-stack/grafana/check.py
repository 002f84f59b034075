#!/usr/bin/env python3
"""Checks the dashboards without Grafana: their shape, and every query against a real Prometheus.

usage: check.py [--empty-ok SUBSTRING]... [--rules] PROMETHEUS_URL DASHBOARD...

Exit status 1 names each panel whose query is refused or brings no series. `--empty-ok` excuses
queries that contain the text, such as `haproxy` where there is no HAProxy. With `--rules` every alert
rule must be in good health, and every metric that it names must have series: an alert about a metric
that nobody gives never comes.
"""
import argparse
import json
import re
import sys
import urllib.error
import urllib.parse
import urllib.request


def ask(base, query):
    url = base + "/api/v1/query?" + urllib.parse.urlencode({"query": query})
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return json.load(answer)["data"]["result"]
    except urllib.error.HTTPError as error:
        raise ValueError(json.load(error).get("error", str(error))) from error


def rules(base):
    """What is wrong with the alert rules, and how many there are."""
    with urllib.request.urlopen(base + "/api/v1/rules", timeout=10) as answer:
        groups = json.load(answer)["data"]["groups"]
    every = [rule for group in groups for rule in group["rules"]]
    problems = [f"alert {rule['name']}: {rule.get('lastError') or rule['health']}"
                for rule in every if rule["health"] != "ok"]
    for rule in every:
        # Names of metrics: words outside of braces and quotes that have an underscore, and `up`.
        words = re.sub(r"\{[^}]*\}|\"[^\"]*\"|by \([^)]*\)", " ", rule["query"])
        names = set(re.findall(r"\b(?:[a-z]+_\w+|up)\b", words)) - {"histogram_quantile"}
        problems += [f"alert {rule['name']}: nobody gives {name}"
                     for name in sorted(names) if not ask(base, name)]
    return problems if every else ["there is no alert rule"], len(every)


def shape(board):
    for key, kind in {"uid": str, "title": str, "schemaVersion": int, "panels": list}.items():
        if not isinstance(board.get(key), kind):
            yield f"{key} is no {kind.__name__}"
    ids, cells = set(), set()
    for panel in board.get("panels", []):
        name = panel.get("title", "?")
        if panel.get("id") in ids:
            yield f"panel {name}: its id is not its own"
        ids.add(panel.get("id"))
        at = panel.get("gridPos", {})
        if at.get("x", 99) + at.get("w", 99) > 24:
            yield f"panel {name}: wider than the grid"
        own = {(x, y) for x in range(at.get("x", 0), at.get("x", 0) + at.get("w", 0))
               for y in range(at.get("y", 0), at.get("y", 0) + at.get("h", 0))}
        if own & cells:
            yield f"panel {name}: lies on another one"
        cells |= own
        if not panel.get("targets"):
            yield f"panel {name}: asks nothing"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--empty-ok", action="append", default=[])
    parser.add_argument("--rules", action="store_true")
    parser.add_argument("prometheus")
    parser.add_argument("dashboards", nargs="+")
    typed = parser.parse_args()
    problems, asked = rules(typed.prometheus) if typed.rules else ([], 0)
    for path in typed.dashboards:
        with open(path, encoding="utf-8") as file:
            board = json.load(file)
        problems += [f"{path}: {problem}" for problem in shape(board)]
        queries = [(p["title"], t["expr"]) for p in board["panels"] for t in p["targets"]]
        for title, query in queries:
            asked += 1
            try:
                empty = not ask(typed.prometheus, query)
            except ValueError as error:
                problems.append(f"{path}: {title}: {error}: {query}")
                continue
            if empty and not any(text in query for text in typed.empty_ok):
                problems.append(f"{path}: {title}: no series: {query}")
        for annotation in board["annotations"]["list"]:
            asked += 1
            try:
                ask(typed.prometheus, annotation["expr"])
            except ValueError as error:
                problems.append(f"{path}: annotation {annotation['name']}: {error}")
    print("\n".join(problems) or f"{asked} queries, all answered")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
