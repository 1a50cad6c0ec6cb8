#!/bin/sh
set -e

if [ -d /run/systemd/system ]; then systemctl --system daemon-reload >/dev/null || true; fi
if command -v deb-systemd-helper >/dev/null; then
  for unit in xenloopd.service xenloopd-dom0.service; do
    [ "$1" != remove ] || deb-systemd-helper mask "$unit" >/dev/null || true
    if [ "$1" = purge ]; then
      deb-systemd-helper purge "$unit" >/dev/null || true
      deb-systemd-helper unmask "$unit" >/dev/null || true
    fi
  done
fi
