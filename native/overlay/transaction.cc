// A transaction's tree and how its records change it. What requests do with it: transaction_ops.cc.
#include "overlay/transaction.h"

#include <fcntl.h>
#include <linux/fs.h>

#include <cerrno>
#include <cstring>

#include "fuse/protocol.h"
#include "overlay/acl.h"
#include "sys/clock.h"

namespace siteswap::overlay {

namespace {

uint64_t blocksOf(uint64_t sizeBytes) {
  return (sizeBytes + 511) / 512;
}

}  // namespace

NodeAttributes attributesOf(const Committed& node) {
  const Entry& e = node.entry();
  const uint32_t mode = modeWithAcl(e.mode, node.manifest->xattrs(e));
  return {e.ino, e.size, e.blocks, e.atimeNs, e.mtimeNs, e.ctimeNs, mode, e.nlink, e.uid, e.gid, e.rdev};
}

Transaction::Transaction(Options options) : options_(std::move(options)), lastMutationNs_(sys::monotonicNs()) {
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
  const uint32_t mode = n.xattrs ? modeWithAcl(n.mode, *n.xattrs)
                        : n.base ? modeWithAcl(n.mode, n.base.manifest->xattrs(n.base.entry()))
                                 : n.mode;
  return {n.ino,     n.size, fromBase ? n.base.entry().blocks : bodyBlocks(n), n.atimeNs, n.mtimeNs,
          n.ctimeNs, mode,   n.nlink + (n.ownBody ? 0 : n.externalLinks),      n.uid,     n.gid,
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
// first change, and then it removes or renames it. What it does to it is nobody else's. Only names and attributes are
// brought, and the live layer keeps the bytes: copies are made when it changes a file (see Overlay::enterFile()), as
// whoever made them for a whole directory would keep all requests waiting.
void Transaction::bringLive(Node& directory) {
  // While the journal is replayed, what was brought is in it, and what is there now was not.
  if (directory.liveBrought || freezing_ || replaying_ || !directory.base || !options_.liveEntries) return;
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
    if (S_ISREG(a.mode)) r.parent2 = a.ino;
    // A cache: what can't be had is left out, and what was never written, which has no body.
    if (r.ino == 0) return;
    if (S_ISREG(a.mode) && a.size == 0) continue;
    if (journal_.append(r) != 0) continue;
    apply(r);
    Node& node = *find(r.ino);
    if (node.isFile()) {
      node.size = a.size;
      options_.keepLive(a.ino, true);
      keptLive_.push_back(a.ino);
    }
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
        const std::string childPath = joinPath(path, directory.nameOfChild(i));
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
  lastMutationNs_ = sys::monotonicNs();
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
      node.liveIno = 0;
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
    if (node->live) node->liveIno = r.parent2;
    node->ownBody = node->liveIno == 0;
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
  if (node.isFile() && node.ownBody) {
    if (options_.removeBody) {
      options_.removeBody(node.ino);
    } else {
      ::unlinkat(bodies_.get(), bodyName(node.ino).c_str(), 0);
    }
  }
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

}  // namespace siteswap::overlay
