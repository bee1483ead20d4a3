#include "overlay/live.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <set>

#include "fuse/protocol.h"
#include "overlay/backing.h"
#include "sys/clock.h"

namespace siteswap::overlay {

int LiveLayer::open(const std::string& directory, InoSource* numbers, const std::function<bool(uint64_t key)>& isAlive,
                    std::function<void(uint64_t ino)> removeBody) {
  std::lock_guard lock(mutex_);
  numbers_ = numbers;
  removeBody_ = std::move(removeBody);
  if (::mkdir(directory.c_str(), 0700) != 0 && errno != EEXIST) return errno;
  const std::string bodies = directory + "/bodies", journal = directory + "/journal";
  if (::mkdir(bodies.c_str(), 0700) != 0 && errno != EEXIST) return errno;
  bodies_ = sys::UniqueFd(::open(bodies.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!bodies_) return errno;
  if (::access(journal.c_str(), F_OK) == 0) {
    const int e = Journal().replay(journal, [&](const Record& record) { apply(record); });
    if (e != 0) return e;
  }
  // What hangs on a directory or file that no generation of today has is out of reach for ever, as is what has no name.
  std::vector<uint64_t> dead;
  for (const auto& [ino, node] : nodes_) {
    const uint64_t anchor = node.key == 0 ? ino : node.key;
    // After a power cut the record can be there without the body: then the committed bytes are the present ones.
    const bool isLost = node.key == 0 && ::faccessat(bodies_.get(), Transaction::bodyName(ino).c_str(), F_OK, 0) != 0;
    if (isLost || node.isRemoved || (!isAlive(anchor) && !nodes_.contains(node.key))) dead.push_back(ino);
  }
  for (const uint64_t ino : dead) drop(ino);
  // Directories of ours that went take what was in them along.
  for (bool again = true; again;) {
    dead.clear();
    for (const auto& [ino, node] : nodes_) {
      if (node.key != 0 && !isAlive(node.key) && !nodes_.contains(node.key)) dead.push_back(ino);
    }
    for (const uint64_t ino : dead) drop(ino);
    again = !dead.empty();
  }
  for (auto& [ino, node] : nodes_) {
    struct stat st;
    if (!S_ISREG(node.attributes.mode)) continue;
    const bool there = ::fstatat(bodies_.get(), Transaction::bodyName(ino).c_str(), &st, AT_SYMLINK_NOFOLLOW) == 0;
    node.attributes.size = there ? static_cast<uint64_t>(st.st_size) : 0;
  }
  used_ = !nodes_.empty();
  return compact(directory);
}

// A journal of what is there now, in the place of the one that led to it.
int LiveLayer::compact(const std::string& directory) {
  const std::string journal = directory + "/journal", fresh = directory + "/journal.new";
  if (::unlink(fresh.c_str()) != 0 && errno != ENOENT) return errno;
  journal_ = std::make_unique<Journal>();
  if (const int e = journal_->create(fresh)) return e;
  std::set<uint64_t> sorted;  // parents have lower numbers than what was made in them
  for (const auto& [ino, node] : nodes_) sorted.insert(ino);
  for (const uint64_t ino : sorted) {
    const LiveNode& node = nodes_.at(ino);
    Record r;
    r.type = node.key == 0 ? RecordType::kOwnBody : RecordType::kCreate;
    r.ino = ino;
    r.parent = node.key;
    r.name = node.name;
    r.mode = node.attributes.mode, r.uid = node.attributes.uid, r.gid = node.attributes.gid;
    r.timeNs = node.attributes.mtimeNs;
    if (const int e = journal_->append(r)) return e;
  }
  // Before it has its name: a power cut must not leave an empty one.
  if (const int e = journal_->sync()) return e;
  if (::rename(fresh.c_str(), journal.c_str()) != 0) return errno;
  const sys::UniqueFd parent(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  return parent && ::fsync(parent.get()) == 0 ? 0 : errno;
}

int LiveLayer::syncBody(const std::string& name) const {
  const sys::UniqueFd body(::openat(bodies_.get(), name.c_str(), O_RDONLY | O_CLOEXEC));
  return body && ::fsync(body.get()) == 0 ? 0 : errno;
}

int LiveLayer::sync(uint64_t ino) {
  if (const int e = syncBody(Transaction::bodyName(ino))) return e == ENOENT ? 0 : e;
  if (::fsync(bodies_.get()) != 0) return errno;
  return journal_->sync();
}

uint64_t LiveLayer::newIno() {
  if (nextIno_ == endIno_) {
    nextIno_ = numbers_->takeBlock();
    if (nextIno_ == 0) return 0;
    endIno_ = nextIno_ + (uint64_t{1} << kInoBlockBits);
  }
  return nextIno_++;
}

int LiveLayer::commit(const Record& record) {
  if (const int e = journal_->append(record)) return e;
  apply(record);
  used_.store(true, std::memory_order_release);
  return 0;
}

void LiveLayer::loseName(uint64_t ino) {
  LiveNode& node = nodes_.at(ino);
  node.isRemoved = true;
  node.attributes.nlink = 0;
  const auto siblings = additions_.find(node.key);
  if (siblings == additions_.end()) return;
  const auto name = siblings->second.find(node.name);
  if (name != siblings->second.end() && name->second == ino) siblings->second.erase(name);
  if (siblings->second.empty()) additions_.erase(siblings);
}

void LiveLayer::drop(uint64_t ino) {
  const auto at = nodes_.find(ino);
  if (at == nodes_.end()) return;
  if (at->second.key != 0) loseName(ino);
  removeBodyOf(at->second);
  nodes_.erase(at);
}

void LiveLayer::removeBodyOf(const LiveNode& node) {
  const uint64_t ino = node.attributes.ino;
  if (!S_ISREG(node.attributes.mode)) return;
  if (removeBody_) {
    removeBody_(ino);
  } else {
    ::unlinkat(bodies_.get(), Transaction::bodyName(ino).c_str(), 0);
  }
}

void LiveLayer::apply(const Record& r) {
  switch (r.type) {
    case RecordType::kCreate:
    case RecordType::kOwnBody: {
      // Only a damaged journal says otherwise: every number has one node, and every name one number.
      if (nodes_.contains(r.ino)) break;
      if (const auto at = additions_.find(r.parent); r.type == RecordType::kCreate && at != additions_.end()) {
        if (at->second.contains(r.name)) break;
      }
      LiveNode node;
      NodeAttributes& a = node.attributes;
      a.ino = r.ino;
      a.mode = r.mode, a.uid = r.uid, a.gid = r.gid;
      a.nlink = S_ISDIR(r.mode) ? 2 : 1;
      a.size = S_ISDIR(r.mode) ? 4096 : 0;
      a.atimeNs = a.mtimeNs = a.ctimeNs = r.timeNs;
      if (r.type == RecordType::kCreate) {
        node.key = r.parent;
        node.name = r.name;
        additions_[r.parent][r.name] = r.ino;
      }
      nodes_[r.ino] = std::move(node);
      break;
    }
    case RecordType::kUnlink:
      if (const auto at = additions_.find(r.parent); at != additions_.end()) {
        if (const auto name = at->second.find(r.name); name != at->second.end()) loseName(name->second);
      }
      break;
    case RecordType::kRename: {
      const auto at = additions_.find(r.parent);
      if (at == additions_.end()) break;
      const auto from = at->second.find(r.name);
      if (from == at->second.end()) break;
      const uint64_t ino = from->second;
      if (const auto old = at->second.find(r.name2); old != at->second.end() && old != from) loseName(old->second);
      at->second.erase(from);
      at->second[r.name2] = ino;
      nodes_.at(ino).name = r.name2;
      break;
    }
    case RecordType::kSetAttributes:
      if (const auto at = nodes_.find(r.ino); at != nodes_.end()) {
        NodeAttributes& a = at->second.attributes;
        if (r.mask & FATTR_MODE) a.mode = (a.mode & S_IFMT) | (r.mode & 07777);
        if (r.mask & FATTR_UID) a.uid = r.uid;
        if (r.mask & FATTR_GID) a.gid = r.gid;
        if (r.mask & FATTR_ATIME) a.atimeNs = r.atimeNs;
        if (r.mask & FATTR_MTIME) a.mtimeNs = r.mtimeNs;
        a.ctimeNs = r.timeNs;
      }
      break;
    default:
      break;
  }
}

bool LiveLayer::has(uint64_t ino) const {
  if (isEmpty()) return false;
  std::lock_guard lock(mutex_);
  return nodes_.contains(ino);
}

std::optional<NodeAttributes> LiveLayer::attributes(uint64_t ino) const {
  if (isEmpty()) return std::nullopt;
  std::lock_guard lock(mutex_);
  const auto at = nodes_.find(ino);
  return at == nodes_.end() ? std::nullopt : std::optional(at->second.attributes);
}

std::optional<NodeAttributes> LiveLayer::child(uint64_t key, std::string_view name) const {
  if (isEmpty()) return std::nullopt;
  std::lock_guard lock(mutex_);
  const auto at = additions_.find(key);
  if (at == additions_.end()) return std::nullopt;
  const auto found = at->second.find(name);
  return found == at->second.end() ? std::nullopt : std::optional(nodes_.at(found->second).attributes);
}

std::vector<LiveLayer::Addition> LiveLayer::additions(uint64_t key) const {
  std::vector<Addition> all;
  if (isEmpty()) return all;
  std::lock_guard lock(mutex_);
  if (const auto at = additions_.find(key); at != additions_.end()) {
    for (const auto& [name, ino] : at->second) all.push_back({name, nodes_.at(ino).attributes});
  }
  std::sort(all.begin(), all.end(),
            [](const Addition& a, const Addition& b) { return a.attributes.ino < b.attributes.ino; });
  return all;
}

uint64_t LiveLayer::parentOf(uint64_t directory) const {
  std::lock_guard lock(mutex_);
  const auto at = nodes_.find(directory);
  return at == nodes_.end() ? 0 : at->second.key;
}

std::string LiveLayer::nameOf(uint64_t ino) const {
  std::lock_guard lock(mutex_);
  const auto at = nodes_.find(ino);
  return at == nodes_.end() ? "" : at->second.name;
}

std::vector<LiveEntry> LiveLayer::entries(uint64_t key) const {
  std::vector<LiveEntry> all;
  for (const auto& [name, attributes] : additions(key)) {
    if (S_ISDIR(attributes.mode)) {
      all.push_back({name, attributes, entries(attributes.ino)});
    } else if (name.ends_with(".pyc")) {
      all.push_back({name, attributes, {}});
    }
  }
  return all;
}

int LiveLayer::copyTo(uint64_t ino, int bodiesFd, const std::string& name) const {
  const sys::UniqueFd from(::openat(bodies_.get(), Transaction::bodyName(ino).c_str(), O_RDONLY | O_CLOEXEC));
  if (!from) return errno;
  const sys::UniqueFd to(::openat(bodiesFd, name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (!to) return errno;
  struct stat st;
  if (::fstat(from.get(), &st) != 0) return errno;
  const int e = copyBytes(from.get(), to.get(), static_cast<uint64_t>(st.st_size));
  if (e != 0) ::unlinkat(bodiesFd, name.c_str(), 0);
  return e;
}

Transaction::Result LiveLayer::create(uint64_t key, std::string_view name, uint32_t mode, uint32_t uid, uint32_t gid) {
  std::lock_guard lock(mutex_);
  if (const auto parent = nodes_.find(key); parent != nodes_.end() && parent->second.isRemoved) return {ENOENT, {}};
  if (const auto at = additions_.find(key); at != additions_.end() && at->second.contains(name)) return {EEXIST, {}};
  Record r;
  r.type = RecordType::kCreate;
  r.ino = newIno();
  if (r.ino == 0) return {ENFILE, {}};
  r.parent = key;
  r.name = name;
  r.mode = mode, r.uid = uid, r.gid = gid;
  r.timeNs = sys::realtimeNs();
  if (const int e = commit(r)) return {e, {}};
  return {0, nodes_.at(r.ino).attributes};
}

int LiveLayer::remove(uint64_t key, std::string_view name, bool directory) {
  std::lock_guard lock(mutex_);
  const auto at = additions_.find(key);
  const auto found = at == additions_.end() ? decltype(at->second.end()){} : at->second.find(name);
  if (at == additions_.end() || found == at->second.end()) return ENOENT;
  const bool isDirectory = S_ISDIR(nodes_.at(found->second).attributes.mode);
  if (directory != isDirectory) return directory ? ENOTDIR : EISDIR;
  if (directory && additions_.contains(found->second)) return ENOTEMPTY;
  Record r;
  r.type = RecordType::kUnlink;
  r.parent = key;
  r.name = name;
  return commit(r);
}

int LiveLayer::rename(uint64_t key, std::string_view name, std::string_view name2) {
  std::lock_guard lock(mutex_);
  const auto at = additions_.find(key);
  if (at == additions_.end() || !at->second.contains(name)) return ENOENT;
  if (name == name2) return 0;
  const auto target = at->second.find(name2);
  if (S_ISDIR(nodes_.at(at->second.find(name)->second).attributes.mode) ||
      (target != at->second.end() && S_ISDIR(nodes_.at(target->second).attributes.mode))) {
    return EPERM;
  }
  Record r;
  r.type = RecordType::kRename;
  r.parent = key;
  r.name = name;
  r.name2 = name2;
  return commit(r);
}

Transaction::Result LiveLayer::setAttributes(uint64_t ino, const AttributeChange& change) {
  std::lock_guard lock(mutex_);
  if (!nodes_.contains(ino)) return {ESTALE, {}};
  Record r;
  r.type = RecordType::kSetAttributes;
  r.ino = ino;
  r.mask = change.mask;
  r.mode = change.mode, r.uid = change.uid, r.gid = change.gid;
  r.atimeNs = change.atimeNs, r.mtimeNs = change.mtimeNs;
  r.timeNs = sys::realtimeNs();
  if (const int e = commit(r)) return {e, {}};
  return {0, nodes_.at(ino).attributes};
}

int LiveLayer::adopt(const Committed& file, const Transaction::CopyBody& copy) {
  std::lock_guard adoptLock(adoptMutex_);
  const NodeAttributes of = attributesOf(file);
  if (has(of.ino)) return 0;
  const std::string name = Transaction::bodyName(of.ino), temporary = name + ".tmp";
  int failed = copy(bodies_.get(), temporary, file, of.size);
  // The record can be on the disk any time from now on, and the file it stands for is: so must its bytes be.
  if (failed == 0) failed = syncBody(temporary);
  if (failed != 0) {
    ::unlinkat(bodies_.get(), temporary.c_str(), 0);
    return failed;
  }
  std::lock_guard lock(mutex_);
  if (::renameat(bodies_.get(), temporary.c_str(), bodies_.get(), name.c_str()) != 0) return errno;
  Record r;
  r.type = RecordType::kOwnBody;
  r.ino = of.ino;
  r.mode = of.mode, r.uid = of.uid, r.gid = of.gid;
  r.timeNs = of.mtimeNs;
  if (const int error = commit(r)) return error;
  nodes_.at(of.ino).attributes = of;
  return 0;
}

void LiveLayer::addReferences(uint64_t ino, uint64_t count) {
  if (isEmpty()) return;
  std::lock_guard lock(mutex_);
  if (const auto at = nodes_.find(ino); at != nodes_.end()) at->second.references += count;
}

// What is removed is not dropped at once, even without a reference: the kernel has walked there before, and forgets it
// later. (Those that it has from before a restart are not counted.)
void LiveLayer::forget(uint64_t ino, uint64_t count) {
  std::lock_guard lock(mutex_);
  const auto at = nodes_.find(ino);
  if (at == nodes_.end()) return;
  LiveNode& node = at->second;
  node.references -= std::min(node.references, count);
  if (node.isRemoved && node.references == 0) drop(ino);
}

int LiveLayer::written(uint64_t ino, uint64_t size, bool grow) {
  std::lock_guard lock(mutex_);
  const auto at = nodes_.find(ino);
  if (at == nodes_.end()) return ESTALE;
  NodeAttributes& a = at->second.attributes;
  a.size = grow ? std::max(a.size, size) : size;
  a.blocks = (a.size + 511) / 512;
  a.mtimeNs = a.ctimeNs = sys::realtimeNs();
  return 0;
}

}  // namespace siteswap::overlay
