// A transaction's tree from its journal, after a restart of the server.
//
// A whole record may still be one that no transaction wrote (a damaged or forged file). So each is judged against the
// tree as the operation itself would have, before it is applied: what follows an unsound one can't be trusted.
// Nodes without a name are kept: the kernel may hold them open since before the restart.
#include <fcntl.h>
#include <linux/fs.h>

#include <cerrno>

#include "overlay/transaction.h"

namespace siteswap::overlay {

namespace {

bool isSoundName(const std::string& name) {
  return !name.empty() && name.size() <= 255 && name != "." && name != ".." && name.find('/') == std::string::npos &&
         name.find('\0') == std::string::npos;
}

bool isMutation(const Record& record) {
  const bool isLive = record.type == RecordType::kCreate && (record.flags & kFromLive) != 0;
  return record.type != RecordType::kBegin && record.type != RecordType::kMaterialise && !isLive;
}

}  // namespace

int Transaction::restore() {
  // Not under the lock: nobody else knows this object yet, and findBase takes locks that come before it.
  bodies_ = sys::UniqueFd(::open((options_.directory + "/bodies").c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!bodies_) return errno;
  bool sound = true;
  replaying_ = true;
  const int e = journal_.replay(options_.directory + "/journal", [&](const Record& record) {
    sound = sound && isSound(record);
    if (!sound) return;
    apply(record);
    if (isMutation(record)) ++mutations_;
  });
  replaying_ = false;
  if (e != 0) return e;
  if (!sound) return EBADMSG;
  afterReplay();
  state_ = TransactionState::kFrozen;
  freezing_ = true;
  return 0;
}

Node* Transaction::liveChild(Node& parent, const std::string& name) {
  const auto at = parent.children.find(name);
  return at == parent.children.end() || isWhiteout(at->second) ? nullptr : find(at->second.ino);
}

bool Transaction::isFreeName(Node& parent, const std::string& name) {
  if (!isSoundName(name)) return false;
  const auto at = parent.children.find(name);
  return at != parent.children.end() ? isWhiteout(at->second) : !parent.base || !parent.base.child(name);
}

bool Transaction::isSound(const Record& r) {
  Node* node = find(r.ino);
  Node* parent = find(r.parent);
  if (parent != nullptr && !parent->isDirectory()) parent = nullptr;
  switch (r.type) {
    case RecordType::kBegin:
      return true;
    case RecordType::kMaterialise: {
      if (parent == nullptr || r.ino <= kRootIno || parent->children.contains(r.name) || !parent->base) return false;
      const Committed base = options_.findBase(r.generation, r.index);
      if (!base || parent->base.child(r.name) != base) return false;
      return node == nullptr ||
             (!node->isDirectory() && !base.isDirectory() && node->base && node->base.entry().ino == base.entry().ino);
    }
    case RecordType::kCreate:
      if (r.ino <= kRootIno || node != nullptr) return false;
      return r.parent == 0 ? S_ISREG(r.mode) : parent != nullptr && isFreeName(*parent, r.name);
    case RecordType::kUnlink: {
      Node* child = parent == nullptr ? nullptr : liveChild(*parent, r.name);
      return child != nullptr && (!child->isDirectory() || isEmpty(*child));
    }
    case RecordType::kRename: {
      Node* to = find(r.parent2);
      if (parent == nullptr || to == nullptr || !to->isDirectory()) return false;
      Node* source = liveChild(*parent, r.name);
      Node* target = liveChild(*to, r.name2);
      if (source == nullptr || source == target) return false;
      if (source->isDirectory() && isBelow(r.parent2, source->ino)) return false;
      if (target == nullptr) return (r.flags & RENAME_EXCHANGE) == 0 && isFreeName(*to, r.name2);
      if (target->isDirectory() && isBelow(r.parent, target->ino)) return false;
      if ((r.flags & RENAME_EXCHANGE) != 0) return true;
      return source->isDirectory() == target->isDirectory() && (!target->isDirectory() || isEmpty(*target));
    }
    case RecordType::kLink:
      return node != nullptr && !node->isDirectory() && parent != nullptr && isFreeName(*parent, r.name);
    case RecordType::kOwnBody:
    case RecordType::kWritten:
      return node != nullptr && node->isFile();
    case RecordType::kSetAttributes:
    case RecordType::kSetXattr:
    case RecordType::kRemoveXattr:
      return node != nullptr;
  }
  return false;
}

void Transaction::afterReplay() {
  for (auto& [ino, node] : nodes_) {
    if (ino != kRootIno) options_.ownsBlock(InoSource::blockOf(ino));
    if (node->liveIno != 0) {
      // From now on as if it had been copied when it was brought: the live layer goes its own way. (If it is gone
      // there, or was copied by an earlier restart, that is as it is.)
      if (options_.copyLive) options_.copyLive(node->liveIno, bodies_.get(), bodyName(ino));
      node->ownBody = true;
      node->liveIno = 0;
    }
    if (!node->isFile() || !node->ownBody) continue;
    struct stat st;
    if (::fstatat(bodies_.get(), bodyName(ino).c_str(), &st, AT_SYMLINK_NOFOLLOW) != 0) {
      node->size = 0;
      continue;
    }
    node->size = static_cast<uint64_t>(st.st_size);
    if (node->written) node->mtimeNs = int64_t{st.st_mtim.tv_sec} * 1'000'000'000 + st.st_mtim.tv_nsec;
  }
}

}  // namespace siteswap::overlay
