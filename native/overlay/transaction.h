// One installer's tree: names and attributes in memory over an immutable base manifest, file bodies as flat files.
//
// Every entry that a member looks at gets a number of the transaction's own ("materialised"), so that no write can
// ever land in the cached pages of a committed file. A change is first made a Record, then journaled, then applied:
// what replays is the code that ran. A base is never written; a renamed directory of the base is one record.
//
// Invariants: nodes_ holds every number given out; a directory node has one name; child records with ino 0 are
// whiteouts. Locking: all public methods lock mutex_ (leaf lock, after the views lock). Bodies are read and written
// outside it.
#pragma once

#include <sys/stat.h>

#include <atomic>
#include <condition_variable>
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
#include "overlay/manifest.h"
#include "overlay/xattr.h"

namespace siteswap::overlay {

struct ChildRecord {
  uint64_t ino;     // 0: whiteout
  uint64_t cookie;  // where a listing continues: base position + 1, or kAddedCookie + a running number
};
inline constexpr uint64_t kAddedCookie = uint64_t{1} << 32;

struct Node {
  uint64_t ino = 0;
  uint32_t mode = 0, uid = 0, gid = 0, rdev = 0, nlink = 0;
  uint64_t size = 0;
  int64_t atimeNs = 0, mtimeNs = 0, ctimeNs = 0;
  Committed base;            // where it came from; a file's bytes while !ownBody, a directory's further children
  bool ownBody = false;      // regular files: the bytes are bodies/<ino in hex>
  bool copying = false;      // a copy-up is under way
  bool written = false;      // the body's own mtime counts (at replay)
  bool live = false;         // what readers keep in the live layer: no part of a commit unless it is changed
  uint64_t liveIno = 0;      // of such a file: its number there, where its bytes are while !ownBody
  bool liveBrought = false;  // directories: what the live layer has there is among the children
  bool attributesChanged = false;
  bool entriesChanged = false;  // directories: a name was added, removed or replaced here
  bool isDifferenceTaken = false;
  std::optional<Xattrs> xattrs;  // set once they differ from the base's
  std::string target;            // symlinks
  uint32_t externalLinks = 0;    // names of the base's file outside the tree (a package cache); gone after a copy-up
  uint64_t lookups = 0;          // the kernel's references
  bool released = false;         // a manifest answers for it now: see Transaction::releaseCommitted()
  // Directories only.
  uint64_t parent = 0;
  std::string name;
  std::unordered_map<std::string, ChildRecord> children;
  std::map<uint64_t, std::string> added;  // by cookie: names that are not at their base position
  bool isDirectory() const { return S_ISDIR(mode); }
  bool isFile() const { return S_ISREG(mode); }
};

struct NodeAttributes {
  uint64_t ino, size, blocks;
  int64_t atimeNs, mtimeNs, ctimeNs;
  uint32_t mode, nlink, uid, gid, rdev;
};
NodeAttributes attributesOf(const Committed& node);

// Bytecode of the live layer in a directory of the base: see Transaction::bringLive().
struct LiveEntry {
  std::string name;
  NodeAttributes attributes;
  std::vector<LiveEntry> children;
};

struct AttributeChange {
  uint32_t mask = 0;  // FATTR_MODE, _UID, _GID, _ATIME, _MTIME
  uint32_t mode = 0, uid = 0, gid = 0;
  int64_t atimeNs = 0, mtimeNs = 0;
};

// As chmod(2) tells: set-group-id on a file that its group can't run means something else.
inline uint32_t withoutSetid(uint32_t mode) {
  return mode & ~static_cast<uint32_t>(S_ISUID | ((mode & S_IXGRP) != 0 ? S_ISGID : 0));
}

// A change of attributes that was asked for by way of a committed node, whose owner and mode the kernel has checked.
struct AskedThrough {
  Committed node;    // none: by way of the transaction's own
  uint32_t uid = 0;  // of the caller
};

enum class TransactionState { kOpen, kFrozen, kCommitted, kAborted };

class Transaction {
 public:
  struct Options {
    uint32_t id;
    std::string directory;  // absolute, in the store
    Committed root;         // of the base
    InoSource* numbers;
    // Tells whoever finds nodes by number that this block of numbers is this transaction's.
    std::function<void(uint64_t block)> ownsBlock;
    // Base entries by (generation, index), for replay.
    std::function<Committed(uint64_t generation, uint32_t index)> findBase;
    // What the live layer has in a directory, and a copy of one file of it as `name` (0 or errno, ENOENT when it is
    // gone). Empty: nothing.
    std::function<std::vector<LiveEntry>(const Committed& directory)> liveEntries = {};
    std::function<int(uint64_t liveIno, int bodiesFd, const std::string& name)> copyLive = {};
    // Whether a file of the live layer is to stay, though it is removed there. Not empty where liveEntries is not.
    std::function<void(uint64_t liveIno, bool keeps)> keepLive = {};
    // Takes a body away that nobody can reach any more; called under the lock, so somewhere else. Empty: at once.
    std::function<void(uint64_t ino)> removeBody = {};
  };
  explicit Transaction(Options options);
  Transaction(const Transaction&) = delete;
  Transaction& operator=(const Transaction&) = delete;

  int create();   // makes journal and bodies/; 0 or errno
  int restore();  // replays the journal; 0 or errno; frozen afterwards

  // A member changed something through a committed directory that it stands in, so that the kernel may have other names
  // of the same directory cached under this tree's number; or another transaction has begun where this one's own root
  // is seen: from then on none of this tree's names may be kept. True the first time.
  bool noteTranslated() { return !translated_.exchange(true); }
  bool isTranslated() const { return translated_; }
  // Which own root the kernel has of it; 0: none.
  uint32_t ownRoot() const { return ownRoot_; }
  void setOwnRoot(uint32_t number) { ownRoot_ = number; }
  // Whether nobody came here from another root before. For the kernel a directory is another one from each, so names
  // can be kept from one only.
  bool isReachedFrom(uint32_t root) {
    uint32_t first = kNoRoot;
    return reachedFrom_.compare_exchange_strong(first, root) || first == root;
  }

  uint32_t id() const { return options_.id; }
  const Committed& baseRoot() const { return options_.root; }
  TransactionState state() const;
  void setState(TransactionState state);
  uint64_t mutations() const;
  int64_t lastMutationNs() const;  // CLOCK_MONOTONIC
  int bodiesFd() const { return bodies_.get(); }

  // A change is under way from enter() (false: frozen) to leave(); freeze() keeps out new ones and waits for the rest.
  bool enter();
  void leave();
  void freeze();

  // All of the following: 0 or a positive errno. `out` is the node's state under the lock.
  struct Result {
    int error = 0;
    NodeAttributes attributes{};
  };
  // lookups: how many kernel references this answer adds.
  Result lookup(uint64_t parent, std::string_view name, unsigned lookups);
  Result getattr(uint64_t ino);
  int readlink(uint64_t ino, std::string& target);
  Result create(uint64_t parent, std::string_view name, uint32_t mode, uint32_t uid, uint32_t gid, uint32_t rdev,
                std::string_view target, unsigned lookups);  // parent 0: a nameless file
  int remove(uint64_t parent, std::string_view name, bool directory);
  int rename(uint64_t parent, std::string_view name, uint64_t parent2, std::string_view name2, uint32_t flags);
  Result link(uint64_t ino, uint64_t parent, std::string_view name, unsigned lookups);
  // ESTALE when the file is not any more what it was asked through.
  Result setAttributes(uint64_t ino, const AttributeChange& change, const AskedThrough& through = {});
  int setXattr(uint64_t ino, std::string_view name, std::string_view value, uint32_t flags,
               const AskedThrough& through = {});
  int removeXattr(uint64_t ino, std::string_view name, const AskedThrough& through = {});
  int xattrs(uint64_t ino, Xattrs& out);
  void forget(uint64_t ino, uint64_t count);

  // One name of a listing. `each` returns false to stop. "." and ".." are not given.
  struct Listed {
    std::string_view name;
    NodeAttributes attributes;
    uint64_t cookie;
  };
  // With lookups > 0 the entries for which `each` returned true got that many references.
  // Entries behind `afterCookie` and before `endCookie`.
  int list(uint64_t ino, uint64_t afterCookie, uint64_t endCookie, unsigned lookups,
           const std::function<bool(const Listed&)>& each);
  uint64_t endOfNames(uint64_t directory);  // the cookie of the next name that comes
  uint64_t parentOf(uint64_t ino);          // of a directory
  // Of a directory whose names are not those of the base any more: what it is in the base, the first time it is asked.
  Committed takeDifference(uint64_t directory);
  uint32_t modeOf(uint64_t ino);  // 0: there is no such node

  // Bodies. Where a file's bytes are now.
  struct BodyPlace {
    int error = 0;
    bool own = false;
    Committed base;
    uint64_t size = 0;
    uint64_t liveIno = 0;  // not own, and not the base's: of this file of the live layer
  };
  BodyPlace bodyPlace(uint64_t ino);
  // Makes the bytes the transaction's own, keeping the first `keepBytes` at least. `copy(bodiesFd, temporaryName, base,
  // keep)` returns 0 or errno and is called without the lock.
  using CopyBody = std::function<int(int, const std::string&, const Committed&, uint64_t)>;
  int copyUp(uint64_t ino, uint64_t keepBytes, const CopyBody& copy);
  int written(uint64_t ino, uint64_t sizeAtLeast);  // after bytes were written
  int truncated(uint64_t ino, uint64_t size);       // after ftruncate
  static std::string bodyName(uint64_t ino);

  // Files of the base of which only attributes were changed: their number, and the base's.
  std::vector<std::pair<uint64_t, uint64_t>> filesWithBytesOfBase();

  // The number of what is at `path` ("" the root), materialising on the way; 0: nothing there.
  uint64_t resolve(std::string_view path);
  std::optional<std::string> pathOfDirectory(uint64_t ino);
  bool knows(uint64_t ino) const;

  // Runs `work` under the lock: for merge and changes, which walk the tree by node().
  void locked(const std::function<void()>& work) const;
  const Node* node(uint64_t ino) const;
  // The node of a file of the base, by its number there, if it has or had several names; null: nobody looked at it.
  const Node* hardLinked(uint64_t baseIno) const;
  static bool isWhiteout(const ChildRecord& child) { return child.ino == 0; }
  // Something under this node differs from the base.
  bool subtreeChanged(const Node& node) const;
  static bool selfChanged(const Node& node);
  // Came from the live layer and was left as it was: a cache that a commit does not take along.
  bool isThrowaway(const Node& node) const { return node.live && !subtreeChanged(node); }
  // Takes the numbers out for which `isCommitted` is true: the manifest answers for them from now on.
  // The nodes stay as long as the tree, for requests that found them here a moment before.
  void releaseCommitted(const std::function<bool(uint64_t)>& isCommitted);
  bool hasKernelReferences() const;
  // Nobody reads any more what the live layer keeps for this transaction.
  void releaseLive();

 private:
  uint64_t newIno();
  Node* find(uint64_t ino);
  Node* childOf(Node& directory, std::string_view name, int& error);  // materialises; null: ENOENT in error
  void bringLive(Node& directory);
  void addLive(Node& directory, const std::vector<LiveEntry>& entries);
  Node* materialise(Node& directory, std::string_view name, const Committed& base, int& error);
  // The paths in the base of a file's names, when it has several.
  const std::vector<std::string>& namesInBase(const Committed& file);
  // Before the first change of a file with several names: all of them become nodes of ours, wherever they are now, so
  // that the change is seen at each of them, by members and in the generation. 0 or errno.
  int materialiseNames(const Node& node);
  int commitRecord(const Record& record);  // journals, then applies
  // `base`: the entry that a kMaterialise record names, when it is at hand (replay looks it up).
  void apply(const Record& record, const Committed& base = {});
  void applyCreate(const Record& record);
  void applyUnlink(Node& parent, const std::string& name, int64_t timeNs);
  void applyRename(const Record& record);
  uint64_t bodyBlocks(const Node& node) const;
  void addChild(Node& parent, const std::string& name, uint64_t ino);
  void takeChild(Node& parent, const std::string& name);  // leaves a whiteout where the base has the name
  bool isEmpty(Node& directory);
  bool isBelow(uint64_t ino, uint64_t ancestor);
  void dropIfUnused(Node& node);
  void touchEntries(Node& directory, int64_t timeNs);
  NodeAttributes attributes(const Node& node) const;
  static bool isStill(const Node& node, const AskedThrough& through);
  Result resultOf(const Node& node) const { return {0, attributes(node)}; }
  bool isSound(const Record& record);
  bool isFreeName(Node& parent, const std::string& name);
  Node* liveChild(Node& parent, const std::string& name);
  void afterReplay();

  Options options_;
  std::atomic<bool> translated_{false};
  std::atomic<uint32_t> ownRoot_{0};
  static constexpr uint32_t kNoRoot = UINT32_MAX;
  std::atomic<uint32_t> reachedFrom_{kNoRoot};
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  TransactionState state_ = TransactionState::kOpen;
  unsigned inProgress_ = 0;
  bool freezing_ = false;
  bool replaying_ = false;
  Journal journal_;
  sys::UniqueFd bodies_;
  std::unordered_map<uint64_t, std::unique_ptr<Node>> nodes_;
  std::unordered_map<uint64_t, std::vector<std::string>> namesOfNumber_;  // see namesInBase()
  std::vector<uint64_t> keptLive_;                                        // see releaseLive()
  std::unordered_map<uint64_t, uint64_t> numberOfBase_;                   // hard links of the base: its number → ours
  uint64_t nextIno_ = 0, endIno_ = 0;
  uint64_t nextCookie_ = kAddedCookie;
  uint64_t mutations_ = 0;
  int64_t lastMutationNs_ = 0;
};

}  // namespace siteswap::overlay
