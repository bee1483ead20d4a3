#include "overlay/scan.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <thread>

#include "overlay/manifest_writer.h"
#include "overlay/xattr.h"
#include "sys/clock.h"
#include "sys/unique_fd.h"

namespace siteswap::overlay {

namespace {

struct ScannedDirectory;

struct ScannedEntry {
  std::string name;
  struct stat st;
  std::string target, xattrs;
  std::unique_ptr<ScannedDirectory> directory;
};

struct ScannedDirectory {
  std::string path;  // "" for the root
  std::vector<ScannedEntry> entries;
};

class Scanner {
 public:
  explicit Scanner(int lowerFd) : lowerFd_(lowerFd) {}

  ScanError run(ScannedDirectory& root, const ScanProgress& progress) {
    queue_.push_back(&root);
    unfinished_ = 1;
    std::vector<std::thread> threads;
    const unsigned count = scanThreads();
    for (unsigned i = 0; i < count; ++i) threads.emplace_back([this] { work(); });
    {
      std::unique_lock lock(mutex_);
      while (unfinished_ > 0) {
        finished_.wait_for(lock, std::chrono::milliseconds(100));
        if (progress) {
          lock.unlock();
          progress(entries_);
          lock.lock();
        }
      }
    }
    for (auto& thread : threads) thread.join();
    if (progress) progress(entries_);
    return error_;
  }

 private:
  void work() {
    std::unique_lock lock(mutex_);
    for (;;) {
      more_.wait(lock, [&] { return !queue_.empty() || unfinished_ == 0; });
      if (queue_.empty()) return;
      ScannedDirectory* directory = queue_.back();
      queue_.pop_back();
      const bool skip = error_.errorNumber != 0;
      lock.unlock();
      ScanError error = skip ? ScanError{} : read(*directory);
      lock.lock();
      if (error.errorNumber != 0 && error_.errorNumber == 0) error_ = error;
      for (auto& entry : directory->entries) {
        if (!entry.directory) continue;
        queue_.push_back(entry.directory.get());
        ++unfinished_;
      }
      --unfinished_;
      more_.notify_all();
      if (unfinished_ == 0) finished_.notify_all();
    }
  }

  ScanError read(ScannedDirectory& directory) {
    const char* path = directory.path.empty() ? "." : directory.path.c_str();
    sys::UniqueFd fd(::openat(lowerFd_, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (!fd) return {errno, directory.path};
    const int own = ::dup(fd.get());
    DIR* stream = own >= 0 ? ::fdopendir(own) : nullptr;
    if (stream == nullptr) {
      const int e = errno;
      if (own >= 0) ::close(own);
      return {e, directory.path};
    }
    ScanError error;
    const std::string procPath = "/proc/self/fd/" + std::to_string(fd.get()) + "/";
    for (;;) {
      errno = 0;
      const dirent* d = ::readdir(stream);
      if (d == nullptr) {
        if (errno != 0) error = {errno, directory.path};
        break;
      }
      if (std::strcmp(d->d_name, ".") == 0 || std::strcmp(d->d_name, "..") == 0) continue;
      ScannedEntry entry;
      entry.name = d->d_name;
      const std::string entryPath = joinPath(directory.path, entry.name);
      if (::fstatat(fd.get(), d->d_name, &entry.st, AT_SYMLINK_NOFOLLOW) != 0) {
        error = {errno, entryPath};
        break;
      }
      if (S_ISLNK(entry.st.st_mode)) {
        entry.target.resize(PATH_MAX);
        const ssize_t n = ::readlinkat(fd.get(), d->d_name, entry.target.data(), entry.target.size());
        if (n < 0) {
          error = {errno, entryPath};
          break;
        }
        entry.target.resize(static_cast<size_t>(n));
      }
      const Xattrs xattrs = readXattrs(procPath + entry.name);
      if (!xattrs.empty()) entry.xattrs = encodeXattrs(xattrs);
      if (S_ISDIR(entry.st.st_mode)) {
        entry.directory = std::make_unique<ScannedDirectory>();
        entry.directory->path = entryPath;
      }
      directory.entries.push_back(std::move(entry));
      ++entries_;
    }
    ::closedir(stream);
    return error;
  }

  const int lowerFd_;
  std::mutex mutex_;  // guards queue_, unfinished_, error_
  std::condition_variable more_, finished_;
  std::vector<ScannedDirectory*> queue_;
  size_t unfinished_ = 0;
  ScanError error_;
  std::atomic<uint64_t> entries_{0};
};

Entry entryOf(const struct stat& st) {
  Entry e{};
  e.size = static_cast<uint64_t>(st.st_size);
  e.blocks = static_cast<uint64_t>(st.st_blocks);
  e.atimeNs = sys::toNs(st.st_atim);
  e.mtimeNs = sys::toNs(st.st_mtim);
  e.ctimeNs = sys::toNs(st.st_ctim);
  e.lowerIno = st.st_ino;
  e.mode = st.st_mode;
  e.uid = st.st_uid;
  e.gid = st.st_gid;
  e.nlink = static_cast<uint32_t>(st.st_nlink);
  e.rdev = static_cast<uint32_t>(st.st_rdev);
  return e;
}

}  // namespace

unsigned scanThreads() {
  return std::clamp(std::thread::hardware_concurrency() * 2, 2u, 16u);
}

ScanError scanToManifest(int lowerFd, const std::string& manifestPath, uint64_t firstIno, uint64_t inoCount,
                         const ScanProgress& progress, ScanSummary& summary) {
  ScannedDirectory root;
  struct stat rootStat;
  if (::fstat(lowerFd, &rootStat) != 0) return {errno, ""};
  if (ScanError error = Scanner(lowerFd).run(root, progress); error.errorNumber != 0) return error;

  // Hard links: entries of one (device, inode) with several links get one number.
  std::map<std::pair<dev_t, ino_t>, std::pair<uint64_t, uint32_t>> groups;  // → (group number, first handle)
  ManifestWriter writer;
  const Xattrs rootXattrs = readXattrs("/proc/self/fd/" + std::to_string(lowerFd) + "/.");
  writer.add(0, "", entryOf(rootStat), "", rootXattrs.empty() ? "" : encodeXattrs(rootXattrs));
  summary.maxMtimeNs = sys::toNs(rootStat.st_mtim);
  struct Pending {
    ScannedDirectory* directory;
    uint32_t handle;
  };
  std::deque<Pending> pending{{&root, 0}};
  while (!pending.empty()) {
    const Pending at = pending.front();
    pending.pop_front();
    for (ScannedEntry& scanned : at.directory->entries) {
      Entry e = entryOf(scanned.st);
      bool furtherName = false;
      uint32_t firstHandle = 0;
      if (!S_ISDIR(e.mode) && e.nlink > 1) {
        const auto key = std::make_pair(scanned.st.st_dev, scanned.st.st_ino);
        const auto [found, isNew] = groups.try_emplace(key, groups.size() + 1, writer.size());
        e.ino = found->second.first;
        furtherName = !isNew;
        firstHandle = found->second.second;
      }
      const uint32_t handle = writer.add(at.handle, scanned.name, e, scanned.target, scanned.xattrs);
      if (furtherName) {
        writer.entry(firstHandle).flags |= kSeveralNames;
        writer.entry(handle).flags |= kSeveralNames;
      }
      summary.maxMtimeNs = std::max(summary.maxMtimeNs, e.mtimeNs);
      summary.sizeBytes += S_ISREG(e.mode) ? e.size : 0;
      if (scanned.directory) pending.push_back({scanned.directory.get(), handle});
    }
  }
  summary.entries = writer.size();
  if (writer.size() >= inoCount) return {EOVERFLOW, ""};
  summary.nextIno = writer.numberDensely(firstIno);
  return {writer.write(manifestPath, {0, summary.nextIno, summary.maxMtimeNs}), ""};
}

}  // namespace siteswap::overlay
