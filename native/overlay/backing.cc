#include "overlay/backing.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include <cerrno>
#include <vector>

#include "overlay/transaction.h"

namespace siteswap::overlay {

namespace {

constexpr size_t kMostOpen = 256;
constexpr uint64_t kLiveKey = uint64_t{1} << 63;

#ifndef RWF_DONTCACHE
constexpr int RWF_DONTCACHE = 0x80;  // Linux 6.14
#endif

#ifndef RESOLVE_CACHED
constexpr uint64_t RESOLVE_CACHED = 0x20;  // Linux 5.12
#endif

}  // namespace

Backing::Backing(int lowerFd, const std::string& layersDir)
    : lowerFd_(lowerFd), layers_(::open(layersDir.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC)) {}

FdPtr Backing::cached(uint64_t ino) {
  std::lock_guard lock(mutex_);
  const auto at = byIno_.find(ino);
  if (at == byIno_.end()) return nullptr;
  recent_.splice(recent_.begin(), recent_, at->second);
  return at->second->second;
}

FdPtr Backing::take(uint64_t ino) {
  const auto at = byIno_.find(ino);
  if (at == byIno_.end()) return nullptr;
  FdPtr fd = std::move(at->second->second);
  recent_.erase(at->second);
  byIno_.erase(at);
  return fd;
}

FdPtr Backing::keep(uint64_t ino, int raw) {
  FdPtr fd = std::make_shared<const sys::UniqueFd>(raw);
  // Closed without the lock: it may be the last of a file that was removed, and large.
  FdPtr replaced, oldest;
  std::lock_guard lock(mutex_);
  replaced = take(ino);
  recent_.emplace_front(ino, fd);
  byIno_[ino] = recent_.begin();
  if (recent_.size() > kMostOpen) {
    byIno_.erase(recent_.back().first);
    oldest = std::move(recent_.back().second);
    recent_.pop_back();
  }
  return fd;
}

namespace {

// With `cachedOnly` by what the kernel has in memory: EAGAIN otherwise (before Linux 5.12 always).
int openFile(int directory, const char* path, uint64_t flags, uint64_t resolve, bool cachedOnly) {
  open_how how{};
  how.flags = flags | O_CLOEXEC | O_NOFOLLOW;
  how.mode = (flags & O_CREAT) != 0 ? 0600 : 0;
  how.resolve = resolve | (cachedOnly ? RESOLVE_CACHED : 0);
  const int fd = static_cast<int>(::syscall(SYS_openat2, directory, path, &how, sizeof how));
  if (fd < 0 && errno == EINVAL && cachedOnly) errno = EAGAIN;
  return fd;
}

}  // namespace

int Backing::openLower(const std::string& path, bool cachedOnly) {
  // The path was a plain file below the lower when it was scanned; whatever stands there now, never leave the lower.
  return openFile(lowerFd_, path.c_str(), O_RDONLY | O_NONBLOCK, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS, cachedOnly);
}

FdPtr Backing::openCommitted(const Committed& file, bool cachedOnly, int& error) {
  const Entry& e = file.entry();
  if (FdPtr fd = cached(e.ino)) return fd;
  int raw;
  if (e.layer == 0) {
    raw = openLower(file.lowerPath(), cachedOnly);
  } else {
    const std::string path = std::to_string(e.layer) + "/" + Transaction::bodyName(e.body);
    raw = openFile(layers_.get(), path.c_str(), O_RDONLY, 0, cachedOnly);
  }
  if (raw < 0) {
    // The file is there in this generation: that its bytes were taken away behind our back is damage. ENOENT would send
    // an import on to look elsewhere.
    error = errno == ENOENT || errno == ENOTDIR || errno == ELOOP || errno == EBADF ? EIO : errno;
    return nullptr;
  }
  return keep(e.ino, raw);
}

void Backing::fetch(const Committed& file) {
  int error = 0;
  const FdPtr fd = openCommitted(file, false, error);
  if (fd) ::posix_fadvise(fd->get(), 0, static_cast<off_t>(file.entry().size), POSIX_FADV_WILLNEED);
}

FdPtr Backing::openBody(int bodiesFd, uint64_t ino, Body body, int& error) {
  const bool live = body.isLive, create = body.mayCreate;
  const uint64_t key = live ? ino | kLiveKey : ino;
  if (FdPtr fd = cached(key)) return fd;
  const std::string name = Transaction::bodyName(ino);
  const int raw = openFile(bodiesFd, name.c_str(), O_RDWR | (create ? O_CREAT : 0), 0, body.cachedOnly);
  if (raw < 0) {
    error = errno;
    return nullptr;
  }
  return keep(key, raw);
}

void Backing::removeBody(int bodiesFd, uint64_t ino, bool isLive) {
  FdPtr open;
  {
    std::lock_guard lock(mutex_);
    open = take(isLive ? ino | kLiveKey : ino);
  }
  ::unlinkat(bodiesFd, Transaction::bodyName(ino).c_str(), 0);
}

void Backing::closeBodies(const std::function<bool(uint64_t ino)>& isMeant) {
  std::vector<FdPtr> open;  // closed without the lock
  std::lock_guard lock(mutex_);
  std::vector<uint64_t> numbers;
  for (const auto& [ino, fd] : recent_) {
    if (isMeant(ino)) numbers.push_back(ino);
  }
  for (const uint64_t ino : numbers) open.push_back(take(ino));
}

int readBytes(int fd, char* into, size_t sizeBytes, uint64_t offset, ReadFlags how, size_t& done) {
  int flags = (how.cachedOnly ? RWF_NOWAIT : 0) | (how.once ? RWF_DONTCACHE : 0);
  while (done < sizeBytes) {
    const iovec part{into + done, sizeBytes - done};
    const ssize_t n = ::preadv2(fd, &part, 1, static_cast<off_t>(offset + done), flags);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno == EOPNOTSUPP && (flags & RWF_DONTCACHE) != 0) {
      flags &= ~RWF_DONTCACHE;
      continue;
    }
    if (n < 0) return errno;
    if (n == 0) break;
    done += static_cast<size_t>(n);
  }
  return 0;
}

int Source::read(char* into, size_t sizeBytes, uint64_t offset, bool cachedOnly, size_t& done) const {
  const bool once = isCommitted && size >= kCacheOnceBytes;
  const int failed = readBytes(fd->get(), into, sizeBytes, offset, {.cachedOnly = cachedOnly, .once = once}, done);
  return failed == 0 && isCommitted && done < sizeBytes ? EIO : failed;
}

int copyBytes(int from, int to, uint64_t bytes) {
  loff_t in = 0, out = 0;
  while (bytes > 0) {
    const ssize_t n = ::copy_file_range(from, &in, to, &out, bytes, 0);
    if (n > 0) {
      bytes -= static_cast<uint64_t>(n);
      continue;
    }
    if (n == 0) return EIO;
    if (errno == EINTR) continue;
    if (errno != EXDEV && errno != EINVAL && errno != EOPNOTSUPP && errno != ENOSYS) return errno;
    break;
  }
  std::vector<char> buffer(bytes > 0 ? 1 << 18 : 0);
  while (bytes > 0) {
    const ssize_t n = ::pread(from, buffer.data(), std::min<uint64_t>(buffer.size(), bytes), in);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return errno;
    if (n == 0) return EIO;
    for (ssize_t done = 0; done < n;) {
      const ssize_t w = ::pwrite(to, buffer.data() + done, static_cast<size_t>(n - done), out + done);
      if (w < 0 && errno != EINTR) return errno;
      if (w > 0) done += w;
    }
    in += n, out += n, bytes -= static_cast<uint64_t>(n);
  }
  return 0;
}

}  // namespace siteswap::overlay
