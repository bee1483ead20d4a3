#include "sandbox/namespaces.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <set>
#include <sstream>
#include <stdexcept>
#include <vector>

#include "overlay/own_root.h"

namespace siteswap::sandbox {
namespace {

// include/uapi/linux/mount.h; the number is the same on all architectures. Linux 5.12.
constexpr long kMountSetattr = 442;
constexpr unsigned int kRecursive = 0x8000;
constexpr uint64_t kReadOnly = 1;
struct MountAttributes {
  uint64_t set, clear, propagation, userNamespaceFd;
};

bool setMountAttributes(const char* path, unsigned int flags, MountAttributes attributes) {
  return syscall(kMountSetattr, AT_FDCWD, path, flags, &attributes, sizeof attributes) == 0;
}

// The list has \040 for a space.
std::string unescape(const std::string& text) {
  std::string plain;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 3 < text.size()) {
      plain += static_cast<char>(std::stoi(text.substr(i + 1, 3), nullptr, 8));
      i += 3;
    } else {
      plain += text[i];
    }
  }
  return plain;
}

struct Tree {
  std::string mountpoint;
  bool isUnmountTold;  // to copies of the mount that it is mounted on
};

// What siteswap has mounted elsewhere, in the order of mounting.
std::vector<Tree> treesBut(const std::string& keep) {
  std::ifstream list("/proc/self/mountinfo");
  std::vector<Tree> trees;
  std::set<std::string> shared;
  for (std::string line; std::getline(list, line);) {
    std::istringstream fields(line);
    std::string id, parent, skipped, mountpoint, optional;
    fields >> id >> parent >> skipped >> skipped >> mountpoint >> skipped;
    while (fields >> optional && optional != "-") {
      if (optional.starts_with("shared:")) shared.insert(id);
    }
    std::string type;
    fields >> type;
    const std::string path = unescape(mountpoint);
    if (type == "fuse.siteswap" && path != keep) trees.push_back({path, shared.contains(parent)});
  }
  return trees;
}

// A mount namespace is a copy of all mounts, and a filesystem ends with its last mount: those that are none of our
// business must not wait for us when they are unmounted.
bool detachTreesBut(const std::string& keep) {
  const std::vector<Tree> others = treesBut(keep);
  // The latest first: it may lie in an earlier one.
  for (auto tree = others.rbegin(); tree != others.rend(); ++tree) {
    if (umount2(tree->mountpoint.c_str(), MNT_DETACH) != 0 && errno != EINVAL && errno != ENOENT) return false;
  }
  return true;
}

}  // namespace

pid_t forkInto(Namespaces namespaces) {
  if (namespaces == Namespaces::kShared) return fork();
  // The C library's clone() wants a stack. There is one thread, so nothing that its fork() does besides is missed.
  const unsigned long flags = CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWIPC | SIGCHLD;
  return static_cast<pid_t>(syscall(SYS_clone, flags, nullptr, nullptr, nullptr, nullptr));
}

bool isolateMounts(const std::string& scratch, const std::string& tree, uint64_t sharedMemoryBytes) {
  if (mount(nullptr, "/", nullptr, MS_REC | MS_SLAVE, nullptr) != 0) return false;
  if (!detachTreesBut(tree)) return false;
  if (!scratch.empty() && mount(scratch.c_str(), scratch.c_str(), nullptr, MS_BIND, nullptr) != 0) return false;
  if (!setMountAttributes("/", kRecursive, {.set = kReadOnly, .clear = 0, .propagation = 0, .userNamespaceFd = 0})) {
    return false;
  }
  if (!scratch.empty() &&
      !setMountAttributes(scratch.c_str(), 0, {.set = 0, .clear = kReadOnly, .propagation = 0, .userNamespaceFd = 0})) {
    return false;
  }
  // Read-only too: settings of the kernel are files of root, which need no capability.
  if (mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_RDONLY, nullptr) != 0) return false;
  const std::string size = "mode=1777,size=" + std::to_string(sharedMemoryBytes);
  return mount("tmpfs", "/dev/shm", "tmpfs", MS_NOSUID | MS_NODEV, size.c_str()) == 0 || errno == ENOENT;
}

void mountOwnView(const std::string& directory, int deviceFd) {
  const auto check = [&](const char* what, bool isDone) {
    if (!isDone) throw std::runtime_error(std::string(what) + ": " + std::strerror(errno));
  };
  check("unshare", unshare(CLONE_NEWNS) == 0);
  check("make mounts slaves", mount(nullptr, "/", nullptr, MS_REC | MS_SLAVE, nullptr) == 0);
  // That over `directory` too: to mount over its root takes a lock which a waiting request may hold.
  check("detach mounts", detachTreesBut(""));
  const std::string data =
      "fd=" + std::to_string(deviceFd) + ",rootmode=40000,user_id=0,group_id=0,default_permissions,allow_other";
  check("mount", mount("siteswap", directory.c_str(), "fuse.siteswap", MS_NODEV | MS_RDONLY, data.c_str()) == 0);
}

bool bindOwnRoot(const std::string& directory, const std::string& token) {
  // The command may want the other trees, and they could not be unmounted as long as it lives, where nobody tells their
  // copies.
  const std::vector<Tree> others = treesBut(directory);
  if (!std::all_of(others.begin(), others.end(), [](const Tree& tree) { return tree.isUnmountTold; })) return false;
  if (unshare(CLONE_NEWNS) != 0 || mount(nullptr, "/", nullptr, MS_REC | MS_SLAVE, nullptr) != 0) return false;
  const std::string ownRoot = directory + "/" + overlay::ownRootName(token);
  char* const here = getcwd(nullptr, 0);
  const bool isBound = mount(ownRoot.c_str(), directory.c_str(), nullptr, MS_BIND, nullptr) == 0;
  // Who stands in the mount would go on in what it shows to all.
  if (isBound && here != nullptr) (void)!chdir(here);
  free(here);
  return isBound;
}

bool namespacesWork() {
  const pid_t child = forkInto(Namespaces::kOwn);
  if (child < 0) return false;
  if (child == 0) _exit(isolateMounts("", "", 1 << 20) ? 0 : 1);
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  return status == 0;
}

}  // namespace siteswap::sandbox
