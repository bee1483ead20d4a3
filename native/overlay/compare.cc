#include "overlay/compare.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstring>
#include <mutex>
#include <thread>

#include "sys/clock.h"
#include "sys/unique_fd.h"

namespace siteswap::overlay {

namespace {

constexpr uint32_t kEntriesAtOnce = 256;
constexpr size_t kListingBytes = 64 << 10;

// What a path that was compared a moment ago may answer when something above it is no directory any more. Whoever
// compares that reports it.
bool isGone(int errorNumber) {
  return errorNumber == ENOENT || errorNumber == ENOTDIR || errorNumber == ELOOP;
}

// Of this thread only.
void giveWay() {
  constexpr int kLowest = 19;
  // linux/ioprio.h is not for C++.
  constexpr int kWhoProcess = 1, kClassIdle = 3, kClassShift = 13;
  const auto self = static_cast<id_t>(::syscall(SYS_gettid));
  ::setpriority(PRIO_PROCESS, self, kLowest);
  ::syscall(SYS_ioprio_set, kWhoProcess, self, kClassIdle << kClassShift);
}

struct Shared {
  Shared(int lower, const Manifest& m, const CompareOptions& o) : lowerFd(lower), manifest(m), options(o) {}
  const int lowerFd;
  const Manifest& manifest;
  const CompareOptions& options;
  std::atomic<uint32_t> next{0};
  std::atomic<bool> enough{false};
  std::mutex mutex;  // guards changes, error
  std::vector<LowerChange> changes;
  ScanError error;

  bool isOver() const { return enough || (options.stop != nullptr && *options.stop); }
  void report(LowerChangeKind kind, std::string path) {
    std::lock_guard lock(mutex);
    if (changes.size() < options.limit) changes.push_back({kind, std::move(path)});
    if (changes.size() >= options.limit) enough = true;
  }
  void fail(int errorNumber, std::string path) {
    std::lock_guard lock(mutex);
    if (error.errorNumber == 0) error = {errorNumber, std::move(path)};
    enough = true;
  }
};

// One thread's half: buffers that are used again for each directory.
class Comparer {
 public:
  explicit Comparer(Shared& shared) : shared_(shared), manifest_(shared.manifest) {}

  void run() {
    if (shared_.options.inBackground) giveWay();
    for (;;) {
      const uint32_t first = shared_.next.fetch_add(kEntriesAtOnce);
      if (first >= manifest_.size()) return;
      const uint32_t end = std::min(manifest_.size(), first + kEntriesAtOnce);
      for (uint32_t i = first; i < end; ++i) {
        if (!S_ISDIR(manifest_.entry(i).mode)) continue;
        if (shared_.isOver()) return;
        setPath(i);
        if (!shared_.options.directoriesOnly || differs(i)) compareEntries(i);
      }
    }
  }

 private:
  // Siblings lie side by side in a manifest, so mostly only the last part changes.
  void setPath(uint32_t index) {
    const Entry& e = manifest_.entry(index);
    if (index == 0 || e.parent != parent_) {
      parent_ = e.parent;
      path_ = index == 0 ? "" : Committed{&manifest_, e.parent}.path();
      if (!path_.empty()) path_ += '/';
      parentLength_ = path_.size();
    }
    path_.resize(parentLength_);
    path_ += manifest_.name(e);
  }
  const char* pathOrDot() const { return path_.empty() ? "." : path_.c_str(); }

  sys::UniqueFd openDirectory(const char* path, int flags) const {
    open_how how{};
    how.flags = static_cast<uint64_t>(flags | O_DIRECTORY | O_CLOEXEC);
    how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS;
    return sys::UniqueFd(static_cast<int>(::syscall(SYS_openat2, shared_.lowerFd, path, &how, sizeof how)));
  }

  // Whether a directory has to be looked into. Walking by path may pass a symbolic link that was a directory: what was
  // found that way is only believed when it is the same, since the link itself is reported.
  bool differs(uint32_t index) {
    const Entry& e = manifest_.entry(index);
    struct stat st;
    if (::fstatat(shared_.lowerFd, pathOrDot(), &st, AT_SYMLINK_NOFOLLOW) == 0 && sameAttributes(e, st)) return false;
    if (index == 0) return true;
    const std::string parent = parentLength_ == 0 ? "." : path_.substr(0, parentLength_ - 1);
    const sys::UniqueFd fd = openDirectory(parent.c_str(), O_PATH);
    if (!fd) {
      if (!isGone(errno)) shared_.fail(errno, path_);
      return false;
    }
    if (::fstatat(fd.get(), path_.c_str() + parentLength_, &st, AT_SYMLINK_NOFOLLOW) != 0) {
      if (errno == ENOENT) {
        shared_.report(LowerChangeKind::kRemoved, path_);
      } else {
        shared_.fail(errno, path_);
      }
      return false;
    }
    if (!sameAttributes(e, st)) shared_.report(LowerChangeKind::kModified, path_);
    return S_ISDIR(st.st_mode);
  }

  static bool sameAttributes(const Entry& e, const struct stat& st) {
    return e.mode == st.st_mode && e.uid == st.st_uid && e.gid == st.st_gid && e.mtimeNs == sys::toNs(st.st_mtim);
  }

  bool isSame(const Entry& e, const struct stat& st, int directoryFd, const char* name) const {
    if (!sameAttributes(e, st)) return false;
    if (S_ISDIR(e.mode)) return true;
    if (e.lowerIno != st.st_ino || e.size != static_cast<uint64_t>(st.st_size) || e.rdev != st.st_rdev) return false;
    if (!S_ISLNK(e.mode)) return true;
    char target[PATH_MAX];
    const ssize_t n = ::readlinkat(directoryFd, name, target, sizeof target);
    return n >= 0 && manifest_.link(e) == std::string_view(target, static_cast<size_t>(n));
  }

  // Names into names_, sorted; they point into listing_. Returns an errno.
  int list(int fd) {
    size_t used = 0;
    for (;;) {
      if (listing_.size() - used < kListingBytes) listing_.resize(used + 2 * kListingBytes);
      const long n = ::syscall(SYS_getdents64, fd, listing_.data() + used, listing_.size() - used);
      if (n < 0) return errno;
      if (n == 0) break;
      used += static_cast<size_t>(n);
    }
    names_.clear();
    for (size_t at = 0; at < used;) {
      const auto* entry = reinterpret_cast<const dirent64*>(listing_.data() + at);
      if (std::strcmp(entry->d_name, ".") != 0 && std::strcmp(entry->d_name, "..") != 0)
        names_.emplace_back(entry->d_name);
      at += entry->d_reclen;
    }
    std::sort(names_.begin(), names_.end());
    return 0;
  }

  void compareEntries(uint32_t index) {
    const sys::UniqueFd fd = openDirectory(pathOrDot(), O_RDONLY);
    if (!fd) {
      if (!isGone(errno)) shared_.fail(errno, path_);
      return;
    }
    if (const int e = list(fd.get())) return shared_.fail(e, path_);
    const Entry& directory = manifest_.entry(index);
    size_t n = 0;
    uint32_t c = 0;
    while (n < names_.size() || c < directory.childCount) {
      if (shared_.isOver()) return;
      const Entry* old = c < directory.childCount ? &manifest_.entry(directory.firstChild + c) : nullptr;
      const int order = old == nullptr ? -1 : n == names_.size() ? 1 : names_[n].compare(manifest_.name(*old));
      if (order < 0) {
        shared_.report(LowerChangeKind::kAdded, joinPath(path_, names_[n]));
      } else if (!shared_.options.directoriesOnly || !S_ISDIR(old->mode)) {
        if (order > 0) {
          shared_.report(LowerChangeKind::kRemoved, joinPath(path_, manifest_.name(*old)));
        } else {
          compareEntry(*old, fd.get(), names_[n]);
        }
      }
      if (order <= 0) ++n;
      if (order >= 0) ++c;
    }
  }

  void compareEntry(const Entry& old, int directoryFd, std::string_view name) {
    struct stat st;
    // The name ends with a NUL in the listing.
    if (::fstatat(directoryFd, name.data(), &st, AT_SYMLINK_NOFOLLOW) != 0)
      return shared_.fail(errno, joinPath(path_, name));
    if (!isSame(old, st, directoryFd, name.data())) shared_.report(LowerChangeKind::kModified, joinPath(path_, name));
  }

  Shared& shared_;
  const Manifest& manifest_;
  uint32_t parent_ = UINT32_MAX;
  size_t parentLength_ = 0;
  std::string path_;
  std::vector<char> listing_;
  std::vector<std::string_view> names_;
};

}  // namespace

ScanError compareLower(int lowerFd, const Manifest& manifest, const CompareOptions& options,
                       std::vector<LowerChange>& changes) {
  Shared shared(lowerFd, manifest, options);
  const unsigned count = options.inBackground ? 1 : scanThreads();
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < count; ++i) threads.emplace_back([&] { Comparer(shared).run(); });
  for (auto& thread : threads) thread.join();
  if (options.stop != nullptr && *options.stop) return {ECANCELED, ""};
  changes = std::move(shared.changes);
  std::sort(changes.begin(), changes.end(), [](const auto& a, const auto& b) { return a.path < b.path; });
  return shared.error;
}

}  // namespace siteswap::overlay
