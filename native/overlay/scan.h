// Reads a directory tree with several threads: the lower, at first mount, into a manifest; `compare` looks at it at
// later ones. Never follows a symbolic link, never leaves `lowerFd`.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

namespace siteswap::overlay {

struct ScanError {
  int errorNumber = 0;  // 0: none
  std::string path;     // below the lower
};

struct ScanSummary {
  uint64_t entries = 0;
  uint64_t sizeBytes = 0;
  uint64_t nextIno = 0;
  int64_t maxMtimeNs = 0;
};

using ScanProgress = std::function<void(uint64_t entries)>;  // called from the calling thread, about ten times a second

// Generation 0's manifest. Numbers begin at firstIno.
ScanError scanToManifest(int lowerFd, const std::string& manifestPath, uint64_t firstIno, uint64_t inoCount,
                         const ScanProgress& progress, ScanSummary& summary);

// Threads for walking a tree: more than processors, as long as the disk may have to be waited for.
unsigned scanThreads();

}  // namespace siteswap::overlay
