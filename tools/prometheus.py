#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks what is shipped for Prometheus and Grafana: configuration, rules and their tests, each query of the dashboard, and that
docs/operations.md says for each alert what to do. Prints what is wrong; exit 1 if there is anything, 77 without promtool."""
import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
RULES = ROOT / "deploy/prometheus/millrace.rules.yml"
DASHBOARD = ROOT / "deploy/grafana/millrace.json"
OPERATIONS = ROOT / "docs/operations.md"


def dashboard_queries():
    """(where, PromQL) of all panels and annotations, variables replaced as Grafana would."""
    dashboard = json.loads(DASHBOARD.read_text())
    found = [(panel["title"], target["expr"]) for panel in dashboard["panels"] for target in panel.get("targets", [])]
    found += [(note["name"], note["expr"]) for note in dashboard["annotations"]["list"]]
    return [(where, re.sub(r"\$\w+", ".*", query.replace("$__rate_interval", "5m"))) for where, query in found]


def alerts():
    """(name, runbook) of each alert."""
    text = RULES.read_text()
    return re.findall(r"- alert: (\w+).*?runbook: (\S+)", text, re.S)


def metric_names():
    """All metrics of ours that rules and dashboard speak of."""
    return set(re.findall(r"\b(?:millrace|process)_\w+", RULES.read_text() + " ".join(query for _, query in dashboard_queries())))


def promtool(*arguments):
    """What it says when it is not content; empty if it is."""
    done = subprocess.run(["promtool", *map(str, arguments)], capture_output=True, text=True, cwd=RULES.parent, check=False)
    return "" if done.returncode == 0 else done.stdout + done.stderr


def check_queries():
    """Each query as a rule of its own, which promtool parses."""
    wrong = []
    with tempfile.TemporaryDirectory() as directory:
        for number, (where, query) in enumerate(dashboard_queries()):
            file = pathlib.Path(directory) / f"{number}.json"  # YAML too
            file.write_text(json.dumps({"groups": [{"name": "g", "rules": [{"record": "query", "expr": query}]}]}))
            answer = promtool("check", "rules", file)
            if answer:
                wrong.append(f"{DASHBOARD.relative_to(ROOT)}: panel '{where}': {answer.strip()}")
    return wrong


def check_runbooks():
    """Each alert leads to its section."""
    headings = re.findall(r"^#+ (\w+)$", OPERATIONS.read_text(), re.M)
    return [f"alert {name}: its runbook is {runbook}, and docs/operations.md has no such section" for name, runbook in alerts()
            if name not in headings or runbook != f"docs/operations.md#{name.lower()}"]


def main():
    if not shutil.which("promtool"):
        print("promtool is missing: it comes with the package prometheus")
        return 77
    wrong = [answer for answer in (promtool("check", "config", "prometheus.yml"),
                                   promtool("test", "rules", "millrace.rules.test.yml")) if answer]
    wrong += check_queries() + check_runbooks()
    tested = (RULES.parent / "millrace.rules.test.yml").read_text()
    wrong += [f"alert {name} has no test" for name, _ in alerts() if f"alertname: {name}\n" not in tested]
    print("\n".join(wrong), end="\n" if wrong else "")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
