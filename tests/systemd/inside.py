"""In the container that tests/systemd/run boots: services with the library, one after the other."""
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time

UNITS = "/etc/systemd/system"
REDIS = UNITS + "/redis-server.service.d"
NO_UNIX = "Type=simple\nRestrictAddressFamilies=\nRestrictAddressFamilies=AF_INET AF_INET6"
NO_MEMFD = "SystemCallFilter=~memfd_create"
BARE = "\n".join(f"{name}=no" for name in (
    "PrivateTmp", "PrivateDevices", "ProtectHome", "ProtectSystem", "LockPersonality", "MemoryDenyWriteExecute",
    "NoNewPrivileges", "PrivateUsers", "ProtectClock", "ProtectControlGroups", "ProtectHostname", "ProtectKernelLogs",
    "ProtectKernelModules", "ProtectKernelTunables", "RemoveIPC", "RestrictNamespaces", "RestrictRealtime", "RestrictSUIDSGID",
)) + """
ProtectProc=default
RestrictAddressFamilies=
SystemCallArchitectures=
SystemCallFilter=
NoExecPaths=
ExecPaths="""
# What is added to redis' unit; the reason why it is on TCP, or None.
CASES = [
    ("Debian's unit with all its hardening", "", None),
    ("no hardening", BARE, None),
    ("MemoryDenyWriteExecute", BARE + "\nMemoryDenyWriteExecute=yes", None),
    ("PrivateTmp", BARE + "\nPrivateTmp=yes", None),
    ("PrivateUsers", BARE + "\nPrivateUsers=yes", None),
    ("ProtectProc=invisible, ProcSubset=pid", BARE + "\nProtectProc=invisible\nProcSubset=pid", None),
    ("ProtectSystem=strict", BARE + "\nProtectSystem=strict", None),
    ("DynamicUser", "User=redis-alone\nGroup=\nDynamicUser=yes\nExecStart=\n"
     "ExecStart=/usr/bin/redis-server --port 6379 --save '' --appendonly no --supervised systemd",
     "peer belongs to another user"),  # its user id is none of a service's, and so root's end shares no memory with it
    ("SystemCallFilter=@system-service", BARE + "\nSystemCallFilter=@system-service", None),
    ("RestrictAddressFamilies without AF_UNIX", NO_UNIX, "agent's socket cannot be bound"),
    ("RestrictAddressFamilies without AF_NETLINK, which root at the other end does without", BARE +
     "\nRestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX", None),
    ("SystemCallFilter without memfd_create", NO_MEMFD, "a system call filter forbids what the library needs"),
]
wrong = 0


def run(*command):
    answer = subprocess.run(command, capture_output=True, text=True)
    if answer.returncode != 0:
        print(f"{' '.join(command)}: {answer.returncode}\n{answer.stdout}{answer.stderr}", flush=True)
        subprocess.run(["journalctl", "-n", "20", "--no-pager"])
        sys.exit(1)
    return answer.stdout


def main_pid(unit):
    return int(run("systemctl", "show", "--value", "-p", "MainPID", unit))


def said(what, expected, found, doctor):
    global wrong
    good = found == expected and (expected is None or expected in doctor)
    wrong += not good
    print(f"{what}: {'accelerated' if found is None else 'TCP: ' + str(found)}{'' if good else ', WRONG'}", flush=True)
    if not good:
        print(doctor)


def wait_for(port):
    for _ in range(100):
        try:
            return socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            time.sleep(0.1)
    sys.exit(f"nobody listens on {port}")


def look(what, unit, expected, port):
    """A client of this process, which has the library, talks to the unit; then what the tools say of it."""
    client = socket.create_connection(("127.0.0.1", port))
    for _ in range(300):
        client.sendall(b"PING\r\n")
        assert client.recv(7, socket.MSG_WAITALL) == b"+PONG\r\n"
    time.sleep(0.2)
    for _ in range(3000):
        client.sendall(b"PING\r\n")
        assert client.recv(7, socket.MSG_WAITALL) == b"+PONG\r\n"
    pid = main_pid(unit)
    streams = [stream for process in json.loads(run("/usr/bin/xenloop", "stat", "--json"))["processes"]
               for stream in process["streams"] if stream["pid"] == pid]
    doctor = subprocess.run(["/usr/bin/xenloop", "doctor", str(pid)], capture_output=True, text=True).stdout
    found = "no stream" if not streams else None if streams[0]["route_send"] != "tcp" else streams[0]["reason"]
    said(what, expected, found, doctor)
    client.close()


def main():
    # This process has to find out, too, what the container's filter allows.
    thread = threading.Thread(target=int)
    thread.start()
    thread.join()
    for what, options, expected in CASES:
        with open(REDIS + "/zz.conf", "w", encoding="ascii") as file:
            file.write("[Unit]\nStartLimitIntervalSec=0\n[Service]\n" + options + "\n")
        run("systemctl", "daemon-reload")
        run("systemctl", "restart", "redis-server")
        wait_for(6379)
        look(what, "redis-server", expected, 6379)
    os.unlink(REDIS + "/zz.conf")
    run("systemctl", "daemon-reload")
    run("systemctl", "restart", "redis-server")
    before = main_pid("redis-server")
    os.kill(before, 9)
    while main_pid("redis-server") in (0, before):
        time.sleep(0.1)
    wait_for(6379)
    look("Restart=, after a kill", "redis-server", None, 6379)
    look("started by its socket", "activated.service", None, 7001)
    # No Xen here: neither is started, and that is no failure.
    for unit in ("xenloopd.service", "xenloopd-dom0.service"):
        run("systemd-analyze", "--man=no", "verify", f"/usr/lib/systemd/system/{unit}")
        run("systemctl", "start", unit)
        state = run("systemctl", "show", "--value", "-p", "ActiveState", unit).strip()
        print(f"{unit}: {state}")
        if state != "inactive":
            sys.exit(1)
    print("systemd: as expected" if wrong == 0 else f"systemd: {wrong} wrong")


ACTIVATED = '''
import socket, threading
threading.Thread(target=int).start()
end = socket.socket(fileno=3).accept()[0]
while block := end.recv(6, socket.MSG_WAITALL):
    end.sendall(b"+PONG\\r\\n")
'''


def install():
    shutil.copytree("/test/tree/usr", "/usr", dirs_exist_ok=True)
    os.makedirs(REDIS, exist_ok=True)
    shutil.copy("/test/redis-server.service.d-xenloop.conf", REDIS + "/xenloop.conf")
    with open(UNITS + "/activated.socket", "w", encoding="ascii") as file:
        file.write("[Socket]\nListenStream=127.0.0.1:7001\n")
    with open("/test/activated.py", "w", encoding="ascii") as file:
        file.write(ACTIVATED)
    with open(UNITS + "/activated.service", "w", encoding="ascii") as file:
        file.write("[Service]\nEnvironment=LD_PRELOAD=libxenloop.so\nExecStart=python3 /test/activated.py\n")
    run("systemctl", "daemon-reload")
    run("systemctl", "start", "activated.socket")


if "LD_PRELOAD" not in os.environ:
    install()
    os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, "LD_PRELOAD": "libxenloop.so"})
del os.environ["LD_PRELOAD"]
main()
