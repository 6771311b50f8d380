# SPDX-License-Identifier: Apache-2.0
"""The monitor port as a probe and a scraper see it."""
import re
import urllib.error
import urllib.request


def get(server, path, method="GET", data=None):
    """(status, text) of a page."""
    request = urllib.request.Request(f"http://127.0.0.1:{server.ports['monitor']}{path}", method=method, data=data)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def metrics(server):
    """{'name{label="value"}': number}, the labels in their order; also checks the format."""
    status, text = get(server, "/metrics")
    assert status == 200
    found, typed = {}, set()
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            typed.add(line.split()[2])
        elif line and not line.startswith("#"):
            match = re.fullmatch(r"([a-z_:][a-z0-9_:]*)(\{[^}]*\})? (-?[0-9.e+-]+|\+Inf|NaN)", line)
            assert match, f"no Prometheus line: {line!r}"
            name = match[1] + (match[2] or "")
            assert name not in found, f"twice: {name}"
            found[name] = float(match[3])
            assert re.sub(r"_(bucket|sum|count)$", "", match[1]) in typed or match[1] in typed, f"no TYPE for {line!r}"
    return found
