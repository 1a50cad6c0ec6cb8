// The peer's side: obeys commands until its control socket closes. Knows nothing of gtest.

#ifndef TESTS_CONFORMANCE_PEER_SERVER_H_
#define TESTS_CONFORMANCE_PEER_SERVER_H_

#include "tests/conformance/peer.h"

namespace conformance {

void ServePeer(int control, const PeerStart& start);

}  // namespace conformance

#endif  // TESTS_CONFORMANCE_PEER_SERVER_H_
