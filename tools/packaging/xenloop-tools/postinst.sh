#!/bin/sh
set -e

if [ "$1" = configure ]; then
  # The group that may open Xen's devices.
  getent group xenloop >/dev/null || groupadd --system xenloop
  if command -v udevadm >/dev/null; then udevadm control --reload 2>/dev/null || true; fi
  # Where there is no Xen, their conditions keep them from starting.
  if command -v deb-systemd-helper >/dev/null; then
    for unit in xenloopd.service xenloopd-dom0.service; do
      deb-systemd-helper unmask "$unit" >/dev/null || true
      if deb-systemd-helper --quiet was-enabled "$unit"; then
        deb-systemd-helper enable "$unit" >/dev/null || true
      else
        deb-systemd-helper update-state "$unit" >/dev/null || true
      fi
    done
  fi
  if [ -d /run/systemd/system ]; then
    systemctl --system daemon-reload >/dev/null || true
    # Streams go on while the daemon is restarted: programs keep its table mapped.
    action=start
    [ -z "$2" ] || action=restart
    deb-systemd-invoke "$action" xenloopd.service xenloopd-dom0.service >/dev/null || true
  fi
fi
