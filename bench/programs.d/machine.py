"""Where and with what a run is made, and whether its figures may be published."""
import os
import platform


def _first(path, key, separator):
    try:
        with open(path, encoding="utf-8") as file:
            for line in file:
                name, _, value = line.partition(separator)
                if name.strip() == key:
                    return value.strip().strip('"')
    except OSError:
        pass
    return ""


def machine():
    return {"cpu": _first("/proc/cpuinfo", "model name", ":"), "cores": len(os.sched_getaffinity(0)),
            "kernel": platform.release(), "system": _first("/etc/os-release", "PRETTY_NAME", "="),
            "load": os.getloadavg()[0]}


def describe(about):
    return f"{about['cpu']}, {about['cores']} cores, Linux {about['kernel']}, {about['system']}"


def build_type(build):
    """Of a build tree; empty for another folder."""
    return _first(os.path.join(build, "CMakeCache.txt"), "CMAKE_BUILD_TYPE:STRING", "=")
