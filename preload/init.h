// Start and end of the library in a process.
#pragma once

namespace xenloop {

void InstallForkHandlers();

}  // namespace xenloop
