// The private directory that CMD works in: its current directory, HOME and TMPDIR.
//
// Removed by descriptor and never through a symlink, with the owner's rights and not root's: the owner's other
// processes may be at work in it.
#pragma once

#include <sys/types.h>

#include <string>

#include "sys/unique_fd.h"

namespace siteswap::sandbox {

class Scratch {
 public:
  // Makes it, mode 0700; it is this process's own user's at first. Throws std::runtime_error.
  Scratch(const std::string& path, uid_t owner, gid_t group);

  // To its owner. Later than the mounts that are made over it: nobody else can move it until then.
  bool giveAway();
  // Makes it the current directory, if it is still the one that was made.
  bool enter() const;
  // All of it. What the owner may not remove stays.
  void remove();

  const std::string& path() const { return path_; }

 private:
  std::string path_;
  std::string name_;
  sys::UniqueFd parent_, directory_;
  uid_t owner_;
  gid_t group_;
};

// Everything in a directory, however deep, with a constant number of descriptors. False when something had to stay.
bool emptyDirectory(int directory);

}  // namespace siteswap::sandbox
