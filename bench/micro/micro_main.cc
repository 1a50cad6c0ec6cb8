// Google Benchmark's main, with the two habits of our benchmarks: --smoke says only that everything
// runs, and a debug build gives no figures.
#include <benchmark/benchmark.h>

#include <cstdio>
#include <cstring>
#include <vector>

int main(int argc, char** argv) {
  std::vector<char*> arguments;
  bool smoke = false;
  for (int i = 0; i < argc; ++i) {
    if (strcmp(argv[i], "--smoke") == 0) {
      smoke = true;
    } else {
      arguments.push_back(argv[i]);
    }
  }
  static char shortest[] = "--benchmark_min_time=0.001";
  if (smoke) arguments.push_back(shortest);
  const bool optimised = strcmp(XENLOOP_BUILD_TYPE, "Release") == 0 ||
                         strcmp(XENLOOP_BUILD_TYPE, "RelWithDebInfo") == 0;
  if (!optimised && !smoke) {
    fprintf(stderr, "xenloop-micro is a %s build: no figures. Configure with the preset release.\n",
            XENLOOP_BUILD_TYPE);
    return 1;
  }
  int count = static_cast<int>(arguments.size());
  arguments.push_back(nullptr);
  benchmark::AddCustomContext("build_type", XENLOOP_BUILD_TYPE);
  if (smoke) benchmark::AddCustomContext("smoke", "these figures mean nothing");
  benchmark::Initialize(&count, arguments.data());
  if (benchmark::ReportUnrecognizedArguments(count, arguments.data())) return 1;
  if (benchmark::RunSpecifiedBenchmarks() == 0) return 1;
  benchmark::Shutdown();
  return 0;
}
