// A transaction's own root: its root directory by a second name, one in the mount's root that no listing shows.
//
// A name in the kernel's cache is everybody's. So each walk of a member through the mount's root asks for the name
// there and for the root's attributes: most of what an installer causes. `siteswap run`, as root, binds the own root
// over the mountpoint in a mount namespace of its command's. The names below are nobody else's then, and the kernel
// keeps them.
//
// A directory has one place in the kernel's tree of names. So one that is reached from an own root has another number
// on the wire: the root's above the node's. What a transaction leaves behind in its namespace goes on there with
// everybody's nodes, and takes no directory's place from those who come through the mount's root.
#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <string_view>

namespace siteswap::overlay {

// Its name: this, and half of the token that the members have in their environment. Whoever has all of that is a
// member, and the name stands in mount tables, which are everybody's to read.
inline constexpr std::string_view kOwnRootPrefix = ".siteswap-root-";
inline std::string ownRootName(std::string_view token) {
  return std::string(kOwnRootPrefix).append(token.substr(0, token.size() / 2));
}

// Nodes have no more: 2^18 starts of 2^32 numbers each (src/util/limits.ts).
inline constexpr unsigned kInoBits = 50;

// A number on the wire: which node, and which root it was reached from (0: the mount's).
constexpr uint64_t inoOf(uint64_t nodeid) {
  return nodeid & ((uint64_t{1} << kInoBits) - 1);
}
constexpr uint32_t rootOf(uint64_t nodeid) {
  return static_cast<uint32_t>(nodeid >> kInoBits);
}
constexpr uint64_t nodeidOf(uint32_t root, uint64_t ino) {
  return uint64_t{root} << kInoBits | ino;
}

// Those that the kernel knows.
class OwnRoots {
 public:
  // The number of this transaction's, with one more reference to it. 0: another's still has that number.
  uint32_t give(uint32_t transaction) {
    constexpr uint32_t kNumbers = (1 << (64 - kInoBits)) - 1;
    const uint32_t number = transaction % kNumbers + 1;
    std::lock_guard lock(mutex_);
    Known& known = known_[number];
    if (known.references > 0 && known.transaction != transaction) return 0;
    if (known.references == 0) known = {.transaction = transaction};
    ++known.references;
    return number;
  }
  // The transaction was dropped: whoever is still there may change nothing any more.
  void drop(uint32_t number) {
    std::lock_guard lock(mutex_);
    if (const auto at = known_.find(number); at != known_.end()) at->second.isDropped = true;
  }
  bool isDropped(uint32_t number) {
    std::lock_guard lock(mutex_);
    const auto at = known_.find(number);
    return at != known_.end() && at->second.isDropped;
  }
  void forget(uint32_t number, uint64_t references) {
    std::lock_guard lock(mutex_);
    const auto at = known_.find(number);
    if (at == known_.end()) return;
    if (at->second.references > references) {
      at->second.references -= references;
    } else {
      known_.erase(at);
    }
  }

 private:
  struct Known {
    uint32_t transaction = 0;
    uint64_t references = 0;
    bool isDropped = false;
  };
  std::mutex mutex_;  // leaf
  std::map<uint32_t, Known> known_;
};

}  // namespace siteswap::overlay
