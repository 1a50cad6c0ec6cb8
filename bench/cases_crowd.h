// The measurements with many connections at once; part of cases.h.
#pragma once

#include "bench/cases.h"

namespace xenloop::bench {

void RunIdle(const Setup& setup, const SampleSink& sink);
void RunMany(const Setup& setup, const SampleSink& sink);

}  // namespace xenloop::bench
