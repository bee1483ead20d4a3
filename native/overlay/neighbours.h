// Small committed files of one directory are read together: whoever imports a package reads most of its modules, one
// after the other, and waits for the disk at each. So when one had to come from the disk, another thread opens and
// fetches its neighbours, more of them each time. What is fetched for nothing is little, and the page cache's to drop.
#pragma once

#include <cstdint>
#include <functional>
#include <list>
#include <mutex>

#include "overlay/manifest.h"

namespace siteswap::overlay {

class Neighbours {
 public:
  static constexpr uint64_t kMostBytes = 128 << 10;  // of a file that this is for: what one READ asks for
  static constexpr uint32_t kFirst = 8, kMost = 64;  // how many are fetched at once
  static constexpr size_t kDirectories = 64;         // the latest that are remembered
  // Rounds at a time. The threads are those that serve (LeaderPool::kMaxThreads): would many readers of a slow disk
  // have all of them fetch, nobody would answer what is in the cache.
  static constexpr size_t kRunning = 4;

  // Runs it on another thread, soon. False: never.
  using Post = std::function<bool(std::function<void()> work)>;
  // Brings a file into the page cache.
  using Fetch = std::function<void(const Committed& file)>;

  Neighbours(Post post, Fetch fetch) : post_(std::move(post)), fetch_(std::move(fetch)) {}

  // This file is about to be read from the disk.
  void note(const Committed& file);

 private:
  struct Directory {
    Committed node;
    uint32_t next;   // the first child that was not fetched
    uint32_t left;   // how many are left, round to where it began
    uint32_t count;  // of the next round
    bool isRunning = false;
  };

  void fetch(const Committed& directory, uint32_t from, uint32_t count);

  const Post post_;
  const Fetch fetch_;
  std::mutex mutex_;  // leaf, but for what `post` locks
  std::list<Directory> latest_;
  size_t running_ = 0;
};

}  // namespace siteswap::overlay
