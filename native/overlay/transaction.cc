#include "overlay/transaction.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/xattr.h>
#include <time.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "fuse/protocol.h"

namespace siteswap::overlay {

namespace {

int64_t monotonicNs() {
  timespec t;
  ::clock_gettime(CLOCK_MONOTONIC, &t);
  return int64_t{t.tv_sec} * 1'000'000'000 + t.tv_nsec;
}

uint64_t blocksOf(uint64_t sizeBytes) {
  return (sizeBytes + 511) / 512;
}

}  // namespace

NodeAttributes attributesOf(const Committed& node) {
  const Entry& e = node.entry();
  return {e.ino, e.size, e.blocks, e.atimeNs, e.mtimeNs, e.ctimeNs, e.mode, e.nlink, e.uid, e.gid, e.rdev};
}

Transaction::Transaction(Options options) : options_(std::move(options)), lastMutationNs_(monotonicNs()) {
  auto root = std::make_unique<Node>();
  const Entry& e = options_.root.entry();
  root->ino = kRootIno;
  root->mode = e.mode, root->uid = e.uid, root->gid = e.gid, root->nlink = e.nlink, root->size = e.size;
  root->atimeNs = e.atimeNs, root->mtimeNs = e.mtimeNs, root->ctimeNs = e.ctimeNs;
  root->base = options_.root;
  nodes_.emplace(kRootIno, std::move(root));
}

int Transaction::create() {
  const std::string bodies = options_.directory + "/bodies";
  if (::mkdir(bodies.c_str(), 0700) != 0) return errno;
  bodies_ = sys::UniqueFd(::open(bodies.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!bodies_) return errno;
  if (const int e = journal_.create(options_.directory + "/journal")) return e;
  Record begin;
  begin.type = RecordType::kBegin;
  begin.generation = options_.root.manifest->generation();
  return journal_.append(begin);
}

TransactionState Transaction::state() const {
  std::lock_guard lock(mutex_);
  return state_;
}

void Transaction::setState(TransactionState state) {
  std::lock_guard lock(mutex_);
  state_ = state;
}

uint64_t Transaction::mutations() const {
  std::lock_guard lock(mutex_);
  return mutations_;
}

int64_t Transaction::lastMutationNs() const {
  std::lock_guard lock(mutex_);
  return lastMutationNs_;
}

bool Transaction::enter() {
  std::lock_guard lock(mutex_);
  if (freezing_) return false;
  ++inProgress_;
  return true;
}

void Transaction::leave() {
  std::lock_guard lock(mutex_);
  if (--inProgress_ == 0) changed_.notify_all();
}

void Transaction::freeze() {
  std::unique_lock lock(mutex_);
  freezing_ = true;
  changed_.wait(lock, [&] { return inProgress_ == 0; });
  if (state_ == TransactionState::kOpen) state_ = TransactionState::kFrozen;
}

// ---- the tree ---------------------------------------------------------------------------------------------------

uint64_t Transaction::newIno() {
  if (nextIno_ == endIno_) {
    nextIno_ = options_.numbers->takeBlock();
    if (nextIno_ == 0) return 0;
    endIno_ = nextIno_ + (uint64_t{1} << kInoBlockBits);
    options_.ownsBlock(InoSource::blockOf(nextIno_));
  }
  return nextIno_++;
}

Node* Transaction::find(uint64_t ino) {
  const auto at = nodes_.find(ino);
  return at == nodes_.end() ? nullptr : at->second.get();
}

const Node* Transaction::node(uint64_t ino) const {
  const auto at = nodes_.find(ino);
  return at == nodes_.end() ? nullptr : at->second.get();
}

const Node* Transaction::hardLinked(uint64_t baseIno) const {
  const auto at = numberOfBase_.find(baseIno);
  return at == numberOfBase_.end() ? nullptr : node(at->second);
}

void Transaction::locked(const std::function<void()>& work) const {
  std::lock_guard lock(mutex_);
  work();
}

int64_t Transaction::nowNs() const {
  timespec t;
  ::clock_gettime(CLOCK_REALTIME, &t);
  return int64_t{t.tv_sec} * 1'000'000'000 + t.tv_nsec;
}

uint64_t Transaction::bodyBlocks(const Node& n) const {
  // Holes are worth a system call where they are worth anything.
  constexpr uint64_t kSmall = 64 << 10;
  struct stat st;
  if (!n.isFile() || n.size < kSmall ||
      ::fstatat(bodies_.get(), bodyName(n.ino).c_str(), &st, AT_SYMLINK_NOFOLLOW) != 0) {
    return blocksOf(n.size);
  }
  return static_cast<uint64_t>(st.st_blocks);
}

NodeAttributes Transaction::attributes(const Node& n) const {
  const bool fromBase = n.base && !n.ownBody;
  return {n.ino,     n.size, fromBase ? n.base.entry().blocks : bodyBlocks(n), n.atimeNs, n.mtimeNs,
          n.ctimeNs, n.mode, n.nlink + (n.ownBody ? 0 : n.externalLinks),      n.uid,     n.gid,
          n.rdev};
}

Node* Transaction::materialise(Node& directory, std::string_view name, const Committed& base, int& error) {
  Record record;
  record.type = RecordType::kMaterialise;
  record.parent = directory.ino;
  record.name = name;
  record.generation = base.manifest->generation();
  record.index = base.index;
  if ((base.entry().flags & kSeveralNames) != 0) {
    if (const auto at = numberOfBase_.find(base.entry().ino); at != numberOfBase_.end()) record.ino = at->second;
  }
  if (record.ino == 0) record.ino = newIno();
  if (record.ino == 0) {
    error = ENFILE;
    return nullptr;
  }
  if ((error = journal_.append(record)) != 0) return nullptr;
  apply(record, base);
  return find(record.ino);
}

Node* Transaction::childOf(Node& directory, std::string_view name, int& error) {
  error = ENOENT;
  if (!directory.isDirectory()) {
    error = ENOTDIR;
    return nullptr;
  }
  bringLive(directory);
  const std::string key(name);
  if (const auto at = directory.children.find(key); at != directory.children.end()) {
    if (isWhiteout(at->second)) return nullptr;
    error = 0;
    Node* child = find(at->second.ino);
    return child == nullptr || child->released ? nullptr : child;
  }
  if (!directory.base) return nullptr;
  const Committed base = directory.base.child(name);
  if (!base) return nullptr;
  error = 0;
  return materialise(directory, name, base, error);
}

// A member meets the bytecode that readers wrote as it would on a plain directory: it may have listed it before its
// first change, and then it removes or renames it. It gets copies: what it does to them is nobody else's.
void Transaction::bringLive(Node& directory) {
  if (directory.liveBrought || freezing_ || !directory.base || !options_.liveEntries) return;
  directory.liveBrought = true;
  addLive(directory, options_.liveEntries(directory.base));
}

void Transaction::addLive(Node& directory, const std::vector<LiveEntry>& entries) {
  for (const LiveEntry& entry : entries) {
    const NodeAttributes& a = entry.attributes;
    if (directory.children.contains(entry.name)) continue;
    Record r;
    r.type = RecordType::kCreate;
    r.flags = kFromLive;
    r.ino = newIno();
    r.parent = directory.ino;
    r.name = entry.name;
    r.mode = a.mode, r.uid = a.uid, r.gid = a.gid;
    r.timeNs = a.mtimeNs;
    // A cache: what can't be had is left out.
    if (r.ino == 0) return;
    if (S_ISREG(a.mode) && options_.copyLive(a.ino, bodies_.get(), bodyName(r.ino)) != 0) continue;
    if (journal_.append(r) != 0) {
      ::unlinkat(bodies_.get(), bodyName(r.ino).c_str(), 0);
      continue;
    }
    apply(r);
    Node& node = *find(r.ino);
    if (node.isFile()) node.size = a.size;
    addLive(node, entry.children);
  }
}

const std::vector<std::string>& Transaction::namesInBase(const Committed& file) {
  static const std::vector<std::string> one(1);
  if ((file.entry().flags & kSeveralNames) == 0) return one;
  if (namesOfNumber_.empty()) {
    // Once a transaction, and only when it meets a file with several names. Imports are other manifests: so by the
    // tree.
    const std::function<void(const Committed&, const std::string&)> collect = [&](const Committed& directory,
                                                                                  const std::string& path) {
      for (uint32_t i = 0; i < directory.entry().childCount; ++i) {
        const Committed child = directory.childAt(i);
        const std::string childPath = (path.empty() ? "" : path + "/") + std::string(directory.nameOfChild(i));
        if (child.isDirectory()) {
          collect(child, childPath);
        } else if ((child.entry().flags & kSeveralNames) != 0) {
          namesOfNumber_[child.entry().ino].push_back(childPath);
        }
      }
    };
    collect(options_.root, "");
  }
  return namesOfNumber_[file.entry().ino];
}

int Transaction::materialiseNames(const Node& node) {
  if (!node.base || node.isDirectory() || selfChanged(node)) return 0;
  if ((node.base.entry().flags & kSeveralNames) == 0) return 0;
  for (const std::string& path : namesInBase(node.base)) {
    Node* directory = find(kRootIno);
    size_t from = 0;
    for (size_t slash; directory != nullptr && (slash = path.find('/', from)) != std::string::npos; from = slash + 1) {
      const std::string name = path.substr(from, slash - from);
      const Committed base = directory->base.child(name);
      int error = 0;
      const auto known = directory->children.find(name);
      Node* next = known == directory->children.end() ? childOf(*directory, name, error)
                   : isWhiteout(known->second)        ? nullptr
                                                      : find(known->second.ino);
      if (error != 0) return error;
      if (next == nullptr || next->base != base) {
        // Moved away, or gone.
        next = nullptr;
        for (const auto& [ino, other] : nodes_) {
          if (other->isDirectory() && other->nlink != 0 && other->base == base) next = other.get();
        }
      }
      directory = next;
    }
    if (directory == nullptr || directory->children.contains(path.substr(from))) continue;
    int error = 0;
    if (childOf(*directory, path.substr(from), error) == nullptr) return error;
  }
  return 0;
}

int Transaction::commitRecord(const Record& record) {
  if (const int e = journal_.append(record)) return e;
  apply(record);
  ++mutations_;
  lastMutationNs_ = monotonicNs();
  return 0;
}

void Transaction::apply(const Record& r, const Committed& knownBase) {
  switch (r.type) {
    case RecordType::kBegin:
      break;
    case RecordType::kMaterialise: {
      Node& parent = *find(r.parent);
      const Committed base = knownBase ? knownBase : options_.findBase(r.generation, r.index);
      const auto position =
          parent.base ? parent.base.manifest->childIndex(parent.base.entry(), r.name) : std::optional<uint32_t>{};
      const uint64_t cookie = position ? *position - parent.base.entry().firstChild + 1 : nextCookie_++;
      parent.children[r.name] = {r.ino, cookie};
      if (!position) parent.added[cookie] = r.name;
      if (find(r.ino) != nullptr) break;
      const Entry& e = base.entry();
      auto node = std::make_unique<Node>();
      node->ino = r.ino;
      node->mode = e.mode, node->uid = e.uid, node->gid = e.gid, node->rdev = e.rdev, node->size = e.size;
      node->atimeNs = e.atimeNs, node->mtimeNs = e.mtimeNs, node->ctimeNs = e.ctimeNs;
      node->base = base;
      if (S_ISDIR(e.mode)) {
        node->nlink = e.nlink;
        node->parent = r.parent;
        node->name = r.name;
      } else {
        node->nlink = static_cast<uint32_t>(namesInBase(base).size());
        node->externalLinks = e.nlink > node->nlink ? e.nlink - node->nlink : 0;
        if (S_ISLNK(e.mode)) node->target = base.manifest->link(e);
        if ((e.flags & kSeveralNames) != 0) numberOfBase_[e.ino] = r.ino;
      }
      nodes_.emplace(r.ino, std::move(node));
      break;
    }
    case RecordType::kCreate:
      applyCreate(r);
      break;
    case RecordType::kUnlink:
      applyUnlink(*find(r.parent), r.name, r.timeNs);
      break;
    case RecordType::kRename:
      applyRename(r);
      break;
    case RecordType::kLink: {
      Node& node = *find(r.ino);
      if (node.base) numberOfBase_[node.base.entry().ino] = r.ino;
      ++node.nlink;
      node.ctimeNs = r.timeNs;
      node.attributesChanged = true;  // a generation tells link counts, and which names are one file
      Node& parent = *find(r.parent);
      addChild(parent, r.name, r.ino);
      touchEntries(parent, r.timeNs);
      break;
    }
    case RecordType::kSetAttributes: {
      Node& node = *find(r.ino);
      if (r.mask & FATTR_MODE) node.mode = (node.mode & S_IFMT) | (r.mode & 07777);
      if (r.mask & FATTR_UID) node.uid = r.uid;
      if (r.mask & FATTR_GID) node.gid = r.gid;
      if (r.mask & FATTR_ATIME) node.atimeNs = r.atimeNs;
      if (r.mask & FATTR_MTIME) node.mtimeNs = r.mtimeNs, node.written = false;
      node.ctimeNs = r.timeNs;
      // Reading a file sets its access time; that alone is no change worth a new version.
      if ((r.mask & (FATTR_MODE | FATTR_UID | FATTR_GID | FATTR_MTIME)) != 0) node.attributesChanged = true;
      break;
    }
    case RecordType::kOwnBody: {
      Node& node = *find(r.ino);
      node.ownBody = true;
      node.externalLinks = 0;
      break;
    }
    case RecordType::kWritten:
      find(r.ino)->written = true;
      break;
    case RecordType::kSetXattr:
    case RecordType::kRemoveXattr: {
      Node& node = *find(r.ino);
      if (!node.xattrs) {
        node.xattrs = node.base ? decodeXattrs(node.base.manifest->xattrs(node.base.entry())) : Xattrs{};
      }
      if (r.type == RecordType::kSetXattr) {
        (*node.xattrs)[r.name] = r.text;
      } else {
        node.xattrs->erase(r.name);
      }
      node.ctimeNs = r.timeNs;
      node.attributesChanged = true;
      break;
    }
  }
}

void Transaction::addChild(Node& parent, const std::string& name, uint64_t ino) {
  const uint64_t cookie = nextCookie_++;
  parent.children[name] = {ino, cookie};
  parent.added[cookie] = name;
}

void Transaction::takeChild(Node& parent, const std::string& name) {
  const auto at = parent.children.find(name);
  if (at == parent.children.end()) return;
  parent.added.erase(at->second.cookie);
  if (parent.base && parent.base.child(name)) {
    at->second = {0, 0};
  } else {
    parent.children.erase(at);
  }
}

void Transaction::touchEntries(Node& directory, int64_t timeNs) {
  directory.entriesChanged = true;
  directory.mtimeNs = directory.ctimeNs = timeNs;
}

void Transaction::applyCreate(const Record& r) {
  auto node = std::make_unique<Node>();
  node->ino = r.ino;
  node->mode = r.mode, node->uid = r.uid, node->gid = r.gid, node->rdev = r.rdev;
  node->atimeNs = node->mtimeNs = node->ctimeNs = r.timeNs;
  node->nlink = r.parent == 0 ? 0 : 1;
  node->live = (r.flags & kFromLive) != 0;
  node->attributesChanged = node->entriesChanged = !node->live;
  if (node->isDirectory()) {
    node->nlink = 2;
    node->size = 4096;
    node->parent = r.parent;
    node->name = r.name;
  } else if (S_ISLNK(node->mode)) {
    node->target = r.text;
    node->size = r.text.size();
  } else if (node->isFile()) {
    node->ownBody = true;
  }
  const bool directory = node->isDirectory(), isLive = node->live;
  nodes_.emplace(r.ino, std::move(node));
  if (r.parent == 0) return;
  Node& parent = *find(r.parent);
  addChild(parent, r.name, r.ino);
  if (!isLive) touchEntries(parent, r.timeNs);
  if (directory) ++parent.nlink;
}

void Transaction::applyUnlink(Node& parent, const std::string& name, int64_t timeNs) {
  const auto at = parent.children.find(name);
  if (at == parent.children.end() || isWhiteout(at->second)) return;
  Node* node = find(at->second.ino);
  takeChild(parent, name);
  touchEntries(parent, timeNs);
  if (node == nullptr) return;
  if (node->isDirectory()) {
    if (parent.nlink > 2) --parent.nlink;
    node->nlink = 0;
    node->parent = 0;
  } else if (node->nlink > 0) {
    --node->nlink;
    node->attributesChanged = true;  // see kLink
  }
  node->ctimeNs = timeNs;
  dropIfUnused(*node);
}

void Transaction::applyRename(const Record& r) {
  Node& from = *find(r.parent);
  Node& to = *find(r.parent2);
  const auto source = from.children.find(r.name);
  if (source == from.children.end() || isWhiteout(source->second)) return;
  const uint64_t ino = source->second.ino;
  const auto put = [&](uint64_t child, Node& oldParent, Node& newParent, const std::string& name) {
    addChild(newParent, name, child);
    Node* node = find(child);
    if (node == nullptr) return;
    node->ctimeNs = r.timeNs;
    if (!node->isDirectory()) return;
    node->parent = newParent.ino;
    node->name = name;
    if (oldParent.ino != newParent.ino) {
      if (oldParent.nlink > 2) --oldParent.nlink;
      ++newParent.nlink;
    }
  };
  if ((r.flags & RENAME_EXCHANGE) != 0) {
    const uint64_t other = to.children.at(r.name2).ino;
    takeChild(from, r.name);
    takeChild(to, r.name2);
    put(ino, from, to, r.name2);
    put(other, to, from, r.name);
  } else {
    if (const auto target = to.children.find(r.name2); target != to.children.end() && !isWhiteout(target->second)) {
      applyUnlink(to, r.name2, r.timeNs);
    }
    takeChild(from, r.name);
    // The target's name may be a base name that nobody has looked at: then it is hidden by the record that put() adds.
    put(ino, from, to, r.name2);
  }
  touchEntries(from, r.timeNs);
  touchEntries(to, r.timeNs);
}

void Transaction::dropIfUnused(Node& node) {
  if (node.nlink != 0 || node.lookups != 0 || node.copying || node.ino == kRootIno || replaying_) return;
  if (node.isFile() && node.ownBody) ::unlinkat(bodies_.get(), bodyName(node.ino).c_str(), 0);
  nodes_.erase(node.ino);
}

bool Transaction::isEmpty(Node& directory) {
  bringLive(directory);
  for (const auto& [name, child] : directory.children) {
    if (!isWhiteout(child)) return false;
  }
  if (!directory.base) return true;
  const uint32_t count = directory.base.entry().childCount;
  for (uint32_t i = 0; i < count; ++i) {
    if (directory.children.find(std::string(directory.base.nameOfChild(i))) == directory.children.end()) return false;
  }
  return true;
}

bool Transaction::isBelow(uint64_t ino, uint64_t ancestor) {
  for (Node* at = find(ino); at != nullptr; at = find(at->parent)) {
    if (at->ino == ancestor) return true;
    if (at->ino == kRootIno) return false;
  }
  return false;
}

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
  r.timeNs = nowNs();
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
  r.timeNs = nowNs();
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
  r.timeNs = nowNs();
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
  r.timeNs = nowNs();
  if (const int e = commitRecord(r)) return {e, {}};
  node->lookups += lookups;
  return resultOf(*node);
}

Transaction::Result Transaction::setAttributes(uint64_t ino, const AttributeChange& change) {
  std::lock_guard lock(mutex_);
  Node* node = find(ino);
  if (node == nullptr) return {ESTALE, {}};
  if (const int e = materialiseNames(*node)) return {e, {}};
  Record r;
  r.type = RecordType::kSetAttributes;
  r.ino = ino;
  r.mask = change.mask;
  r.mode = change.mode, r.uid = change.uid, r.gid = change.gid;
  r.atimeNs = change.atimeNs, r.mtimeNs = change.mtimeNs;
  r.timeNs = nowNs();
  if (const int e = commitRecord(r)) return {e, {}};
  return resultOf(*node);
}

int Transaction::setXattr(uint64_t ino, std::string_view name, std::string_view value, uint32_t flags) {
  if (name.size() > 255 || value.size() > XATTR_SIZE_MAX) return ERANGE;
  std::lock_guard lock(mutex_);
  Node* node = find(ino);
  if (node == nullptr) return ESTALE;
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
  r.timeNs = nowNs();
  return commitRecord(r);
}

int Transaction::removeXattr(uint64_t ino, std::string_view name) {
  Xattrs present;
  if (const int e = xattrs(ino, present)) return e;
  if (!present.contains(std::string(name))) return ENODATA;
  std::lock_guard lock(mutex_);
  const Node* node = find(ino);
  if (node == nullptr) return ESTALE;
  if (const int e = materialiseNames(*node)) return e;
  Record r;
  r.type = RecordType::kRemoveXattr;
  r.ino = ino;
  r.name = name;
  r.timeNs = nowNs();
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
  if (node == nullptr) return {ESTALE, false, {}, 0};
  if (!node->isFile()) return {node->isDirectory() ? EISDIR : EINVAL, false, {}, 0};
  return {0, node->ownBody, node->base, node->size};
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
  const std::string temporary = bodyName(ino) + ".tmp";
  lock.unlock();
  int error = copy(bodies_.get(), temporary, base, keepBytes);
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
  }
  node->copying = false;
  changed_.notify_all();
  dropIfUnused(*node);
  return error;
}

Transaction::Result Transaction::written(uint64_t ino, uint64_t sizeAtLeast, bool clearSetid) {
  std::lock_guard lock(mutex_);
  Node* node = find(ino);
  if (node == nullptr) return {ESTALE, {}};
  if (!node->written) {
    Record r;
    r.type = RecordType::kWritten;
    r.ino = ino;
    if (const int e = commitRecord(r)) return {e, {}};
  }
  if (clearSetid && (node->mode & (S_ISUID | S_ISGID)) != 0) {
    Record r;
    r.type = RecordType::kSetAttributes;
    r.ino = ino;
    r.mask = FATTR_MODE;
    r.mode = node->mode & ~static_cast<uint32_t>(S_ISUID | ((node->mode & S_IXGRP) != 0 ? S_ISGID : 0));
    r.timeNs = nowNs();
    if (const int e = commitRecord(r)) return {e, {}};
  }
  node->size = std::max(node->size, sizeAtLeast);
  node->mtimeNs = node->ctimeNs = nowNs();
  ++mutations_;
  lastMutationNs_ = monotonicNs();
  return resultOf(*node);
}

Transaction::Result Transaction::truncated(uint64_t ino, uint64_t size, bool clearSetid) {
  {
    std::lock_guard lock(mutex_);
    Node* node = find(ino);
    if (node == nullptr) return {ESTALE, {}};
    node->size = size;
  }
  return written(ino, size, clearSetid);
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

bool Transaction::hasKernelReferences() const {
  std::lock_guard lock(mutex_);
  for (const auto& [ino, node] : nodes_) {
    if (ino != kRootIno && !node->released && node->lookups > 0) return true;
  }
  return false;
}

int Transaction::deleteBodiesExcept(const std::function<bool(uint64_t)>& isNeeded) {
  const int own = ::openat(bodies_.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  DIR* stream = own >= 0 ? ::fdopendir(own) : nullptr;
  if (stream == nullptr) {
    const int e = errno;
    if (own >= 0) ::close(own);
    return e;
  }
  int error = 0;
  while (const dirent* d = ::readdir(stream)) {
    if (d->d_name[0] == '.') continue;
    char* end = nullptr;
    const uint64_t ino = std::strtoull(d->d_name, &end, 16);
    if (end != nullptr && *end == '\0' && isNeeded(ino)) continue;
    if (::unlinkat(own, d->d_name, 0) != 0 && errno != ENOENT) error = errno;
  }
  ::closedir(stream);
  return error;
}

}  // namespace siteswap::overlay
