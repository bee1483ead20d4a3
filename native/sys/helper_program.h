// Runs a small helper program (fusermount3) and collects what it complains about. Used by fuse/mount.cc.
#pragma once

#include <string>
#include <vector>

namespace siteswap::sys {

struct HelperResult {
  int spawnError = 0;     // an errno: it could not be started (ENOENT: not installed)
  int waitStatus = 0;     // wait(2) format
  int receivedFd = -1;    // close-on-exec; -1 when none came
  std::string complaint;  // its standard error, trimmed, on one line
  bool succeeded() const { return spawnError == 0 && waitStatus == 0; }
};

// arguments[0] is the program, looked up in PATH. With `receiveFd` it gets a socket, whose number is in its environment
// as _FUSE_COMMFD, and the descriptor that it sends through it is received.
HelperResult runHelper(const std::vector<std::string>& arguments, bool receiveFd);

}  // namespace siteswap::sys
