#!/usr/bin/env bash
# Open MPI with nothing but its TCP transport: libevent, non-blocking connections both ways at once.
. "$(dirname "$0")/../../e2e/lib.sh"
need mpicc.openmpi mpirun.openmpi
mpicc.openmpi -O2 -o "$work/mpi_check" "$(dirname "$0")/mpi_check.c"
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1

scenario() {
  local processes
  for processes in 2 4; do
    echo "$processes processes"
    run mpirun.openmpi --oversubscribe --mca pml ob1 --mca btl tcp,self --mca btl_tcp_if_include lo \
      --mca oob_tcp_if_include lo --mca mpi_yield_when_idle 1 -np "$processes" "$work/mpi_check" </dev/null
  done
}

both scenario
expect_fifo mpi_check
again scenario XENLOOP_UPGRADE_AFTER=0
expect_fifo mpi_check
