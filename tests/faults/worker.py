"""Plays scenarios in a network of its own: a job per line in, a result per line out."""

import json
import pathlib
import sys
import time
import traceback

from scenario import Scenario


def play(folder, layout, point, count, how):
    folder.mkdir(parents=True)
    scenario = Scenario(folder, layout, point, count, how)
    try:
        cut = scenario.play()
        if point and not cut:
            scenario.finish()
            return "the point was not reached"
        if point:
            if not scenario.server.is_cut():
                return "something ended, but not at the point\n" + scenario.server.said()
            scenario.recover()
        scenario.finish()
        return None
    except BaseException as error:
        # Where in the scenario, and what: the rest of the way is the libraries' own.
        steps = [each for each in traceback.extract_tb(error.__traceback__) if "tests/faults" in each.filename]
        said = "\n".join(f"{pathlib.Path(each.filename).name}:{each.lineno} {each.line}" for each in steps)
        scenario.clean_up()
        return f"{said}\n{type(error).__name__}: {error}"


def main():
    base, layout = pathlib.Path(sys.argv[1]), sys.argv[2]
    for line in sys.stdin:
        job = json.loads(line)
        begin = time.monotonic()
        failure = play(base / str(job["number"]), layout, job["point"], job["count"], job["how"])
        print(json.dumps({"number": job["number"], "failure": failure, "seconds": time.monotonic() - begin}), flush=True)


if __name__ == "__main__":
    main()
