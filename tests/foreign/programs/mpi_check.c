// Messages of all sizes between MPI processes, each byte checked: two and two, all to all,
// collective, many at once in an order of their own. Prints what was right; any wrong byte ends the
// run. mpi_check [ROUNDS]: how many for a size.
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { kLargest = 3 << 20, kMany = 64 };

static int rank, size, rounds = 300;

static unsigned char ByteOf(unsigned seed, size_t at) {
  return (unsigned char)((seed * 2654435761u + at * 40503u) >> 7);
}

static void Fill(unsigned char* bytes, size_t length, unsigned seed) {
  for (size_t i = 0; i < length; ++i) bytes[i] = ByteOf(seed, i);
}

static void Check(const unsigned char* bytes, size_t length, unsigned seed, const char* what) {
  for (size_t i = 0; i < length; ++i) {
    if (bytes[i] == ByteOf(seed, i)) continue;
    fprintf(stderr, "%s: rank %d: byte %zu of %zu is wrong\n", what, rank, i, length);
    MPI_Abort(MPI_COMM_WORLD, 3);
  }
}

static void PingPong(unsigned char* out, unsigned char* in) {
  const int partner = rank ^ 1;
  for (size_t length = 0; length <= kLargest; length = length * 3 + 1) {
    for (int round = 0; round < (length < 10000 ? rounds : rounds / 50 + 1); ++round) {
      const unsigned seed = (unsigned)(length + round);
      if (rank & 1) {
        MPI_Recv(in, (int)length, MPI_BYTE, partner, round, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        MPI_Send(in, (int)length, MPI_BYTE, partner, round, MPI_COMM_WORLD);
      } else {
        Fill(out, length, seed);
        MPI_Send(out, (int)length, MPI_BYTE, partner, round, MPI_COMM_WORLD);
        MPI_Recv(in, (int)length, MPI_BYTE, partner, round, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        Check(in, length, seed, "ping-pong");
      }
    }
    if (rank == 0) printf("ping-pong %zu\n", length);
  }
}

static void AllToAll(unsigned char* out, unsigned char* in) {
  for (int length = 1; length <= kLargest / size; length *= 7) {
    for (int round = 0; round < rounds / 30 + 1; ++round) {
      for (int to = 0; to < size; ++to)
        Fill(out + (size_t)to * length, (size_t)length, (unsigned)(rank * 64 + to + round));
      MPI_Alltoall(out, length, MPI_BYTE, in, length, MPI_BYTE, MPI_COMM_WORLD);
      for (int from = 0; from < size; ++from)
        Check(in + (size_t)from * length, (size_t)length, (unsigned)(from * 64 + rank + round),
              "all to all");
    }
    if (rank == 0) printf("all to all %d\n", length);
  }
}

static void Collective(unsigned char* bytes) {
  for (int root = 0; root < size; ++root) {
    if (rank == root) Fill(bytes, kLargest, (unsigned)root);
    MPI_Bcast(bytes, kLargest, MPI_BYTE, root, MPI_COMM_WORLD);
    Check(bytes, kLargest, (unsigned)root, "broadcast");
  }
  for (long round = 0; round < rounds; ++round) {
    long mine = rank + round, sum = 0;
    MPI_Allreduce(&mine, &sum, 1, MPI_LONG, MPI_SUM, MPI_COMM_WORLD);
    if (sum != size * (size - 1) / 2 + size * round) MPI_Abort(MPI_COMM_WORLD, 4);
    MPI_Barrier(MPI_COMM_WORLD);
  }
  if (rank == 0) puts("collective");
}

// Everybody sends to everybody at once; who receives takes the messages from the last to the first.
static void ManyAtOnce(unsigned char* out, unsigned char* in) {
  MPI_Request requests[2 * kMany];
  static MPI_Status statuses[2 * kMany];
  const size_t length = 20000;
  for (int distance = 1; distance < size; ++distance) {
    const int to = (rank + distance) % size, from = (rank + size - distance) % size;
    for (int i = 0; i < kMany; ++i) {
      const int tag = kMany - 1 - i;
      MPI_Irecv(in + (size_t)tag * length, (int)length, MPI_BYTE, from, tag, MPI_COMM_WORLD,
                &requests[i]);
    }
    for (int i = 0; i < kMany; ++i) {
      Fill(out + (size_t)i * length, length, (unsigned)(i + rank * 100));
      MPI_Isend(out + (size_t)i * length, (int)length, MPI_BYTE, to, i, MPI_COMM_WORLD,
                &requests[kMany + i]);
    }
    MPI_Waitall(2 * kMany, requests, statuses);
    for (int i = 0; i < kMany; ++i)
      Check(in + (size_t)i * length, length, (unsigned)(i + from * 100), "many");
  }
  if (rank == 0) puts("many at once");
}

int main(int argc, char** argv) {
  MPI_Init(&argc, &argv);
  if (argc > 1) rounds = atoi(argv[1]);
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  unsigned char *out = malloc(kLargest), *in = malloc(kLargest);
  if (out == NULL || in == NULL || size % 2 != 0) MPI_Abort(MPI_COMM_WORLD, 2);
  PingPong(out, in);
  AllToAll(out, in);
  Collective(out);
  ManyAtOnce(out, in);
  MPI_Finalize();
  free(out);
  free(in);
  return 0;
}
