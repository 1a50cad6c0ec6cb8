#!/usr/bin/env bash
# Java: a Selector as server, and clients of every kind. The JVM closes a socket under a thread that
# reads it by dup2() and a signal.
. "$(dirname "$0")/../../e2e/lib.sh"
need java javac
javac -d "$work" "$(dirname "$0")/NioCheck.java"
export JAVA_TOOL_OPTIONS="-Xmx300m -XX:+UseSerialGC -Djava.io.tmpdir=$work"

scenario() {
  pick_port port
  start server java -cp "$work" NioCheck server "$port"
  listening "$port"
  run java -cp "$work" NioCheck client "$port" 2>&1 | grep -v JAVA_TOOL_OPTIONS
  run java -cp "$work" NioCheck client "$port" end 2>&1 | grep -v JAVA_TOOL_OPTIONS
  finish server
  echo "server ended with $finished"
}

both scenario
expect_fifo java
again scenario XENLOOP_UPGRADE_AFTER=0
expect_fifo java
