#!/bin/sh
# Empty: without it cpack makes one that calls ldconfig, which the trigger does.
set -e
