"""Runs a command to its end and prints what it took: wall and CPU seconds, peak resident memory in KiB."""

import json
import os
import sys
import time

null = os.open(os.devnull, os.O_RDWR)
started = time.monotonic()
child = os.posix_spawn(
    sys.argv[1],
    sys.argv[1:],
    os.environ,
    file_actions=[(os.POSIX_SPAWN_DUP2, null, 0), (os.POSIX_SPAWN_DUP2, null, 1)],
)
_, status, usage = os.wait4(child, 0)
print(json.dumps({
    "wall": time.monotonic() - started,
    "cpu": usage.ru_utime + usage.ru_stime,
    "peak_kib": usage.ru_maxrss,
}))
sys.exit(os.waitstatus_to_exitcode(status))
