#!/usr/bin/env python3
"""Which folder may include which, and what is written in one place only.

    layers.py              checks this source tree; a finding is a line FILE:LINE: RULE: what
    layers.py --self-test  plants one violation a rule in a copy, and fails if one is not found
    layers.py --sizes      tells how long the files of preload/ are

What it checks is in laws.py.

The order of preload/'s rooms is read from preload/README.md, so that the page and the check agree.
A rule that is narrower than "one place only" says why in its comment.
"""

import argparse
import os
import re
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.dont_write_bytecode = True  # this source tree stays as it is
from laws import (ALLOWED, BELOW_PRELOAD, DAEMON, FOREIGN, GLOBALS, LIBRARY, LONGEST_FUNCTION, LONGEST_IN_PRELOAD,
                  NINE_OF_TEN_IN_PRELOAD, ONLY, PRODUCT, SOURCES, TRANSPORTS_SEEN_BY, WITH_TESTS)


class Tree:
    """The text of all files that the rules are about, by path."""

    def __init__(self, root):
        self.texts, self.lines, self.matches = {}, {}, {}
        self.ends = set()  # all files, by each end of their paths: side.h, side/side.h, preload/side/side.h
        for top in WITH_TESTS + ("findings",):
            for folder, subfolders, names in os.walk(os.path.join(root, top)):
                subfolders[:] = [name for name in subfolders if name != "corpus"]
                for name in names:
                    self.Read(root, os.path.relpath(os.path.join(folder, name), root))
        for name in os.listdir(root):
            if name.endswith(".md"):
                self.Read(root, name)

    def Read(self, root, path):
        parts = path.split("/")
        self.ends.update("/".join(parts[i:]) for i in range(len(parts)))
        if path.endswith(SOURCES + (".md", "CMakeLists.txt")):
            with open(os.path.join(root, path), encoding="utf-8") as file:
                self.Put(path, file.read())

    def Put(self, path, text):
        self.texts[path] = text
        self.lines[path] = [re.sub(r"(^|\s)//.*", "", line).rstrip() for line in text.splitlines()]

    def With(self, path, text):
        """A copy in which `text` stands at the end of a file, which may be a new one."""
        copy = Tree.__new__(Tree)
        copy.texts, copy.lines, copy.matches, copy.ends = dict(self.texts), dict(self.lines), self.matches, self.ends
        copy.Put(path, self.texts.get(path, "") + text)
        return copy

    def Sources(self, folders):
        prefixes = tuple(folder + "/" for folder in folders)
        return [path for path in sorted(self.texts) if path.startswith(prefixes) and path.endswith(SOURCES)]

    def Lines(self, path):
        """(number, text without // comments)"""
        return enumerate(self.lines[path], 1)

    def Matches(self, path, key, look):
        """[(number, what `look` makes of the line)] of lines where that is something; once a text (the self-test asks
        often)."""
        key = (key, self.texts[path])
        if key not in self.matches:
            self.matches[key] = [(n, look(line)) for n, line in self.Lines(path) if look(line) is not None]
        return self.matches[key]


def RoomOrder(tree):
    """preload/'s rooms from above to below, as README.md has them: [[abi], ..., [libc, settings]]."""
    for line in tree.texts["preload/README.md"].splitlines():
        if re.fullmatch(r"    \w+( > \w+)+(, \w+)*", line):
            return [floor.strip().split(", ") for floor in line.split(">")]
    sys.exit("layers.py: preload/README.md has no line that tells the order of the rooms")


def AllowedIncludes(tree):
    allowed = {folder: list(below) for folder, below in ALLOWED.items()}
    order = RoomOrder(tree)
    for floor, rooms in enumerate(order):
        below = ["preload/" + room for lower in order[floor + 1:] for room in lower]
        for room in rooms:
            folder = "preload/" + room
            allowed[folder] = below + BELOW_PRELOAD + TRANSPORTS_SEEN_BY.get(folder, [])
    allowed["preload"] = []
    return allowed


INCLUDE = re.compile(r'\s*#\s*include\s*"([^"]+)"')


def Includes(tree, folders):
    """(file, line number, included file) for all "quoted" includes."""
    for path in tree.Sources(folders):
        for number, included in tree.Matches(path, INCLUDE, lambda line: (INCLUDE.match(line) or (0, None))[1]):
            yield path, number, included


def CheckIncludes(tree):
    allowed = AllowedIncludes(tree)
    for path, number, included in Includes(tree, PRODUCT):
        where = f"{path}:{number}"
        folder, target = os.path.dirname(path), os.path.dirname(included)
        foreign = [f for top, fs in FOREIGN.items() if not top or (folder + "/").startswith(top + "/") for f in fs]
        if any(included.startswith(prefix) for prefix in foreign):
            continue
        if included not in tree.texts:
            yield where, "include", f'"{included}" is no file of this tree'
        elif folder not in allowed:
            yield where, "include", f"{folder}/ stands in no rule of tests/layers"
        elif target != folder and target not in allowed[folder] and included not in allowed[folder]:
            yield where, "include", f"{folder}/ may not include {included}"


def CheckCircles(tree):
    """No circle between folders: what is on one would be one room in truth."""
    arrows = {}
    for path, number, included in Includes(tree, PRODUCT):
        folder, target = os.path.dirname(path), os.path.dirname(included)
        if target != folder and included in tree.texts:
            arrows.setdefault(folder, {}).setdefault(target, f"{path}:{number}")
    done, trail = set(), []

    def Visit(folder):
        if folder in trail:
            circle = trail[trail.index(folder):] + [folder]
            yield arrows[trail[-1]][folder], "circle", " -> ".join(circle)
            return
        if folder in done:
            return
        trail.append(folder)
        for target in sorted(arrows.get(folder, ())):
            yield from Visit(target)
        trail.pop()
        done.add(folder)

    for folder in sorted(arrows):
        yield from Visit(folder)


def CheckLayersInCMake(tree):
    """What links a room's library (USES) goes downwards as its includes do."""
    allowed = AllowedIncludes(tree)
    place = {"channel": "channel", "discovery": "discovery"}
    place.update({f.split("/")[1]: f for f in allowed if f.startswith("preload/")})
    for room in sorted(place.values()):
        path = room + "/CMakeLists.txt"
        if path not in tree.texts:
            continue
        for layer in re.finditer(r"xenloop_layer\((\w+)([^)]*)\)", tree.texts[path]):
            uses = re.search(r"\bUSES\b(.*)", layer.group(2), re.DOTALL)
            for name in uses.group(1).split() if uses else ():
                if place.get(name) not in allowed[room]:
                    yield path + ":1", "layer", f"the library {layer.group(1)} may not use {name}"


def CheckOnly(tree):
    for rule in ONLY:
        for path in tree.Sources(rule.within):
            if rule.Permits(path):
                continue
            for number, line in tree.Matches(path, rule.pattern,
                                             lambda line: line if rule.pattern.search(line) else None):
                yield f"{path}:{number}", rule.name, f"{line.strip()}   ({rule.says})"


def GlobalIn(line):
    """The name of the mutable object with static storage that this line defines. It relies on the formatting: what
    stands in the first column is in no function; only `static` and `thread_local` are asked for further right."""
    line = re.sub(r" ABSL_\w+\([^)]*\)", "", line)
    head = re.split(r"[={;]", line)[0]
    if not re.search(r"[;{=]$", line) or re.search(r"[()]", re.sub(r"alignas\([^)]*\)", "", head)):
        return None
    head = re.sub(r"alignas\([^)]*\)", "", head).strip()
    if line.startswith(" "):
        if not re.match(r"(inline |static |thread_local |__thread )*(static|thread_local|__thread) ", head):
            return None
    elif not re.match(r"\w", line) or re.match(
            r"(using|typedef|namespace|struct|class|enum|union|template|public|private|return|extern)\b", line):
        return None
    is_pointer = "*" in head
    constant = re.search(r"\*\s*const\s+\w", head) if is_pointer else re.search(r"\bconst\b", head)
    if constant or re.search(r"\b(constexpr|extern|friend|using)\b", head):
        return None
    name = re.search(r"[\w:<>*& ]+?[ *&]([\w:]+)\s*(\[.*)?$", head)
    return name.group(1).split("::")[-1] if name else None


def CheckGlobals(tree):
    for path in tree.Sources(LIBRARY):
        if path.startswith(DAEMON):
            continue
        known = GLOBALS.get(path, "").split()
        found = set()
        for number, name in tree.Matches(path, "global", GlobalIn):
            found.add(name)
            if name not in known:
                yield f"{path}:{number}", "global", f"{name} is a new mutable global"
        for name in known:
            if name not in found:
                yield path + ":1", "global", f"{name} is in the list of tests/layers, but not here"
    for path in GLOBALS:
        if path not in tree.texts:
            yield path + ":1", "global", "is in the list of tests/layers, but no file"


def SizesOfPreload(tree):
    return sorted((len(tree.lines[path]), path) for path in tree.Sources(("preload",)))


def CheckSizes(tree):
    sizes = SizesOfPreload(tree)
    for length, path in sizes:
        if length > LONGEST_IN_PRELOAD:
            yield path + ":1", "size", f"{length} lines; {LONGEST_IN_PRELOAD} are the most in preload/"
    long = [path for length, path in sizes if length > NINE_OF_TEN_IN_PRELOAD]
    if len(long) * 10 > len(sizes):
        yield long[-1] + ":1", "size", (f"{len(long)} of {len(sizes)} files of preload/ are longer than "
                                        f"{NINE_OF_TEN_IN_PRELOAD} lines; one in ten may be")


NO_FUNCTION = re.compile(r"\s*(if|for|while|switch|else|do|return|case|namespace|struct|class|enum|union)\b")


def Functions(lines):
    """(first line, lines) of each function, as clang-format writes them: the brace that ends one stands alone,
    below where it began."""
    number = 0
    while number < len(lines):
        begin = number
        number += 1
        margin = re.match(r"( {0}| {2})(?=[A-Za-z_~])", lines[begin])
        if not margin or NO_FUNCTION.match(lines[begin]):
            continue
        head = begin
        while head < len(lines) and not lines[head].split("//")[0].rstrip().endswith(("{", "}", ";", ":", ">")):
            head += 1
        text = "".join(lines[begin:head + 1])
        if head == len(lines) or "(" not in text or not lines[head].rstrip().endswith("{"):
            continue
        end = next((i for i in range(head, len(lines)) if lines[i].startswith(margin.group(1) + "}")), None)
        if end is not None:
            yield begin + 1, end - begin + 1


def FunctionsOfPreload(tree):
    return [(length, path, first) for path in tree.Sources(("preload",)) if path.endswith((".h", ".cc"))
            for first, length in Functions(tree.lines[path])]


def CheckFunctions(tree):
    for length, path, first in FunctionsOfPreload(tree):
        # One switch, with a case for each system call.
        if length > LONGEST_FUNCTION and " syscall(" not in tree.lines[path][first - 1]:
            yield f"{path}:{first}", "function", f"{length} lines; {LONGEST_FUNCTION} are the most in preload/"


def CheckGuards(tree):
    for path in tree.Sources(WITH_TESTS):
        if path.endswith(".h") and not any(line == "#pragma once" for _, line in tree.Lines(path)):
            yield path + ":1", "guard", "no #pragma once"


def CheckHeads(tree):
    """What a file is for stands in its first lines."""
    for path in tree.Sources(WITH_TESTS):
        if not re.match(r"\s*(//|/\*)", tree.texts[path]):
            yield path + ":1", "head", "no comment at the head"


NAME = re.compile(r"(?<![\w./<$-])((?:[a-z_0-9]+/)*[a-z_0-9]+\.(?:h|cc|def|md|pml|sh|py))\b")
KERNEL = ("linux/", "include/net/")


def CheckNames(tree):
    """What a page or a comment names is there."""
    for path, text in sorted(tree.texts.items()):
        is_page = path.endswith(".md")
        if not is_page and not path.endswith(SOURCES):
            continue
        for number, line in enumerate(text.splitlines(), 1):
            said = line if is_page else line.partition("//")[2]
            for name in NAME.findall(said) if "." in said else ():
                if name not in tree.ends and not name.startswith(KERNEL):
                    yield f"{path}:{number}", "name", f"no file {name}"


CHECKS = (CheckIncludes, CheckCircles, CheckLayersInCMake, CheckOnly, CheckGlobals, CheckSizes, CheckFunctions,
          CheckGuards, CheckHeads, CheckNames)


def Findings(tree):
    return [finding for check in CHECKS for finding in check(tree)]


def SelfTest(tree):
    """(rule that must speak, file or files, line to append, or how many empty ones)"""
    small = [path for length, path in SizesOfPreload(tree) if length < 100]
    plants = [
        ("include", "preload/side/side.h", '#include "preload/agent/agent_state.h"'),
        ("include", "preload/settings/rules.h", '#include "preload/libc/real.h"'),
        ("include", "channel/fifo.h", '#include "preload/side/side.h"'),
        ("include", "channel/base/lock.h", '#include "discovery/registry.h"'),
        ("include", "channel/local/local_transport.cc", '#include "channel/xen/xen_transport.h"'),
        ("include", "channel/xen/xen_calls.cc", '#include "channel/stream.h"'),
        ("include", "discovery/owner.cc", '#include "channel/fifo.h"'),
        ("include", "discovery/owner.cc", '#include "discovery/daemon/neighbours.h"'),
        ("include", "preload/agent/agent.cc", '#include "discovery/daemon/neighbours.h"'),
        ("include", "preload/socket/send.cc", '#include "channel/xen/xen_transport.h"'),
        ("include", "tools/doctor.cc", '#include "preload/side/side.h"'),
        ("include", "preload/agent/agent.cc", '#include "absl/strings/str_cat.h"'),
        ("include", "preload/side/side.cc", '#include "side.h"'),
        ("circle", "preload/libc/real.h", '#include "preload/abi/abi.h"'),
        ("layer", "preload/side/CMakeLists.txt", "xenloop_layer(planted SOURCES a.cc USES agent)"),
        ("global", "preload/socket/send.cc", "int planted = 0;"),
        ("global", "preload/socket/send.cc", "  static char planted[8];"),
        ("global", "channel/transport.h", "inline std::atomic<uint32_t> planted{0};"),
        ("size", "preload/socket/socket.h", LONGEST_IN_PRELOAD),
        ("size", small[:len(tree.Sources(("preload",))) // 10 + 1], NINE_OF_TEN_IN_PRELOAD),
        ("function", "preload/socket/send.cc", "int Planted() {\n" + "  Call();\n" * LONGEST_FUNCTION + "}"),
        ("guard", "bench/planted.h", "int Planted();"),
        ("head", "bench/planted.cc", "int planted;"),
        ("name", "preload/README.md", "See planted.h."),
        ("name", "channel/fifo.h", "// channel/planted.cc tells why."),
    ] + [(rule.name, *rule.planted) for rule in ONLY]
    failures = 0
    innocent = set(Findings(tree))
    for rule, paths, planted in plants:
        text = "\n" * planted if isinstance(planted, int) else planted + "\n"
        copy = tree
        for path in [paths] if isinstance(paths, str) else paths:
            copy = copy.With(path, text)
        found = {finding[1] for finding in set(Findings(copy)) - innocent}
        if rule not in found:
            print(f"not found: {rule}: {paths}: {planted}", file=sys.stderr)
            failures += 1
    print(f"self-test: {len(plants) - failures} of {len(plants)} planted violations found")
    return failures


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--self-test", action="store_true")
    parser.add_argument("--sizes", action="store_true")
    parser.add_argument("--root", default=ROOT)
    options = parser.parse_args()
    tree = Tree(options.root)
    if options.self_test:
        sys.exit(SelfTest(tree) != 0)
    sizes = SizesOfPreload(tree)
    if options.sizes:
        for length, path in sizes:
            print(f"{length:5} {path}")
    findings = Findings(tree)
    for where, rule, what in findings:
        print(f"{where}: {rule}: {what}", file=sys.stderr)
    rooms = " > ".join(", ".join(floor) for floor in RoomOrder(tree))
    ninth = sizes[(len(sizes) * 9 + 9) // 10 - 1][0]
    print(f"{rooms}; {len(sizes)} files in preload/, nine of ten have at most {ninth} lines, the longest {sizes[-1][0]}")
    sys.exit(len(findings) != 0)


if __name__ == "__main__":
    main()
