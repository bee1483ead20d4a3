#include "sandbox/landlock.h"

#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>

#include "sys/unique_fd.h"

namespace siteswap::sandbox {
namespace {

// include/uapi/linux/landlock.h; the one of the C library's headers may be older than the kernel. The numbers are the
// same on all architectures.
constexpr long kCreateRuleset = 444, kAddRule = 445, kRestrictSelf = 446;
constexpr uint32_t kCreateRulesetVersion = 1;
constexpr int kRulePathBeneath = 1;

struct RulesetAttributes {
  uint64_t handledFs;
  uint64_t handledNet;
  uint64_t scoped;
};
struct [[gnu::packed]] PathBeneath {
  uint64_t allowed;
  int32_t parentFd;
};

constexpr uint64_t kWriteFile = 1 << 1, kRemoveDirectory = 1 << 4, kRemoveFile = 1 << 5, kMakeDevice = 1 << 6,
                   kMakeDirectory = 1 << 7, kMakeFile = 1 << 8, kMakeSocket = 1 << 9, kMakeFifo = 1 << 10,
                   kMakeBlock = 1 << 11, kMakeSymlink = 1 << 12;
constexpr uint64_t kRefer = 1 << 13;     // ABI 2: rename and link into another directory
constexpr uint64_t kTruncate = 1 << 14;  // ABI 3
constexpr uint64_t kIoctl = 1 << 15;     // ABI 5: of devices
constexpr uint64_t kScopeAbstractSockets = 1 << 0, kScopeSignals = 1 << 1;  // ABI 6

uint64_t writeRights(int version) {
  uint64_t rights = kWriteFile | kRemoveDirectory | kRemoveFile | kMakeDevice | kMakeDirectory | kMakeFile |
                    kMakeSocket | kMakeFifo | kMakeBlock | kMakeSymlink;
  if (version >= 2) rights |= kRefer;
  if (version >= 3) rights |= kTruncate;
  if (version >= 5) rights |= kIoctl;
  return rights;
}

// A path that is not there needs no rule.
bool allow(int ruleset, const char* path, uint64_t rights) {
  const sys::UniqueFd file(open(path, O_PATH | O_CLOEXEC));
  if (!file) return errno == ENOENT;
  const PathBeneath rule{.allowed = rights, .parentFd = file.get()};
  return syscall(kAddRule, ruleset, kRulePathBeneath, &rule, 0) == 0;
}

}  // namespace

int landlockVersion() {
  const long version = syscall(kCreateRuleset, nullptr, 0, kCreateRulesetVersion);
  return version < 0 ? 0 : static_cast<int>(version);
}

int restrictWriting() {
  const int version = landlockVersion();
  if (version == 0) return 0;
  const uint64_t all = writeRights(version);
  const RulesetAttributes attributes{
      .handledFs = all, .handledNet = 0, .scoped = version >= 6 ? kScopeAbstractSockets | kScopeSignals : 0};
  // A larger structure than the kernel's own is taken as long as what it does not know is zero.
  const sys::UniqueFd ruleset(static_cast<int>(syscall(kCreateRuleset, &attributes, sizeof attributes, 0)));
  if (!ruleset || !allow(ruleset.get(), ".", all)) return -1;
  for (const char* device : {"/dev/null", "/dev/zero", "/dev/full", "/dev/tty"}) {
    if (!allow(ruleset.get(), device, all & (kWriteFile | kTruncate | kIoctl))) return -1;
  }
  // Semaphores of multiprocessing are files there, and packages make some on import. Files only: a shared memory that
  // somebody else left there can be reached, as far as its mode allows it.
  if (!allow(ruleset.get(), "/dev/shm", all & (kWriteFile | kTruncate | kMakeFile | kRemoveFile | kRefer))) return -1;
  return syscall(kRestrictSelf, ruleset.get(), 0) == 0 ? version : -1;
}

}  // namespace siteswap::sandbox
