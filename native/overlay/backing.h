// Where bytes are: files of the lower by path, bodies of layers and transactions by number. A small cache of open ones.
#pragma once

#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>

#include "overlay/manifest.h"
#include "sys/unique_fd.h"

namespace siteswap::overlay {

using FdPtr = std::shared_ptr<const sys::UniqueFd>;

class Backing {
 public:
  Backing(int lowerFd, const std::string& layersDir);

  // A committed regular file, for reading. With `cachedOnly` EAGAIN in `error` when that might have to wait for a disk;
  // EIO when it is not there.
  FdPtr openCommitted(const Committed& file, bool cachedOnly, int& error);
  // Has the page cache read a committed file; waits for the disk to find it, at most.
  void fetch(const Committed& file);
  struct Body {
    bool isLive = false;  // of the live layer, where a number may also be that of a committed file
    bool mayCreate = false;
    bool cachedOnly = false;  // as above
  };
  // A body that can still change, for reading and writing. ENOENT: nothing was written to it yet.
  FdPtr openBody(int bodiesFd, uint64_t ino, Body body, int& error);
  // Takes a body away that nobody can reach any more, and our descriptor of it: the latter of the two frees its blocks,
  // which for a large file takes tens of milliseconds.
  void removeBody(int bodiesFd, uint64_t ino, bool isLive);
  // Closes what is open of bodies with these numbers, not of the live layer. (They were removed otherwise: as long as
  // they are open, their blocks stay in use.)
  void closeBodies(const std::function<bool(uint64_t ino)>& isMeant);
  int lowerFd() const { return lowerFd_; }

 private:
  FdPtr cached(uint64_t ino);
  FdPtr keep(uint64_t ino, int fd);
  FdPtr take(uint64_t ino);  // mutex_
  int openLower(const std::string& path, bool cachedOnly);

  const int lowerFd_;
  const sys::UniqueFd layers_;  // by descriptor: a store that is moved is served on
  std::mutex mutex_;
  std::list<std::pair<uint64_t, FdPtr>> recent_;  // newest first
  std::unordered_map<uint64_t, std::list<std::pair<uint64_t, FdPtr>>::iterator> byIno_;
};

// The kernel keeps what we hand it; from this size on it does not keep the file below in its cache as well.
constexpr uint64_t kCacheOnceBytes = 32 << 20;

struct ReadFlags {
  bool cachedOnly = false;  // EAGAIN rather than wait for a disk
  bool once = false;        // leave nothing of it in the cache that was not there (Linux 6.14)
};
// Adds to what is in the buffer already, `done` bytes of it. 0 (also at the end of the file), or an errno.
int readBytes(int fd, char* into, size_t sizeBytes, uint64_t offset, ReadFlags how, size_t& done);

// Where a file's bytes come from.
struct Source {
  int error = 0;
  FdPtr fd;  // null without error: empty
  uint64_t size = 0;
  // The bytes of a generation: there are `size` of them for ever.
  bool isCommitted = false;

  // As readBytes(), of what lies within `size`. EIO where somebody has cut committed bytes behind our back: the kernel
  // would take what is missing for zeros. (A file that can change may have got shorter meanwhile.)
  int read(char* into, size_t sizeBytes, uint64_t offset, bool cachedOnly, size_t& done) const;
};

// Copies the first `bytes` of one file to another (both at offset 0), by reflink or in the kernel where possible. EIO
// when there are fewer.
int copyBytes(int from, int to, uint64_t bytes);

}  // namespace siteswap::overlay
