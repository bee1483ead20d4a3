// The command line of siteswap-sandbox. Written by src/verifier/sandbox.ts only: a mistake in it is a bug, not the
// user's.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace siteswap::sandbox {

struct Options {
  uid_t uid = 0;
  gid_t gid = 0;
  int64_t timeMs = 0;
  uint64_t memoryBytes = 0;
  size_t processes = 0;
  size_t outputBytes = 0;
  std::string tree;                      // the mount that it looks at; empty: none
  std::string scratch;                   // an absolute path that does not exist yet
  std::vector<std::string> environment;  // NAME=VALUE, all of it
  std::vector<std::string> command;
};

// --uid N --gid N --time-ms N --memory-bytes N --processes N --output-bytes N --scratch DIR [--tree DIR] [--env
// NAME=VALUE]... -- CMD [ARGUMENT]...   Throws std::invalid_argument, which says what is wrong.
Options parseOptions(const std::vector<std::string>& arguments);

}  // namespace siteswap::sandbox
