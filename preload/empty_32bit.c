// What a 32-bit program finds under the name of libxenloop.so: nothing, without a line from ld.so.
// /etc/ld.so.preload holds for every program of a machine, of whichever class; see README.md.
// NOLINTNEXTLINE(readability-identifier-naming): a name that a linker map shows
const char xenloop_is_not_for_32_bit = 0;
