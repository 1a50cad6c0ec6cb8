#!/usr/bin/env bash
# MPICH, whose UCX is told to use TCP only: epoll in edge mode, and connections that UCX makes again
# in the other direction.
. "$(dirname "$0")/../../e2e/lib.sh"
need mpicc.mpich mpirun.mpich
mpicc.mpich -O2 -o "$work/mpi_check" "$(dirname "$0")/mpi_check.c"

scenario() {
  local processes
  for processes in 2 4; do
    echo "$processes processes"
    run env MPIR_CVAR_NOLOCAL=1 UCX_TLS=tcp,self UCX_NET_DEVICES=lo UCX_WARN_UNUSED_ENV_VARS=n \
      mpirun.mpich -localhost localhost -np "$processes" "$work/mpi_check" </dev/null
  done
}

both scenario
expect_fifo mpi_check
both scenario XENLOOP_UPGRADE_AFTER=0
expect_fifo mpi_check
