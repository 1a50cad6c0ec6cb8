#!/usr/bin/env python3
"""Passes ctest's output on, and tells in front of its summary which tests passed only at a second try, and what those
that failed said last.

    ctest ... | retried.py FILE    FILE (XENLOOP_RETRIED): a line for each case that a test has tried again itself, and
                                   what was told of the rings before this one; the names go there as well

The summary stays last: that is what others read.
"""

import collections
import re
import sys

LAST_LINES = 25

failed, passed_later, said, saying = set(), [], {}, None
for line in sys.stdin.buffer:
    # "1/9 Test #3: name ....***Failed", and at the second try "    Test #3: name ....   Passed".
    test = re.match(rb"[ 0-9/]*Test +#\d+: (\S+) (.*)", line)
    if test and re.search(rb"\*\*\*(Failed|Timeout|Exception)", test[2]):
        failed.add(test[1])
        saying = said[test[1]] = collections.deque(maxlen=LAST_LINES)
    elif test and test[1] in failed and re.search(rb" Passed +[\d.]+ sec", test[2]):
        passed_later.append(test[1].decode())
        del said[test[1]]
    if test or re.match(rb" +Start +\d+: ", line):
        saying = said.get(test[1]) if test else None
    elif saying is not None and line.strip():
        saying.append(line)
    if re.match(rb"\d+% tests passed", line):
        with open(sys.argv[1], "a+", encoding="utf-8") as file:
            file.writelines(name + "\n" for name in passed_later)
            file.seek(0)
            told = file.read().splitlines()
        for name, lines in said.items():
            print(f"{name.decode()} failed. Its last lines (all: Testing/Temporary/LastTest.log of the build):", flush=True)
            sys.stdout.buffer.writelines(b"\t" + text for text in lines)
            sys.stdout.buffer.flush()
        print(f"passed only at a second try: {len(told)}")
        for name in told:
            print("\t" + name)
        print(flush=True)
    sys.stdout.buffer.write(line)
    sys.stdout.buffer.flush()
