"""A writer of the checker: runs installers, one at a time, as told on standard input; never touches the directory itself.

A line in:  {"op": 7, "command": [...], "killAfterMs": null or number, "look": null or a kind of observe.py, "notebook", …}
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
    """By a fork of this process; or, of two times one, by the notebook itself."""
    if task["notebook"] and task["op"] % 2:
        return look_here(task, begin, "notebook")
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.close(reader)
            report = look_here(task, begin, "fork of a notebook" if task["notebook"] else "sequel")
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


def look_here(task, begin, how):
    rng = random.Random(task["op"])
    report = observe.run(task["look"], task["directory"], task["names"], set(task["ignored"]), rng, begin)
    report["how"] = how
    return report


def run_in_notebook(task):
    """As `%pip install` does: a process that has looked at the directory runs the installer, then looks again itself."""
    child = os.fork()
    if child == 0:
        begin = time.monotonic_ns()
        os.listdir(task["directory"])
        result = run(task)
        if result["look"]:
            # It may have what it saw first, or any state since; but no older one than what it installed itself.
            result["look"]["begin"] = begin
            if result["code"] == 0 and not task["contended"]:
                result["look"]["after"] = task["op"]
        answer(result)
        os._exit(0)
    os.waitpid(child, 0)


def answer(result):
    os.write(1, (json.dumps(result) + "\n").encode())


for line in sys.stdin:
    asked = json.loads(line)
    if asked["notebook"]:
        run_in_notebook(asked)
    else:
        answer(run(asked))
