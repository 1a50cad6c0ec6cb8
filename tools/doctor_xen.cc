// What `xenloop doctor` has to say of a guest of Xen. Decides nothing; discovery and its daemon are
// `xenloopd --peers`' business.
#include <fstream>
#include <string>

#include "absl/strings/str_cat.h"
#include "tools/doctor.h"

namespace xenloop::tools {
namespace {

std::string FirstWord(const std::string& path) {
  std::string word;
  std::ifstream(path) >> word;
  return word;
}

}  // namespace

void CheckSuspension(const DoctorPlaces& places, Findings* findings) {
  if (FirstWord(absl::StrCat(places.hypervisor, "/type")) != "xen") return;
  // Dom0 is never suspended under its programs' feet.
  if (FirstWord(absl::StrCat(places.proc, "/xen/capabilities")) == "control_d") return;
  if (FirstWord(absl::StrCat(places.hypervisor, "/guest_type")) != "PV") return;
  findings->Note(
      "this is a PV guest: if it is saved or suspended by `xl` alone, programs that share memory "
      "with "
      "other guests are killed, and its kernel may stop",
      "use `xenloop save` and the like in Dom0 (README, Migration), or type=\"pvh\" in the guest's "
      "configuration");
}

}  // namespace xenloop::tools
