#!/usr/bin/env python3
"""Which files must be checked? `tidy_keys.py BUILD FILE...` prints KEY FILE for each: the key is made of all that the
check's answer depends on, so what has been found clean under a key stays so. That is the text of the file and of all that
it includes, the .clang-tidy of all folders above it, the compile commands, the checker, and Debian's packages for what stands in none of our folders."""

import functools
import hashlib
import json
import os
import re
import subprocess
import sys

build, files = sys.argv[1], sys.argv[2:]
root = os.getcwd() + "/"


def said(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@functools.lru_cache(maxsize=None)
def text_of(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


@functools.lru_cache(maxsize=None)
def included(path):
    named = re.findall(r'^\s*#\s*include\s*"([^"]+)"', text_of(path), re.MULTILINE)
    return [name for name in named if os.path.exists(name)]


def closure(path):
    found, ahead = set(), [path]
    while ahead:
        name = ahead.pop()
        if name not in found:
            found.add(name)
            ahead += included(name)
    return sorted(found)


def checks(path):
    """The .clang-tidy of every folder from the root to the file's."""
    folders = path.split("/")[:-1]
    named = ["/".join(folders[:i] + [".clang-tidy"]) for i in range(len(folders) + 1)]
    return [name for name in named if os.path.exists(name)]


with open(os.path.join(build, "compile_commands.json"), encoding="utf-8") as database:
    # Without the folder of this clone. A header has the command of some file beside it, whichever the checker takes.
    commands = json.dumps(json.load(database)).replace(root, "").replace(root[:-1], ".")
common = "\n".join([commands, text_of("tests/layers/tidy.sh"), said("clangd", "--version"),
                    said("dpkg-query", "-W", "-f", "${Package} ${Version}\n", "lib*-dev", "linux-libc-dev", "libstdc++*")])
common = hashlib.sha256(common.encode()).hexdigest()
for path in files:
    key = hashlib.sha256(common.encode())
    for name in checks(path) + closure(path):
        key.update(f"{name}\n{len(text_of(name))}\n{text_of(name)}".encode())
    print(key.hexdigest(), path)
