// A library of Xen's that is loaded when it is needed: the commands also start where it is missing.
#pragma once

#include <dlfcn.h>

namespace xenloop {

// Never unloaded: a thread of its may be waiting in it.
class LoadedLibrary {
 public:
  explicit LoadedLibrary(const char* name) : handle_(dlopen(name, RTLD_NOW | RTLD_LOCAL)) {}

  // False if it, or this function of it, is not there.
  template <typename Function>
  bool Find(const char* name, Function* function) const {
    *function = handle_ == nullptr ? nullptr : reinterpret_cast<Function>(dlsym(handle_, name));
    return *function != nullptr;
  }

 private:
  void* const handle_;
};

}  // namespace xenloop
