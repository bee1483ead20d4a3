"""A writer of the checker: runs installers, one at a time, as told on standard input; never touches the directory itself.

A line in:  {"op": 7, "command": [...], "killAfterMs": null or number, "look": null or a kind of observe.py, …}
A line out: {"op": 7, "start", "end", "code", "signal", "lastWrite", "look": report or null, "stderr"}

It waits for the installer itself, so `end` is the moment at which a shell would start its next command; and with `look`
it does just that, at once: a forked child looks at the directory, and must see what was installed.
"""

import json
import os
import random
import subprocess
import sys
import time
import traceback

sys.dont_write_bytecode = True
import observe  # noqa: E402


def run(task):
    start = time.monotonic_ns()
    process = subprocess.Popen(
        task["command"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    if task["killAfterMs"] is not None:
        try:
            process.wait(task["killAfterMs"] / 1000)
        except subprocess.TimeoutExpired:
            process.kill()
    try:
        out, errors = process.communicate(timeout=task["timeoutMs"] / 1000)
        hung = False
    except subprocess.TimeoutExpired:
        process.kill()
        out, errors = process.communicate()
        hung = True
    end = time.monotonic_ns()
    report = look(task, end) if task["look"] else None
    last = None
    for line in out.splitlines():
        if line.startswith('{"lastWrite"'):
            last = json.loads(line)["lastWrite"]
    code = process.returncode
    return {
        "op": task["op"],
        "start": start,
        "end": end,
        "code": code if code >= 0 else None,
        "signal": -code if code < 0 else None,
        "hung": hung,
        "lastWrite": last,
        "look": report,
        "stderr": errors[-2000:],
    }


def look(task, begin):
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.close(reader)
            rng = random.Random(task["op"])
            report = observe.run(task["look"], task["directory"], task["names"], set(task["ignored"]), rng, begin)
            report["how"] = "sequel"
            with os.fdopen(writer, "w") as pipe:
                json.dump(report, pipe)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        text = pipe.read()
    os.waitpid(child, 0)
    return json.loads(text) if text else None


for line in sys.stdin:
    os.write(1, (json.dumps(run(json.loads(line))) + "\n").encode())
