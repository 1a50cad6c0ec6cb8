// What compiled C++ asks of a C++ runtime even without exceptions, RTTI and new: the library links
// to none.
#include <cstddef>

extern "C" __attribute__((visibility("hidden"))) void __cxa_pure_virtual();
void __cxa_pure_virtual() { __builtin_trap(); }

// A virtual destructor refers to it; nothing here is ever created by new.
// NOLINTNEXTLINE(misc-new-delete-overloads)
void operator delete(void* object) noexcept { __builtin_trap(); }
void operator delete(void* object, std::size_t size) noexcept { __builtin_trap(); }
