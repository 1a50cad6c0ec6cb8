// How a name of libc is defined here.
#pragma once

#define XENLOOP_EXPORT extern "C" __attribute__((visibility("default")))

// What the compiler knows of a function, known of its alias too; clang has no word for it, and does
// not ask.
#if __has_attribute(copy)
#define XENLOOP_COPY_OF(function) __attribute__((copy(function)))
#else
#define XENLOOP_COPY_OF(function)
#endif

// A second exported name. The identifier is ours, only the symbol is libc's, so no header can
// disagree about its type.
#define XENLOOP_ALIAS(name, function)                                 \
  extern "C" __attribute__((visibility("default"), alias(#function))) \
  XENLOOP_COPY_OF(function) decltype(function) xenloop_alias_##name __asm__(#name)
