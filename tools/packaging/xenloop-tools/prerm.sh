#!/bin/sh
set -e

if [ "$1" = remove ] && [ -d /run/systemd/system ]; then
  deb-systemd-invoke stop xenloopd.service xenloopd-dom0.service >/dev/null || true
fi
