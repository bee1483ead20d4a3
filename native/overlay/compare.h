// The lower against the manifest that was made of it: was it changed behind the mount's back?
//
// Both are walked side by side, by several threads, and only differences are kept. Called by the addon: by the keeper
// before it mounts, and by the server in the background. Never follows a symbolic link, never leaves `lowerFd`.
#pragma once

#include <atomic>
#include <cstddef>
#include <string>
#include <vector>

#include "overlay/manifest.h"
#include "overlay/scan.h"

namespace siteswap::overlay {

enum class LowerChangeKind { kAdded, kRemoved, kModified };
struct LowerChange {
  LowerChangeKind kind;
  std::string path;
  bool operator==(const LowerChange&) const = default;
};

struct CompareOptions {
  // Only directories, and what lies in a directory that differs. A name that came, went or was replaced changes its
  // directory's time, so all that is missed is a file that was changed in place.
  bool directoriesOnly = false;
  bool inBackground = false;  // one thread, which gives way to everything else
  size_t limit = SIZE_MAX;    // so many changes are enough
  const std::atomic<bool>* stop = nullptr;
};

// The changes are sorted by path. Link counts and change times are not compared: a package cache that shares its files
// by hard links changes them without changing anything here. ECANCELED when it was stopped.
ScanError compareLower(int lowerFd, const Manifest& manifest, const CompareOptions& options,
                       std::vector<LowerChange>& changes);

}  // namespace siteswap::overlay
