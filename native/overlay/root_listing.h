// When the kernel may keep the root's listing.
//
// It keeps one listing of a directory, which any handle opened with FOPEN_CACHE_DIR ("keeping") fills and reads, and
// fuse_readdir() does not look whether what comes is older than what it has: a handle from before a swap, used after
// it, would leave the old listing for everybody. So at any time all keeping handles are of one generation: after a swap
// nobody gets one until the last of before is released. The first of the new generation is opened without
// FOPEN_KEEP_CACHE, which drops what is there, in the opener's own thread after our answer; until it is seen to have
// gone on, nobody else gets one.
//
// Every other handle is opened with FOPEN_KEEP_CACHE alone, which touches nothing: pages dropped under a handle that is
// filling would end the keeping for good (fuse_add_dirent_to_cache() gives up, and nothing begins anew). That is left
// when a program lists the first part of a large root, closes it, and a swap comes: then each listing asks, as it does
// where nothing is kept; and so it does while somebody holds a handle of an old generation open.
#pragma once

#include <cstddef>
#include <cstdint>
#include <mutex>

#include "fuse/protocol.h"

namespace siteswap::overlay {

class RootListing {
 public:
  static constexpr uint32_t kNotKeeping = FOPEN_KEEP_CACHE;

  // For a handle that will list this generation, which is HEAD (the views lock is held): FOPEN flags. With
  // FOPEN_CACHE_DIR among them it is a keeping one, and is given back to release().
  uint32_t open(uint64_t generation) {
    std::lock_guard lock(mutex_);
    if (generation_ != generation) {
      if (handles_ > 0) return kNotKeeping;
      generation_ = generation;
      isDropped_ = false;
      ++handles_;
      return FOPEN_CACHE_DIR;
    }
    if (!isDropped_) return kNotKeeping;
    ++handles_;
    return FOPEN_CACHE_DIR | FOPEN_KEEP_CACHE;
  }
  // Of a keeping handle: a request that is sent after it was opened.
  void used(uint64_t generation) {
    std::lock_guard lock(mutex_);
    if (generation == generation_) isDropped_ = true;
  }
  void release(uint64_t generation) {
    std::lock_guard lock(mutex_);
    if (generation == generation_) isDropped_ = true;
    if (handles_ > 0) --handles_;
  }

 private:
  std::mutex mutex_;                  // leaf
  uint64_t generation_ = UINT64_MAX;  // of the latest keeping handle
  bool isDropped_ = false;            // what was kept of generations before
  size_t handles_ = 0;
};

}  // namespace siteswap::overlay
