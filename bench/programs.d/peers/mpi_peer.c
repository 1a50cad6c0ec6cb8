// Two ranks for SECONDS: "pingpong" prints round trips a second, "stream" MB/s of 64 KiB messages.
// The root counts; a message's first byte says whether another follows.
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { kSmall = 64, kLarge = 65536, kBatch = 64, kTag = 1 };

static char buffer[kLarge];

static double PingPong(int rank, double seconds) {
  const double start = MPI_Wtime();
  double now = start;
  long count = 0;
  do {
    if (rank == 0) {
      now = MPI_Wtime();
      buffer[0] = now - start < seconds;
      MPI_Send(buffer, kSmall, MPI_CHAR, 1, kTag, MPI_COMM_WORLD);
    }
    MPI_Recv(buffer, kSmall, MPI_CHAR, 1 - rank, kTag, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    if (rank == 1) MPI_Send(buffer, kSmall, MPI_CHAR, 0, kTag, MPI_COMM_WORLD);
    ++count;
  } while (buffer[0]);
  return (double)count / (now - start);
}

// A batch one way, then an empty answer.
static double Stream(int rank, double seconds) {
  const double start = MPI_Wtime();
  double now = start;
  double bytes = 0;
  do {
    if (rank == 0) buffer[0] = MPI_Wtime() - start < seconds;
    for (int i = 0; i < kBatch; ++i) {
      if (rank == 0) {
        MPI_Send(buffer, kLarge, MPI_CHAR, 1, kTag, MPI_COMM_WORLD);
      } else {
        MPI_Recv(buffer, kLarge, MPI_CHAR, 0, kTag, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
      }
      bytes += kLarge;
    }
    if (rank == 0) {
      MPI_Recv(NULL, 0, MPI_CHAR, 1, kTag, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    } else {
      MPI_Send(NULL, 0, MPI_CHAR, 0, kTag, MPI_COMM_WORLD);
    }
    now = MPI_Wtime();
  } while (buffer[0]);
  return bytes / 1e6 / (now - start);
}

int main(int argc, char** argv) {
  MPI_Init(&argc, &argv);
  if (argc != 3) return 2;
  int rank;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  const double seconds = atof(argv[2]);
  const double figure =
      strcmp(argv[1], "stream") == 0 ? Stream(rank, seconds) : PingPong(rank, seconds);
  if (rank == 0) printf("figure %.3f\n", figure);
  MPI_Finalize();
  return 0;
}
