// The live layer: what is written outside any transaction and is visible to everybody at once, as on a plain directory:
// the bytecode that readers write, and programs that write into an existing file in place.
//
// It hangs on numbers, not on paths: additions to a committed directory (by its number, which changes when anything
// below it does) and the present bytes of a committed file (by its number). So it follows a directory from generation
// to generation while it is unchanged, and is gone with it. The root's number never changes: its additions belong to
// one generation (see rootKey()). Transactions see the bytecode, which is no part of their commit.
//
// What is removed or replaced stays, without a name, until the kernel forgets it, and transactions that read it end:
// whoever has it open goes on. (A new server does not know it any more.)
//
// Kept in `directory`: `journal` (see journal.h) and `bodies/`. A new server replays it.
// Locking: every method locks mutex_ (a leaf, after the views lock and Transaction's). Bodies are read and written
// outside it.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "overlay/ino_source.h"
#include "overlay/journal.h"
#include "overlay/transaction.h"

namespace siteswap::overlay {

class LiveLayer {
 public:
  // What the live layer knows a directory of a generation by.
  static uint64_t rootKey(uint64_t generation) { return (uint64_t{1} << 62) | generation; }
  static uint64_t keyOf(const Committed& directory) {
    return directory.index == 0 ? rootKey(directory.manifest->generation()) : directory.entry().ino;
  }

  // Opens or makes it. What hangs on something that `isAlive` is false for is dropped. 0 or a positive errno.
  // `removeBody` takes a body away that nobody can reach any more; called under the lock, so somewhere else. Empty: at
  // once.
  int open(const std::string& directory, InoSource* numbers, const std::function<bool(uint64_t key)>& isAlive,
           std::function<void(uint64_t ino)> removeBody = {});

  // Nothing was ever written: the answer to nearly every question, without a lock.
  bool isEmpty() const { return !used_.load(std::memory_order_acquire); }
  bool has(uint64_t ino) const;
  std::optional<NodeAttributes> attributes(uint64_t ino) const;
  std::optional<NodeAttributes> child(uint64_t key, std::string_view name) const;
  struct Addition {
    std::string name;
    NodeAttributes attributes;
  };
  std::vector<Addition> additions(uint64_t key) const;  // in order of numbers
  uint64_t parentOf(uint64_t directory) const;          // the key that it was added to
  std::string nameOf(uint64_t ino) const;
  // Finished bytecode in a directory and below, for a transaction's own copies.
  std::vector<LiveEntry> entries(uint64_t key) const;
  int copyTo(uint64_t ino, int bodiesFd, const std::string& name) const;

  Transaction::Result create(uint64_t key, std::string_view name, uint32_t mode, uint32_t uid, uint32_t gid);
  int remove(uint64_t key, std::string_view name, bool directory);
  int rename(uint64_t key, std::string_view name, std::string_view name2);
  Transaction::Result setAttributes(uint64_t ino, const AttributeChange& change);
  // Bytes of a committed file become live: `copy` fills the body (see Transaction::CopyBody); nothing if they are
  // already.
  int adopt(const Committed& file, const Transaction::CopyBody& copy);
  int written(uint64_t ino, uint64_t size, bool grow);  // grow: at least that size, else exactly
  // What was written into it survives a power cut when this has returned. 0 or a positive errno.
  int sync(uint64_t ino);
  int bodiesFd() const { return bodies_.get(); }
  // References, of the kernel by answers that give a node, and of transactions.
  void addReferences(uint64_t ino, uint64_t count);
  void forget(uint64_t ino, uint64_t count);

 private:
  struct LiveNode {
    NodeAttributes attributes{};
    uint64_t key = 0;  // where it was added; 0: the present bytes of a committed file
    std::string name;
    uint64_t references = 0;
    bool isRemoved = false;  // has no name any more
  };
  uint64_t newIno();
  int commit(const Record& record);
  void apply(const Record& record);
  void loseName(uint64_t ino);
  void drop(uint64_t ino);
  void removeBodyOf(const LiveNode& node);
  int syncBody(const std::string& name) const;  // 0 or errno
  int compact(const std::string& directory);

  std::mutex adoptMutex_;  // before mutex_: one file is copied at a time
  mutable std::mutex mutex_;
  std::atomic<bool> used_{false};
  InoSource* numbers_ = nullptr;
  std::function<void(uint64_t ino)> removeBody_;
  uint64_t nextIno_ = 0, endIno_ = 0;
  std::unique_ptr<Journal> journal_;
  sys::UniqueFd bodies_;
  std::unordered_map<uint64_t, LiveNode> nodes_;
  std::unordered_map<uint64_t, std::map<std::string, uint64_t, std::less<>>> additions_;  // by key
};

}  // namespace siteswap::overlay
