"""Runs files of tests beside one another, each in a network of its own: tests mostly wait.

    together.py PYTEST FILE [FILE ...]

A line for each file as it ends; what failed is told at the end, whole.
"""

import os
import pathlib
import subprocess
import sys
import tempfile
import threading
import time

ISOLATED = pathlib.Path(__file__).resolve().parent / "blackbox" / "isolated.py"
# With more of them, tests that bound times would wait for a processor on a machine that has two.
LANES = 2


class Run:
    """One file: its output, and how it ended."""

    def __init__(self, pytest, file):
        self.file, self.begin = file, time.monotonic()
        self.output = tempfile.TemporaryFile("w+")
        command = [sys.executable, ISOLATED, pytest, "-p", "no:cacheprovider", "--color=no", file]
        self.code = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=self.output, stderr=subprocess.STDOUT).returncode
        self.seconds = time.monotonic() - self.begin

    def said(self):
        self.output.seek(0)
        return self.output.read()

    def line(self):
        last = self.said().strip().splitlines()[-1:] or ["nothing was said"]
        verdict = "ok    " if self.code == 0 else "FAILED"
        return f"{verdict} {self.seconds:6.1f} s  {self.file}: {last[0].strip('= ')}"


def main():
    pytest, waiting, done = sys.argv[1], sys.argv[2:], []
    taking, telling = threading.Lock(), threading.Lock()

    def lane():
        while True:
            with taking:
                if not waiting:
                    return
                file = waiting.pop(0)
            run = Run(pytest, file)
            with telling:
                done.append(run)
                print(run.line(), flush=True)

    lanes = [threading.Thread(target=lane) for _ in range(LANES)]
    for thread in lanes:
        thread.start()
    for thread in lanes:
        thread.join()
    failed = [run for run in done if run.code != 0]
    for run in failed:
        print(f"\n===== {run.file} =====\n{run.said()}")
    if failed:
        sys.exit(f"{len(failed)} of {len(done)} files failed: {' '.join(run.file for run in failed)}")


if __name__ == "__main__":
    main()
