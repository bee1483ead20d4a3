#include "sandbox/scratch.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <stdexcept>
#include <string_view>
#include <vector>

namespace siteswap::sandbox {
namespace {

std::vector<std::string> namesIn(int directory) {
  std::vector<std::string> names;
  // fdopendir() takes the descriptor, and the position belongs to the open file.
  const int own = openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  DIR* stream = own < 0 ? nullptr : fdopendir(own);
  if (stream == nullptr) {
    if (own >= 0) close(own);
    return names;
  }
  while (const dirent* entry = readdir(stream)) {
    const std::string_view name = entry->d_name;
    if (name != "." && name != "..") names.emplace_back(name);
  }
  closedir(stream);
  return names;
}

// Its mode may keep its owner out.
sys::UniqueFd openDirectory(int parent, const char* name) {
  const sys::UniqueFd place(openat(parent, name, O_PATH | O_NOFOLLOW | O_DIRECTORY | O_CLOEXEC));
  if (!place) return sys::UniqueFd();
  const std::string link = "/proc/self/fd/" + std::to_string(place.get());
  (void)chmod(link.c_str(), 0700);
  return sys::UniqueFd(openat(parent, name, O_RDONLY | O_NOFOLLOW | O_DIRECTORY | O_CLOEXEC));
}

[[noreturn]] void fail(const std::string& what) {
  throw std::runtime_error(what + ": " + std::strerror(errno));
}

}  // namespace

bool emptyDirectory(int directory) {
  // Directories in directories are moved up to the top, so the depth is never more than two.
  uint64_t moved = 0;
  for (;;) {
    bool progress = false;
    const std::vector<std::string> names = namesIn(directory);
    if (names.empty()) return true;
    for (const std::string& name : names) {
      if (unlinkat(directory, name.c_str(), 0) == 0) {
        progress = true;
        continue;
      }
      const sys::UniqueFd below = openDirectory(directory, name.c_str());
      if (!below) continue;
      for (const std::string& inner : namesIn(below.get())) {
        if (unlinkat(below.get(), inner.c_str(), 0) == 0 || unlinkat(below.get(), inner.c_str(), AT_REMOVEDIR) == 0)
          continue;
        // A directory can only be moved by who may write in it: its ".." changes.
        openDirectory(below.get(), inner.c_str());
        for (;;) {
          const std::string free = ".moved-" + std::to_string(moved++);
          if (faccessat(directory, free.c_str(), F_OK, AT_SYMLINK_NOFOLLOW) == 0) continue;
          (void)renameat(below.get(), inner.c_str(), directory, free.c_str());
          break;
        }
      }
      if (unlinkat(directory, name.c_str(), AT_REMOVEDIR) == 0) progress = true;
    }
    if (!progress) return false;
  }
}

Scratch::Scratch(const std::string& path, uid_t owner, gid_t group) : path_(path), owner_(owner), group_(group) {
  const size_t slash = path.rfind('/');
  name_ = path.substr(slash + 1);
  const std::string parent = slash == 0 ? "/" : path.substr(0, slash);
  parent_.reset(open(parent.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!parent_) fail(parent);
  if (mkdirat(parent_.get(), name_.c_str(), 0700) != 0) fail(path);
  directory_.reset(openat(parent_.get(), name_.c_str(), O_RDONLY | O_NOFOLLOW | O_DIRECTORY | O_CLOEXEC));
  struct stat made {};
  // Somebody else who may write there could have put another in its place.
  if (!directory_ || fstat(directory_.get(), &made) != 0 || made.st_uid != geteuid()) fail(path);
}

bool Scratch::giveAway() {
  return geteuid() != 0 || fchown(directory_.get(), owner_, group_) == 0;
}

bool Scratch::enter() const {
  struct stat here {
  }, made{};
  if (chdir(path_.c_str()) != 0 || stat(".", &here) != 0 || fstat(directory_.get(), &made) != 0) return false;
  if (here.st_ino == made.st_ino && here.st_dev == made.st_dev) return true;
  errno = ESTALE;
  return false;
}

void Scratch::remove() {
  const bool asOwner = geteuid() == 0 && owner_ != 0;
  const gid_t own = getegid();
  if (asOwner && (setegid(group_) != 0 || seteuid(owner_) != 0)) return;
  (void)fchmod(directory_.get(), 0700);
  emptyDirectory(directory_.get());
  if (asOwner && (seteuid(0) != 0 || setegid(own) != 0)) return;
  unlinkat(parent_.get(), name_.c_str(), AT_REMOVEDIR);
}

}  // namespace siteswap::sandbox
