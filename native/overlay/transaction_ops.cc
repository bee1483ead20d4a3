// What requests do with a transaction's tree: each checks, makes a record of the change, and lets it be applied.
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/xattr.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <utility>

#include "fuse/protocol.h"
#include "overlay/transaction.h"
#include "sys/clock.h"

namespace siteswap::overlay {

// ---- operations -------------------------------------------------------------------------------------------------

Transaction::Result Transaction::lookup(uint64_t parent, std::string_view name, unsigned lookups) {
  std::lock_guard lock(mutex_);
  Node* directory = find(parent);
  if (directory == nullptr) return {ESTALE, {}};
  int error = 0;
  Node* node = childOf(*directory, name, error);
  if (node == nullptr) return {error == 0 ? ESTALE : error, {}};
  node->lookups += lookups;
  return resultOf(*node);
}

Transaction::Result Transaction::getattr(uint64_t ino) {
  std::lock_guard lock(mutex_);
  const Node* node = find(ino);
  return node == nullptr ? Result{ESTALE, {}} : resultOf(*node);
}

int Transaction::readlink(uint64_t ino, std::string& target) {
  std::lock_guard lock(mutex_);
  const Node* node = find(ino);
  if (node == nullptr) return ESTALE;
  if (!S_ISLNK(node->mode)) return EINVAL;
  target = node->target;
  return 0;
}

Transaction::Result Transaction::create(uint64_t parent, std::string_view name, uint32_t mode, uint32_t uid,
                                        uint32_t gid, uint32_t rdev, std::string_view target, unsigned lookups) {
  std::lock_guard lock(mutex_);
  Record r;
  r.type = RecordType::kCreate;
  r.mode = mode, r.uid = uid, r.gid = gid, r.rdev = rdev;
  if (parent != 0) {
    Node* directory = find(parent);
    if (directory == nullptr) return {ESTALE, {}};
    if (directory->nlink == 0) return {ENOENT, {}};
    int error = 0;
    if (childOf(*directory, name, error) != nullptr) return {EEXIST, {}};
    if (error != ENOENT) return {error, {}};
    // A set-group-id directory gives its group on, and directories below it the bit too (inode_init_owner()).
    if ((directory->mode & S_ISGID) != 0) {
      r.gid = directory->gid;
      if (S_ISDIR(mode)) r.mode |= S_ISGID;
    }
  }
  r.ino = newIno();
  if (r.ino == 0) return {ENFILE, {}};
  r.parent = parent;
  r.name = name;
  r.text = target;
  r.timeNs = sys::realtimeNs();
  if (const int e = commitRecord(r)) return {e, {}};
  Node& node = *find(r.ino);
  node.lookups += lookups;
  return resultOf(node);
}

int Transaction::remove(uint64_t parent, std::string_view name, bool directory) {
  std::lock_guard lock(mutex_);
  Node* from = find(parent);
  if (from == nullptr) return ESTALE;
  int error = 0;
  Node* node = childOf(*from, name, error);
  if (node == nullptr) return error;
  if (directory && !node->isDirectory()) return ENOTDIR;
  if (!directory && node->isDirectory()) return EISDIR;
  if (directory && !isEmpty(*node)) return ENOTEMPTY;
  if (const int e = materialiseNames(*node)) return e;
  Record r;
  r.type = RecordType::kUnlink;
  r.parent = parent;
  r.name = name;
  r.timeNs = sys::realtimeNs();
  return commitRecord(r);
}

int Transaction::rename(uint64_t parent, std::string_view name, uint64_t parent2, std::string_view name2,
                        uint32_t flags) {
  if ((flags & ~(RENAME_NOREPLACE | RENAME_EXCHANGE)) != 0) return EINVAL;
  std::lock_guard lock(mutex_);
  Node* from = find(parent);
  Node* to = find(parent2);
  if (from == nullptr || to == nullptr) return ESTALE;
  if (to->nlink == 0) return ENOENT;
  int error = 0;
  Node* source = childOf(*from, name, error);
  if (source == nullptr) return error;
  Node* target = childOf(*to, name2, error);
  if (target == nullptr && error != ENOENT) return error;
  if ((flags & RENAME_NOREPLACE) != 0 && target != nullptr) return EEXIST;
  if ((flags & RENAME_EXCHANGE) != 0 && target == nullptr) return ENOENT;
  if (source == target) return 0;
  if (source->isDirectory() && isBelow(parent2, source->ino)) return EINVAL;
  if (target != nullptr && target->isDirectory() && isBelow(parent, target->ino)) {
    return (flags & RENAME_EXCHANGE) != 0 ? EINVAL : ENOTEMPTY;
  }
  if (target != nullptr && (flags & RENAME_EXCHANGE) == 0) {
    if (source->isDirectory() && !target->isDirectory()) return ENOTDIR;
    if (!source->isDirectory() && target->isDirectory()) return EISDIR;
    if (target->isDirectory() && !isEmpty(*target)) return ENOTEMPTY;
    if (const int e = materialiseNames(*target)) return e;
  }
  Record r;
  r.type = RecordType::kRename;
  r.parent = parent;
  r.name = name;
  r.parent2 = parent2;
  r.name2 = name2;
  r.flags = flags;
  r.timeNs = sys::realtimeNs();
  return commitRecord(r);
}

Transaction::Result Transaction::link(uint64_t ino, uint64_t parent, std::string_view name, unsigned lookups) {
  std::lock_guard lock(mutex_);
  Node* node = find(ino);
  Node* directory = find(parent);
  if (node == nullptr || directory == nullptr) return {ESTALE, {}};
  if (node->isDirectory()) return {EPERM, {}};
  if (directory->nlink == 0) return {ENOENT, {}};
  int error = 0;
  if (childOf(*directory, name, error) != nullptr) return {EEXIST, {}};
  if (error != ENOENT) return {error, {}};
  if (const int e = materialiseNames(*node)) return {e, {}};
  Record r;
  r.type = RecordType::kLink;
  r.ino = ino;
  r.parent = parent;
  r.name = name;
  r.timeNs = sys::realtimeNs();
  if (const int e = commitRecord(r)) return {e, {}};
  node->lookups += lookups;
  return resultOf(*node);
}

bool Transaction::isStill(const Node& node, const AskedThrough& through) {
  if (!through.node) return true;
  const Entry& asked = through.node.entry();
  const bool isSame = node.base && node.base.entry().ino == asked.ino && node.uid == asked.uid && node.gid == asked.gid;
  // Its owner may do the same whatever the mode is.
  return isSame && (node.mode == asked.mode || through.uid == 0 || through.uid == node.uid);
}

Transaction::Result Transaction::setAttributes(uint64_t ino, const AttributeChange& change,
                                               const AskedThrough& through) {
  std::lock_guard lock(mutex_);
  Node* node = find(ino);
  if (node == nullptr || !isStill(*node, through)) return {ESTALE, {}};
  if (const int e = materialiseNames(*node)) return {e, {}};
  Record r;
  r.type = RecordType::kSetAttributes;
  r.ino = ino;
  r.mask = change.mask;
  r.mode = change.mode, r.uid = change.uid, r.gid = change.gid;
  r.atimeNs = change.atimeNs, r.mtimeNs = change.mtimeNs;
  r.timeNs = sys::realtimeNs();
  if (const int e = commitRecord(r)) return {e, {}};
  return resultOf(*node);
}

int Transaction::setXattr(uint64_t ino, std::string_view name, std::string_view value, uint32_t flags,
                          const AskedThrough& through) {
  if (name.size() > 255 || value.size() > XATTR_SIZE_MAX) return ERANGE;
  std::lock_guard lock(mutex_);
  Node* node = find(ino);
  if (node == nullptr || !isStill(*node, through)) return ESTALE;
  const Xattrs present = node->xattrs ? *node->xattrs
                         : node->base ? decodeXattrs(node->base.manifest->xattrs(node->base.entry()))
                                      : Xattrs{};
  const bool has = present.contains(std::string(name));
  if ((flags & XATTR_CREATE) != 0 && has) return EEXIST;
  if ((flags & XATTR_REPLACE) != 0 && !has) return ENODATA;
  if (const int e = materialiseNames(*node)) return e;
  Record r;
  r.type = RecordType::kSetXattr;
  r.ino = ino;
  r.name = name;
  r.text = value;
  r.timeNs = sys::realtimeNs();
  return commitRecord(r);
}

int Transaction::removeXattr(uint64_t ino, std::string_view name, const AskedThrough& through) {
  Xattrs present;
  if (const int e = xattrs(ino, present)) return e;
  if (!present.contains(std::string(name))) return ENODATA;
  std::lock_guard lock(mutex_);
  const Node* node = find(ino);
  if (node == nullptr || !isStill(*node, through)) return ESTALE;
  if (const int e = materialiseNames(*node)) return e;
  Record r;
  r.type = RecordType::kRemoveXattr;
  r.ino = ino;
  r.name = name;
  r.timeNs = sys::realtimeNs();
  return commitRecord(r);
}

int Transaction::xattrs(uint64_t ino, Xattrs& out) {
  std::lock_guard lock(mutex_);
  const Node* node = find(ino);
  if (node == nullptr) return ESTALE;
  if (node->xattrs) {
    out = *node->xattrs;
  } else if (node->base) {
    out = decodeXattrs(node->base.manifest->xattrs(node->base.entry()));
  }
  return 0;
}

void Transaction::forget(uint64_t ino, uint64_t count) {
  std::lock_guard lock(mutex_);
  Node* node = find(ino);
  if (node == nullptr) return;
  node->lookups -= std::min(node->lookups, count);
  dropIfUnused(*node);
}

uint64_t Transaction::endOfNames(uint64_t directory) {
  std::lock_guard lock(mutex_);
  // Now, not when they are listed: they would be behind the end.
  if (Node* node = find(directory)) bringLive(*node);
  return nextCookie_;
}

int Transaction::list(uint64_t ino, uint64_t afterCookie, uint64_t endCookie, unsigned lookups,
                      const std::function<bool(const Listed&)>& each) {
  std::lock_guard lock(mutex_);
  Node* directory = find(ino);
  if (directory == nullptr) return ESTALE;
  if (!directory->isDirectory()) return ENOTDIR;
  bringLive(*directory);
  const auto give = [&](Node& node, std::string_view name, uint64_t cookie) {
    if (!each({name, attributes(node), cookie})) return false;
    node.lookups += lookups;
    return true;
  };
  if (directory->base && afterCookie < kAddedCookie) {
    const uint32_t count = directory->base.entry().childCount;
    for (auto i = static_cast<uint32_t>(std::min<uint64_t>(afterCookie, count)); i < count; ++i) {
      const std::string name(directory->base.nameOfChild(i));
      const auto known = directory->children.find(name);
      Node* node;
      int error = 0;
      if (known == directory->children.end()) {
        node = materialise(*directory, name, directory->base.childAt(i), error);
        if (node == nullptr) return error;
      } else {
        if (isWhiteout(known->second) || known->second.cookie != i + 1) continue;
        node = find(known->second.ino);
        if (node == nullptr) continue;
      }
      if (!give(*node, name, i + 1)) return 0;
    }
  }
  for (auto at = directory->added.upper_bound(afterCookie); at != directory->added.end() && at->first < endCookie;
       ++at) {
    Node* node = find(directory->children.at(at->second).ino);
    if (node != nullptr && !give(*node, at->second, at->first)) return 0;
  }
  return 0;
}

Committed Transaction::takeDifference(uint64_t directory) {
  std::lock_guard lock(mutex_);
  Node* node = find(directory);
  const bool differs = node != nullptr && node->isDirectory() && node->base && node->entriesChanged;
  return differs && !std::exchange(node->isDifferenceTaken, true) ? node->base : Committed{};
}

uint64_t Transaction::parentOf(uint64_t ino) {
  std::lock_guard lock(mutex_);
  const Node* node = find(ino);
  return node == nullptr || ino == kRootIno ? kRootIno : node->parent;
}

// ---- bodies -----------------------------------------------------------------------------------------------------

std::string Transaction::bodyName(uint64_t ino) {
  char name[24];
  std::snprintf(name, sizeof name, "%llx", static_cast<unsigned long long>(ino));
  return name;
}

Transaction::BodyPlace Transaction::bodyPlace(uint64_t ino) {
  std::lock_guard lock(mutex_);
  const Node* node = find(ino);
  if (node == nullptr) return {ESTALE, false, {}, 0, 0};
  if (!node->isFile()) return {node->isDirectory() ? EISDIR : EINVAL, false, {}, 0, 0};
  return {0, node->ownBody, node->base, node->size, node->liveIno};
}

int Transaction::copyUp(uint64_t ino, uint64_t keepBytes, const CopyBody& copy) {
  std::unique_lock lock(mutex_);
  Node* node = find(ino);
  if (node == nullptr) return ESTALE;
  if (!node->isFile()) return EINVAL;
  changed_.wait(lock, [&] { return !node->copying; });
  if (node->ownBody) return 0;
  node->copying = true;  // keeps the node: dropIfUnused() spares it
  const Committed base = node->base;
  const uint64_t liveIno = node->liveIno;
  const std::string temporary = bodyName(ino) + ".tmp";
  lock.unlock();
  int error = 0;
  struct stat st {};
  if (liveIno == 0) {
    error = copy(bodies_.get(), temporary, base, keepBytes);
  } else if ((error = options_.copyLive(liveIno, bodies_.get(), temporary)) == 0) {
    // It may have been written to since it was brought.
    if (::fstatat(bodies_.get(), temporary.c_str(), &st, AT_SYMLINK_NOFOLLOW) != 0) error = errno;
  }
  lock.lock();
  if (error == 0) error = materialiseNames(*node);
  if (error == 0 && ::renameat(bodies_.get(), temporary.c_str(), bodies_.get(), bodyName(ino).c_str()) != 0) {
    error = errno;
  }
  if (error != 0) ::unlinkat(bodies_.get(), temporary.c_str(), 0);
  if (error == 0) {
    Record r;
    r.type = RecordType::kOwnBody;
    r.ino = ino;
    error = commitRecord(r);
    if (error == 0 && liveIno != 0) node->size = static_cast<uint64_t>(st.st_size);
  }
  node->copying = false;
  changed_.notify_all();
  dropIfUnused(*node);
  return error;
}

int Transaction::written(uint64_t ino, uint64_t sizeAtLeast) {
  std::lock_guard lock(mutex_);
  Node* node = find(ino);
  if (node == nullptr) return ESTALE;
  if (!node->written) {
    Record r;
    r.type = RecordType::kWritten;
    r.ino = ino;
    if (const int e = commitRecord(r)) return e;
  }
  node->size = std::max(node->size, sizeAtLeast);
  node->mtimeNs = node->ctimeNs = sys::realtimeNs();
  ++mutations_;
  lastMutationNs_ = sys::monotonicNs();
  return 0;
}

int Transaction::truncated(uint64_t ino, uint64_t size) {
  {
    std::lock_guard lock(mutex_);
    Node* node = find(ino);
    if (node == nullptr) return ESTALE;
    node->size = size;
  }
  return written(ino, size);
}

uint32_t Transaction::modeOf(uint64_t ino) {
  std::lock_guard lock(mutex_);
  const Node* node = find(ino);
  return node == nullptr ? 0 : node->mode;
}

// ---- paths and the end ------------------------------------------------------------------------------------------

uint64_t Transaction::resolve(std::string_view path) {
  std::lock_guard lock(mutex_);
  Node* at = find(kRootIno);
  while (!path.empty()) {
    const size_t slash = path.find('/');
    const std::string_view name = path.substr(0, slash);
    path = slash == std::string_view::npos ? std::string_view{} : path.substr(slash + 1);
    int error = 0;
    at = childOf(*at, name, error);
    if (at == nullptr) return 0;
  }
  return at->ino;
}

std::vector<std::pair<uint64_t, uint64_t>> Transaction::filesWithBytesOfBase() {
  std::lock_guard lock(mutex_);
  std::vector<std::pair<uint64_t, uint64_t>> found;
  for (const auto& [ino, node] : nodes_) {
    if (node->isFile() && node->base && !node->ownBody && node->attributesChanged && node->nlink > 0) {
      found.emplace_back(ino, node->base.entry().ino);
    }
  }
  return found;
}

std::optional<std::string> Transaction::pathOfDirectory(uint64_t ino) {
  std::lock_guard lock(mutex_);
  std::string path;
  for (const Node* at = find(ino); at != nullptr; at = find(at->parent)) {
    if (at->ino == kRootIno) return path;
    if (!at->isDirectory() || at->parent == 0) break;
    path = path.empty() ? at->name : at->name + "/" + path;
  }
  return std::nullopt;
}

bool Transaction::knows(uint64_t ino) const {
  std::lock_guard lock(mutex_);
  const Node* found = node(ino);
  return found != nullptr && !found->released;
}

bool Transaction::selfChanged(const Node& node) {
  if (node.attributesChanged) return true;
  return node.isDirectory() ? node.entriesChanged : node.ownBody && (!node.live || node.written);
}

bool Transaction::subtreeChanged(const Node& node) const {
  if (selfChanged(node)) return true;
  if (!node.isDirectory()) return false;
  for (const auto& [name, child] : node.children) {
    const Node* n = isWhiteout(child) ? nullptr : this->node(child.ino);
    if (n == nullptr || subtreeChanged(*n)) return true;
  }
  return false;
}

void Transaction::releaseCommitted(const std::function<bool(uint64_t)>& isCommitted) {
  std::lock_guard lock(mutex_);
  for (auto& [ino, node] : nodes_) {
    if (ino != kRootIno && isCommitted(ino)) node->released = true;
  }
}

void Transaction::releaseLive() {
  std::lock_guard lock(mutex_);
  for (const uint64_t ino : keptLive_) options_.keepLive(ino, false);
  keptLive_.clear();
}

bool Transaction::hasKernelReferences() const {
  std::lock_guard lock(mutex_);
  for (const auto& [ino, node] : nodes_) {
    if (ino != kRootIno && !node->released && node->lookups > 0) return true;
  }
  return false;
}

}  // namespace siteswap::overlay
