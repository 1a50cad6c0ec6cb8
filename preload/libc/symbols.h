// What the objects of this process define, read from their own symbol tables, in the order in which
// ld.so searches them. Not by dlsym: before glibc 2.34 that is in a library of its own, which a
// program need not have loaded; it may call malloc; and it is not what every libc offers.
#pragma once

namespace xenloop {

// The next definition of `name` behind this library, as dlsym(RTLD_NEXT, name) finds it; of a
// versioned name the default one. nullptr: nobody has it. Takes no lock and no memory: an object
// that is being loaded or closed by another thread must not be what it is asked for.
void* NextDefinition(const char* name);

}  // namespace xenloop
