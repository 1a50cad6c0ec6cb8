// How a name of libc is defined here.
#pragma once

#define XENLOOP_EXPORT extern "C" __attribute__((visibility("default")))

// A second exported name. The identifier is ours, only the symbol is libc's, so no header can
// disagree about its type.
#define XENLOOP_ALIAS(name, function)                         \
  extern "C"                                                  \
      __attribute__((visibility("default"), alias(#function), \
                     copy(function))) decltype(function) xenloop_alias_##name __asm__(#name)
