"""Reads one document in a process of its own, with limits: a hostile file may kill that process and nothing else.

`parse` starts it; `python -m knowledge.parse MEMORY_BYTES NAME < FILE` is the process, and prints a JSON line a section.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from knowledge.errors import DocumentError
from knowledge.readers import kind_of, read
from knowledge.split import Section

TIMEOUT_S = 180
MEMORY_BYTES = 1536 * 1024 * 1024
MAX_OUTPUT_BYTES = 200 * 1024 * 1024
HEARTBEAT_S = 5.0
_OUT_OF_MEMORY = 3  # our own exit code


def parse(
    name: str,
    blob: bytes,
    heartbeat: Callable[[], None] = lambda: None,
    timeout_s: float = TIMEOUT_S,
    memory_bytes: int = MEMORY_BYTES,
) -> list[Section]:
    """The sections of a document. heartbeat is called every few seconds while it is being read.

    Raises DocumentError: what `readers.read` raises, and when reading took too long, too much memory, or crashed.
    """
    kind_of(name, blob)  # what is plainly wrong needs no process
    with tempfile.TemporaryFile() as document, tempfile.TemporaryFile() as output:
        document.write(blob)
        document.seek(0)
        command = [sys.executable, "-m", "knowledge.parse", str(memory_bytes), name]
        process = subprocess.Popen(
            command, stdin=document, stdout=output, stderr=subprocess.DEVNULL, cwd=Path(__file__).parent.parent
        )
        _wait(process, heartbeat, timeout_s)
        if process.returncode == _OUT_OF_MEMORY:
            raise DocumentError("document.memory")
        if process.returncode != 0:
            raise DocumentError("document.died")
        output.seek(0)
        return _sections(output.read())


def _wait(process: subprocess.Popen[bytes], heartbeat: Callable[[], None], timeout_s: float) -> None:
    end = time.monotonic() + timeout_s
    try:
        while True:
            try:
                process.wait(min(HEARTBEAT_S, max(0.0, end - time.monotonic())))
                return
            except subprocess.TimeoutExpired as error:
                if time.monotonic() >= end:
                    raise DocumentError("document.timeout", seconds=round(timeout_s)) from error
                heartbeat()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def _sections(output: bytes) -> list[Section]:
    sections = []
    for line in output.splitlines():
        row = json.loads(line)
        if "error" in row:
            raise DocumentError(row["error"], **row["values"])
        heading = tuple(map(storable, row["heading"]))
        sections.append(Section(storable(row["text"]), heading, row["kind"], row["page"]))
    return sections


def storable(text: str) -> str:
    """text without what no database takes: NUL, and halves of surrogate pairs, which odd fonts of a PDF stand for."""
    return text.replace("\0", "").encode("utf-8", "ignore").decode("utf-8")


def main(memory_bytes: int, name: str) -> int:
    """The process: limits first, then read. Returns the exit code."""
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CPU, (TIMEOUT_S, TIMEOUT_S))
    resource.setrlimit(resource.RLIMIT_FSIZE, (MAX_OUTPUT_BYTES, MAX_OUTPUT_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        for section in read(name, sys.stdin.buffer.read()):
            _print(asdict(section))
    except DocumentError as error:
        _print({"error": error.key, "values": error.values})
    except MemoryError:
        return _OUT_OF_MEMORY
    sys.stdout.flush()
    return 0


def _print(row: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2]))
