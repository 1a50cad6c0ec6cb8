"""What a row of the table is: a program, how it is used, and what is wanted of it."""
import importlib
from dataclasses import dataclass, replace
from typing import Callable, Tuple

TCP, UNIX, OURS, OTHER = "TCP", "UNIX socket", "libxenloop", "other build"  # as bench/sample.h has them
CARRIERS = (TCP, UNIX, OURS, OTHER)
FAMILIES = ("redis", "memcached", "http", "postgresql", "mariadb", "files", "peers", "measures")
FIFO_PART_OF_A_FIGURE = 0.5  # below, a figure says nothing about the library


@dataclass(frozen=True)
class Goal:
    must: bool  # False: aimed at
    bound: float  # libxenloop against TCP, at least


EVERY_ROW = (Goal(True, 0.98), Goal(False, 1.2))
MEAN_GOALS = (Goal(True, 1.8), Goal(False, 2.5))  # of the whole table


def at_least(must, aim):
    return (Goal(True, must), Goal(False, aim))


@dataclass(frozen=True)
class Row:
    id: str
    title: str
    unit: str
    run: Callable  # run(stage): one figure, by the stage's carrier
    setup: str = ""  # sizes, for the reader of the table
    needs: Tuple[str, ...] = ()  # programs; "file:PATH"; "module:NAME" of Python
    packages: Tuple[str, ...] = ()
    unix: bool = False  # the program can also use a UNIX socket
    lower_is_better: bool = False
    accelerated: bool = True  # False: connections too short for it
    goals: Tuple[Goal, ...] = EVERY_ROW
    smoke: bool = False  # part of the short run that only says that all works
    prepare: Callable = None  # prepare(workshop), once and natively: data, compilers
    family: str = ""  # where it is written


def all_rows():
    """In the order of the table. A family is a module family_*.py of programs that are used alike."""
    found = []
    for family in FAMILIES:
        found += [replace(row, family=family) for row in importlib.import_module(f"family_{family}").rows()]
    return found


def chosen(rows, names):
    """A name is a row, or else what rows begin with: "redis" is all of redis."""
    found = []
    for name in names:
        exact = [row for row in rows if row.id == name]
        matching = exact or [row for row in rows if row.id.startswith(name + "-")]
        if not matching:
            raise KeyError(name)
        found += matching
    return [row for row in rows if row in found]
