// Reads a directory tree with several threads: the lower, at first mount (into a manifest) and at later ones (to see
// whether it was changed behind the mount's back). Never follows a symbolic link, never leaves `lowerFd`.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "overlay/manifest.h"

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

enum class LowerChangeKind { kAdded, kRemoved, kModified };
struct LowerChange {
  LowerChangeKind kind;
  std::string path;
};

// Differences between the lower now and the manifest made of it; at most `limit`. Link counts and change times are not
// compared: a package cache that shares its files by hard links changes them without changing anything here.
ScanError compareLower(int lowerFd, const Manifest& manifest, size_t limit, std::vector<LowerChange>& changes);

}  // namespace siteswap::overlay
