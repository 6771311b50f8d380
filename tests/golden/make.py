#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Makes the golden store of the format that build/bin writes: tests/golden/format-N.tar.gz and the dump of it. To be run once for
each format, by its first release, and never again: later versions have to open what that one wrote."""
import gzip
import pathlib
import sys
import tarfile
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "e2e"))
from harness.api import JobSpec  # noqa: E402
from harness.scene import fill  # noqa: E402
from harness.server import Server  # noqa: E402
from harness.tools import millrace  # noqa: E402
from harness.worker import Worker  # noqa: E402


def main():
    workers = []

    def make_worker(server, *arguments, **options):
        workers.append(Worker(server, *arguments, **options))
        return workers[-1]

    with tempfile.TemporaryDirectory() as directory:
        server = Server(directory).start()
        number = server.client.GetServerInfo().store_format
        archive, dump = HERE / f"format-{number}.tar.gz", HERE / f"format-{number}.ndjson.gz"
        if archive.exists():
            sys.exit(f"{archive} is there: what it proves would be lost")
        server.client.create_many([JobSpec(task="early", queue="early")] * 3)
        server.restart()  # so that there are tables as well as a log
        fill(server, make_worker)
        server.kill()
        with tarfile.open(archive, "w:gz") as tar:
            for file in sorted(server.data.iterdir()):
                if file.is_file() and not file.name.startswith(("LOG", "LOCK", "OPTIONS")):
                    tar.add(file, file.name)
        dump.write_bytes(gzip.compress(millrace(None, "dump", server.data).out.encode(), mtime=0))
        for worker in workers:
            worker.close()


if __name__ == "__main__":
    main()
