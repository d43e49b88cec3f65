#!/usr/bin/env python3
"""Writes what others say is due in the year 2026: Python's croniter, and systemd.

    python3 year.py croniter > croniter.txt     (croniter 7.0.0, zoneinfo 2025b)
    python3 year.py systemd > systemd.txt       (systemd 252, zoneinfo 2025b)

A line is zone, expression and the due moments, tab-separated: "2026-01-01T00:00:00Z 3600x5 7200x1" is a first moment, five more an
hour apart, then one two hours later.
"""

import subprocess
import sys
from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo

ZONES = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "Asia/Kolkata",
    "America/Sao_Paulo",
]
# Cron, and the same for systemd where it can say it.
EXPRESSIONS = [
    ("0 * * * *", "*-*-* *:00:00"),
    ("30 * * * *", "*-*-* *:30:00"),
    ("*/20 * * * *", "*-*-* *:00/20:00"),
    ("0 */6 * * *", "*-*-* 00/6:00:00"),
    ("0 */2 * * *", "*-*-* 00/2:00:00"),
    ("0 0 * * *", "*-*-* 00:00:00"),
    ("45 1 * * *", "*-*-* 01:45:00"),
    ("15 2 * * *", "*-*-* 02:15:00"),
    ("10 30 2 * * *", "*-*-* 02:30:10"),
    ("0 3 * * *", "*-*-* 03:00:00"),
    ("15 2,14 * * *", "*-*-* 02,14:15:00"),
    ("*/20 2 * * *", "*-*-* 02:00/20:00"),
    ("0 0 * * MON", "Mon *-*-* 00:00:00"),
    ("30 2 * * SUN", "Sun *-*-* 02:30:00"),
    ("0 9 * * MON-FRI", "Mon..Fri *-*-* 09:00:00"),
    ("0 0 1 * *", "*-*-01 00:00:00"),
    ("45 1 L * *", "*-*~01 01:45:00"),
    ("0 12 1 JAN,APR,JUL,OCT *", "*-01,04,07,10-01 12:00:00"),
    ("0 12 1,15 * MON", None),
    ("0 12 * * 5#2", None),
]
BEGIN = datetime(2026, 1, 1, tzinfo=timezone.utc)
END = datetime(2027, 1, 1, tzinfo=timezone.utc)


def of_croniter(zone, cron, _calendar):
    from croniter import croniter

    fields = cron.split()
    if len(fields) == 6:
        fields = fields[1:] + fields[:1]
    # From a second before, since what is due at the start counts.
    dues = croniter(" ".join(fields), (BEGIN - timedelta(seconds=1)).astimezone(ZoneInfo(zone)))
    while (due := dues.get_next(datetime).astimezone(timezone.utc)) < END:
        yield due


def of_systemd(zone, _cron, calendar):
    if calendar is None:
        return
    base = (BEGIN - timedelta(seconds=1)).strftime("%Y-%m-%d %H:%M:%S UTC")
    command = ["systemd-analyze", "calendar", "--iterations=30000", f"--base-time={base}", calendar]
    # Below each moment in another local time it says the same "(in UTC)".
    environment = {"TZ": zone, "LC_ALL": "C"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as analyze:
        for line in analyze.stdout:
            label, _, moment = line.strip().partition(": ")
            is_moment = label == "(in UTC)" or zone == "UTC" and (label == "Next elapse" or label.startswith("Iter. #"))
            if not is_moment:
                continue
            due = datetime.strptime(moment.strip(), "%a %Y-%m-%d %H:%M:%S UTC").replace(tzinfo=timezone.utc)
            if due >= END:
                # Its other iterations lie in other years.
                analyze.kill()
                return
            yield due


def runs(dues):
    dues = list(dues)
    words = [dues[0].strftime("%Y-%m-%dT%H:%M:%SZ")]
    steps = [int((b - a).total_seconds()) for a, b in zip(dues, dues[1:])]
    while steps:
        count = next((n for n, step in enumerate(steps) if step != steps[0]), len(steps))
        words.append(f"{steps[0]}x{count}")
        steps = steps[count:]
    return " ".join(words)


source = {"croniter": of_croniter, "systemd": of_systemd}[sys.argv[1]]
for zone in ZONES:
    for cron, calendar in EXPRESSIONS:
        dues = list(source(zone, cron, calendar))
        if dues:
            print(zone, cron, runs(dues), sep="\t")
