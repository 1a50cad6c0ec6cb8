#!/usr/bin/env bash
# MPICH, whose UCX is told to use TCP only. UCX watches its epoll set from another one: all stays with
# TCP, which the two processes find out at their meeting.
. "$(dirname "$0")/../../e2e/lib.sh"
need mpicc.mpich mpirun.mpich
mpicc.mpich -O2 -o "$work/mpi_check" "$(dirname "$0")/mpi_check.c"

scenario() {  # two: more that wait busily than there are processors would take their time
  run env MPIR_CVAR_NOLOCAL=1 UCX_TLS=tcp,self UCX_NET_DEVICES=lo UCX_WARN_UNUSED_ENV_VARS=n \
    mpirun.mpich -localhost localhost -np 2 "$work/mpi_check" 60 </dev/null
}

both scenario
expect_no_fifo "a nested epoll set" mpi_check
again scenario XENLOOP_UPGRADE_AFTER=0
expect_no_fifo "a nested epoll set" mpi_check
