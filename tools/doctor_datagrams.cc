// What stands between UDP sockets and FIFOs on this machine; see doctor.h.
#include <sys/stat.h>

#include <fstream>
#include <string>

#include "absl/strings/str_cat.h"
#include "tools/config_check.h"
#include "tools/doctor.h"
#include "tools/environment.h"

namespace xenloop::tools {

void CheckDatagrams(const DoctorPlaces& places, const ProgramSurroundings& program,
                    Findings* findings) {
  const ConfigFile config = ReadConfig(program.root + places.config);
  std::string value = FindEntry(program.environment, "XENLOOP_UDP").value_or("");
  if (!OnOrOff(value)) value = config.Value("udp").value_or("");
  if (!OnOrOff(value).value_or(false)) {
    findings->Note("UDP goes by the kernel (udp = off)", "udp = on in the configuration");
    return;
  }
  std::ifstream tracked("/proc/sys/net/netfilter/nf_conntrack_count");
  uint64_t count = 0;
  if (tracked >> count && count != 0) {
    findings->Note(absl::StrCat("UDP goes by the kernel: it tracks connections (", count,
                                " at the moment), so that addresses may be translated"),
                   "programs with CAP_NET_ADMIN ask the kernel whether theirs are; others cannot, "
                   "where rules of the firewall need conntrack");
    return;
  }
  findings->Fine("UDP may go by FIFOs (udp = on)");
}

}  // namespace xenloop::tools
