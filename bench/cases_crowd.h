// The measurements with many connections at once; part of cases.h.
#ifndef XENLOOP_BENCH_CASES_CROWD_H_
#define XENLOOP_BENCH_CASES_CROWD_H_

#include "bench/cases.h"

namespace xenloop::bench {

void RunIdle(const Setup& setup, const SampleSink& sink);
void RunMany(const Setup& setup, const SampleSink& sink);

}  // namespace xenloop::bench

#endif  // XENLOOP_BENCH_CASES_CROWD_H_
