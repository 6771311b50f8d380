# SPDX-License-Identifier: Apache-2.0
"""The command `millrace-worker`."""

from __future__ import annotations

import argparse
import logging
import os
import pkgutil
import sys
from collections.abc import Sequence
from typing import Any

from millrace._version import VERSION
from millrace.worker.options import WorkerOptions, parse_queues

_USAGE_ERROR = 2


def _parser() -> argparse.ArgumentParser:
    usual = WorkerOptions()
    parser = argparse.ArgumentParser(
        prog="millrace-worker",
        description="Runs the tasks of a Python application. SIGTERM finishes what runs within the grace and gives back the rest.",
        epilog="Example: millrace-worker --app myapp.tasks --queues default:5,critical:10 --concurrency 8",
    )
    add = parser.add_argument
    add("--app", action="append", required=True, metavar="MODULE", help="module with tasks, or MODULE:REGISTRY; can be repeated")
    add("--queues", default="default", metavar="NAME[:WEIGHT],…", help="queues to serve, and their weights (default: default)")
    add("--concurrency", type=int, default=usual.concurrency, help="jobs at a time (default: the number of processors, here %(default)s)")
    add("--prefetch", type=int, default=usual.prefetch, help="deliveries held ready beyond that (default: %(default)s)")
    add("--pool", choices=("processes", "threads", "asyncio"), default=usual.pool, help="where handlers run (default: %(default)s)")
    add("--transport", choices=("auto", "nng", "grpc"), default=usual.transport, help="how jobs come (default: %(default)s)")
    add("--stop-grace", type=float, default=usual.stop_grace, metavar="SECONDS", help="after SIGTERM (default: %(default)s)")
    add("--terminate-grace", type=float, default=usual.terminate_grace, metavar="SECONDS", help="after a terminate (default: %(default)s)")
    add("--label", action="append", default=[], metavar="KEY=VALUE", help="of the worker; can be repeated")
    add("--address", help="the server's (default: MILLRACE_ADDRESS, or 127.0.0.1:7070)")
    add("--ca", metavar="FILE", help="authorities of the server's certificate, or 'system'; turns TLS on (default: MILLRACE_CA)")
    add("--certificate", metavar="FILE", help="of this client, with --key (default: MILLRACE_CERTIFICATE)")
    add("--key", metavar="FILE", help="of the certificate (default: MILLRACE_KEY)")
    add("--codec", metavar="MODULE:OBJECT", help="what changes payloads on their way")
    add("--log-level", default="info", choices=("debug", "info", "warning", "error"), help="(default: %(default)s)")
    add("--reload", action="store_true", help="start anew when a Python file below this folder changes; for development")
    add("--version", action="version", version=f"millrace-worker {VERSION}")
    return parser


def _labels(texts: Sequence[str]) -> dict[str, str]:
    labels = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals:
            raise ValueError(f"--label {text!r} is not KEY=VALUE")
        labels[key] = value
    return labels


def _settings(options: argparse.Namespace) -> dict[str, Any]:
    if bool(options.certificate) != bool(options.key):
        raise ValueError("--certificate and --key go together")
    return {
        "options": WorkerOptions(
            queues=parse_queues(options.queues),
            concurrency=options.concurrency,
            prefetch=options.prefetch,
            pool=options.pool,
            transport=options.transport,
            stop_grace=options.stop_grace,
            terminate_grace=options.terminate_grace,
            labels=_labels(options.label),
        ),
        "address": options.address,
        "ca": options.ca,
        "certificate": (options.certificate, options.key) if options.certificate else None,
        "codec": pkgutil.resolve_name(options.codec) if options.codec else None,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=options.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s %(message)s")
    if options.reload:
        from millrace.worker._reload import run_with_reload

        return run_with_reload([argument for argument in arguments if argument != "--reload"])
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    # For handlers that create jobs: they mean the same server.
    for name in ("address", "ca", "certificate", "key"):
        if value := getattr(options, name):
            os.environ[f"MILLRACE_{name.upper()}"] = value
    # What a process of the pool does not need is imported here only.
    from millrace.errors import MillraceError
    from millrace.worker import Worker

    try:
        Worker(*options.app, **_settings(options)).run()
    except (MillraceError, ValueError) as error:
        print(f"millrace-worker: {error}", file=sys.stderr)
        return _USAGE_ERROR if isinstance(error, ValueError) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
