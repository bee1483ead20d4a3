// When the kernel may keep the root's listing.
//
// It keeps one listing of a directory, which any handle opened with FOPEN_CACHE_DIR fills and reads, and fuse_readdir()
// does not look whether what comes is older than what it has: a handle from before a swap, used after it, would leave
// the old listing for everybody. So at any time all handles that may touch it ("keeping" ones) are of one generation:
// after a swap nobody gets one until the last of before is released, and the first of the new generation is opened
// without FOPEN_KEEP_CACHE, which drops what is there (invalidate_inode_pages2() leaves nothing, whoever holds a page).
#pragma once

#include <cstddef>
#include <cstdint>
#include <mutex>

#include "fuse/protocol.h"

namespace siteswap::overlay {

class RootListing {
 public:
  // For a handle that will list this generation, which is HEAD (the views lock is held): FOPEN flags, 0 when it must
  // not be a keeping one. Each keeping one is given back to release().
  uint32_t open(uint64_t generation) {
    std::lock_guard lock(mutex_);
    const bool isSame = generation_ == generation;
    if (!isSame && handles_ > 0) return 0;
    generation_ = generation;
    ++handles_;
    return FOPEN_CACHE_DIR | (isSame ? FOPEN_KEEP_CACHE : 0);
  }
  void release() {
    std::lock_guard lock(mutex_);
    if (handles_ > 0) --handles_;
  }

 private:
  std::mutex mutex_;                  // leaf
  uint64_t generation_ = UINT64_MAX;  // of the latest keeping handle
  size_t handles_ = 0;
};

}  // namespace siteswap::overlay
