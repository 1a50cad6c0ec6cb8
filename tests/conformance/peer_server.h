// The peer's side: obeys commands until its control socket closes. Knows nothing of gtest.

#pragma once

#include "tests/conformance/peer.h"

namespace conformance {

void ServePeer(int control, const PeerStart& start);

}  // namespace conformance
