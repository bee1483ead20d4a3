// What policy asks of the overlay: begin, freeze, build, publish, abort; and path calls.
#include <fcntl.h>

#include <algorithm>
#include <cerrno>

#include "overlay/overlay.h"
#include "sys/clock.h"

namespace siteswap::overlay {

namespace {

// How long after its end an installer's parent may take to reap it, before its exit status is guessed at otherwise.
constexpr int kReapPatienceMs = 2000;

}  // namespace

std::shared_ptr<Transaction> Overlay::makeTree(const TxnPtr& txn, const std::string& directory, const Manifest* base) {
  const std::weak_ptr<Txn> weak = txn;
  return std::make_shared<Transaction>(Transaction::Options{
      txn->id,
      directory,
      {base, 0},
      &numbers_,
      [this, weak](uint64_t block) {
        if (TxnPtr owner = weak.lock()) registerBlock(block, owner);
      },
      [this](uint64_t generation, uint32_t index) {
        const Manifest* manifest = manifestOf(generation);
        return manifest != nullptr && index < manifest->size() ? Committed{manifest, index} : Committed{};
      },
      [this](const Committed& of) { return live_.entries(LiveLayer::keyOf(of)); },
      [this](uint64_t ino, int bodiesFd, const std::string& name) { return live_.copyTo(ino, bodiesFd, name); },
      [this](uint64_t ino, bool keeps) { keeps ? live_.addReferences(ino, 1) : live_.forget(ino, 1); },
      [this, weak](uint64_t ino) {
        const TxnPtr owner = weak.lock();
        if (!owner) return;
        later_.run([this, owner, ino] { backing_.removeBody(owner->tree->bodiesFd(), ino, false); });
      }});
}

int Overlay::beginTransaction(uint32_t id, const std::string& directory, int rootPid, const std::string& token) {
  if (id == 0 || findTxn(id)) return EEXIST;
  auto txn = std::make_shared<Txn>();
  txn->id = id;
  txn->token = token;
  txn->root = processes_.ofPid(rootPid);
  if (!txn->root) return ESRCH;
  process::ProcessPtr at = txn->root;
  while (at && txn->ancestors.size() < kMostAncestors) {
    const pid_t parent = at->currentParent();
    if (parent < 1) break;
    at = processes_.ofPid(parent);
    if (at) txn->ancestors.push_back(at);
  }
  uint64_t generation;
  {
    std::shared_lock lock(viewsMutex_);
    generation = head_->generation();
    std::lock_guard knownLock(knownMutex_);
    const auto known = known_.find(rootPid);
    if (known != known_.end() && isSame(known->second.process, txn->root) && known->second.pin) {
      generation = *known->second.pin;
    }
  }
  const Manifest* base = manifestOf(generation);
  if (base == nullptr) return EIO;
  txn->baseGeneration = generation;
  txn->tree = makeTree(txn, directory, base);
  if (const int e = txn->tree->create()) return e;
  {
    std::unique_lock lock(viewsMutex_);
    shareOwnRoots(*txn);
    txns_[id] = txn;
    ++viewEpoch_;
    ++membershipEpoch_;
    // From here on every walk through the root asks, so that a member never arrives at a committed file's pages.
    refreshKernelRoot();
  }
  processes_.watchExit(txn->root, kReapPatienceMs,
                       [this, id](process::ExitStatus status) { events_.rootExited(id, status); });
  return 0;
}

void Overlay::shareOwnRoots(const Txn& txn) {
  std::vector<process::ProcessPtr> lineage = txn.ancestors;
  lineage.push_back(txn.root);
  for (const auto& [id, other] : txns_) {
    if (other->detached || other->tree->ownRoot() == 0) continue;
    std::lock_guard lock(knownMutex_);
    const bool isIn = std::any_of(lineage.begin(), lineage.end(), [&, &owner = other](const process::ProcessPtr& its) {
      if (isSame(owner->root, its)) return true;
      const auto at = known_.find(its->pid);
      return at != known_.end() && isSame(at->second.process, its) && at->second.member == owner;
    });
    if (isIn) other->tree->noteTranslated();
  }
}

int Overlay::restoreTransaction(uint32_t id, const std::string& directory) {
  if (id == 0 || findTxn(id)) return EEXIST;
  auto txn = std::make_shared<Txn>();
  txn->id = id;
  txn->barrier = false;
  txn->detached = true;
  if (const int e = readBaseGeneration(directory + "/journal", txn->baseGeneration)) return e;
  const Manifest* base = manifestOf(txn->baseGeneration);
  if (base == nullptr) return EIO;
  txn->tree = makeTree(txn, directory, base);
  if (const int e = txn->tree->restore()) return e;
  std::unique_lock lock(viewsMutex_);
  txns_[id] = txn;
  return 0;
}

int Overlay::freezeTransaction(uint32_t id) {
  const TxnPtr txn = findTxn(id);
  if (!txn) return ENOENT;
  txn->tree->freeze();
  return takeLiveBytes(*txn->tree);
}

// A file of which only attributes change keeps the bytes that everybody sees: what was written into it in place goes
// with its number, and it gets another one.
int Overlay::takeLiveBytes(Transaction& tree) {
  for (const auto& [ino, baseIno] : tree.filesWithBytesOfBase()) {
    const auto present = live_.attributes(baseIno);
    const auto before = tree.getattr(ino);
    if (!present || before.error != 0) continue;
    const uint64_t from = baseIno;  // a structured binding can't be captured before C++20's later compilers
    const auto copy = [&](int bodiesFd, const std::string& temporary, const Committed&, uint64_t) {
      return live_.copyTo(from, bodiesFd, temporary);
    };
    if (const int e = tree.copyUp(ino, UINT64_MAX, copy)) return e;
    struct stat st;
    if (::fstatat(tree.bodiesFd(), Transaction::bodyName(ino).c_str(), &st, AT_SYMLINK_NOFOLLOW) != 0) return errno;
    if (const int e = tree.truncated(ino, static_cast<uint64_t>(st.st_size))) return e;
    // The later of the two set its time.
    AttributeChange times;
    times.mask = FATTR_MTIME;
    times.mtimeNs = present->mtimeNs < before.attributes.ctimeNs ? before.attributes.mtimeNs : present->mtimeNs;
    if (const auto set = tree.setAttributes(ino, times); set.error != 0) return set.error;
  }
  return 0;
}

int Overlay::transactionInfo(uint32_t id, TransactionInfo& info) {
  const TxnPtr txn = findTxn(id);
  if (!txn) return ENOENT;
  info.base = txn->baseGeneration;
  info.rootPid = txn->root ? txn->root->pid : 0;
  info.mutations = txn->tree->mutations();
  info.quietMs = (sys::monotonicNs() - txn->tree->lastMutationNs()) / 1'000'000;
  const bool ended = txn->root && txn->root->ended();
  const TransactionState state = txn->tree->state();
  info.state = state == TransactionState::kOpen ? (ended ? "ended" : "open") : "frozen";
  std::lock_guard lock(knownMutex_);
  for (const auto& [pid, known] : known_) {
    if (known.member == txn) info.members.push_back(pid);
  }
  return 0;
}

int Overlay::changes(uint32_t id, std::vector<Change>& changes) {
  const TxnPtr txn = findTxn(id);
  if (!txn) return ENOENT;
  changes = changesOf(*txn->tree);
  return 0;
}

MergeResult Overlay::buildManifest(uint32_t id, uint64_t generation, uint32_t layer, const std::string& manifestPath,
                                   Resolutions resolutions) {
  MergeResult result;
  const TxnPtr txn = findTxn(id);
  if (!txn) {
    result.error = ENOENT;
    return result;
  }
  Committed head;
  int64_t maxMtimeNs;
  {
    std::shared_lock lock(viewsMutex_);
    head = {head_, 0};
    maxMtimeNs = maxMtimeNs_;
  }
  result = mergeToManifest({*txn->tree, txn->tree->baseRoot(), head, generation, layer, manifestPath, numbers_,
                            maxMtimeNs, std::move(resolutions)});
  return result;
}

int Overlay::publish(uint64_t generation, uint32_t transaction, std::string& error) {
  TxnPtr txn;
  if (transaction != 0 && !(txn = findTxn(transaction))) return ENOENT;
  const Manifest* manifest = manifestOf(generation);
  if (manifest == nullptr) {
    error = "the manifest of generation " + std::to_string(generation) + " can't be used";
    return EBADMSG;
  }
  adoptForks();
  std::vector<uint64_t> directories;
  {
    // The swap. Requests for the root are answered under this lock: those before it with the old tree, those after it
    // with the new one, and what the kernel kept of the old one is void before the first of these is answered.
    std::unique_lock lock(viewsMutex_);
    head_ = manifest;
    maxMtimeNs_ = std::max(maxMtimeNs_, manifest->header().maxMtimeNs);
    ++viewEpoch_;
    if (txn) {
      moveToHead(txn);
      txn->tree->setState(TransactionState::kCommitted);
      txn->tree->releaseCommitted([&](uint64_t ino) {
        const auto index = manifest->indexOf(ino);
        if (index && S_ISDIR(manifest->entry(*index).mode)) directories.push_back(ino);
        return index.has_value();
      });
      closeTxn(txn);
    }
    sweepClosed();
    refreshKernelRoot();
  }
  // A directory of the transaction that keeps its number got a new time: the kernel must not go on with the old one.
  // Not under the lock, for which readers wait: these are as many system calls as there are new directories. Who comes
  // by path brings the new attributes with the LOOKUP, as every name is void by now; who was there before (a cwd or
  // descriptor of the installer's) sees the time of before the swap for a moment longer. Only the root is everybody's
  // without a LOOKUP.
  const uint32_t ownRoot = txn ? txn->tree->ownRoot() : 0;
  for (const uint64_t ino : directories) {
    session_->notifyInvalInode(ino, -1, 0);
    if (ownRoot != 0) session_->notifyInvalInode(nodeidOf(ownRoot, ino), -1, 0);
  }
  if (txn) unpark(txn);
  if (mustSettle()) adoptForks();
  return 0;
}

int Overlay::abortTransaction(uint32_t id, const std::optional<Refusal>& refusal, std::vector<int>* refused) {
  const TxnPtr txn = findTxn(id);
  if (!txn) return ENOENT;
  txn->tree->freeze();
  const std::set<uint64_t> blocks = blocksOf(txn);
  {
    std::unique_lock lock(viewsMutex_);
    txn->tree->setState(TransactionState::kAborted);
    txn->tree->releaseCommitted([](uint64_t) { return true; });
    std::vector<int> pids = closeTxn(txn, refusal);
    if (refused != nullptr) *refused = std::move(pids);
    ++viewEpoch_;
    sweepClosed();
    refreshKernelRoot();
  }
  later_.run(
      [this, blocks] { backing_.closeBodies([&](uint64_t ino) { return blocks.contains(InoSource::blockOf(ino)); }); });
  unpark(txn);
  return 0;
}

int Overlay::releaseBarrier(uint32_t id) {
  const TxnPtr txn = findTxn(id);
  if (!txn) return ENOENT;
  if (txn->tree->state() != TransactionState::kOpen) {
    // Decided against, or put aside: whoever still runs in it goes on at HEAD.
    std::unique_lock lock(viewsMutex_);
    detach(txn);
    ++viewEpoch_;
    refreshKernelRoot();
  }
  unpark(txn);
  return 0;
}

// ---- path calls -------------------------------------------------------------------------------------------------

int Overlay::pathStat(const ViewName& view, const std::string& path, PathNode& out) {
  if (view.isTransaction) {
    const TxnPtr txn = findTxn(static_cast<uint32_t>(view.number));
    if (!txn) return ENOENT;
    const uint64_t ino = txn->tree->resolve(path);
    if (ino == 0) return ENOENT;
    const auto found = txn->tree->getattr(ino);
    out.attributes = found.attributes;
    if (found.error == 0 && S_ISLNK(found.attributes.mode)) return txn->tree->readlink(ino, out.target);
    return found.error;
  }
  const Manifest* manifest = manifestOf(view.number);
  const Committed node = manifest != nullptr ? Committed{manifest, 0}.descendant(path) : Committed{};
  if (!node) return ENOENT;
  out.attributes = attributesOf(node);
  if (S_ISLNK(node.entry().mode)) out.target = node.manifest->link(node.entry());
  return 0;
}

int Overlay::pathList(const ViewName& view, const std::string& path, std::vector<PathEntry>& out) {
  if (view.isTransaction) {
    const TxnPtr txn = findTxn(static_cast<uint32_t>(view.number));
    if (!txn) return ENOENT;
    const uint64_t ino = txn->tree->resolve(path);
    if (ino == 0) return ENOENT;
    return txn->tree->list(ino, 0, UINT64_MAX, 0, [&](const Transaction::Listed& listed) {
      out.push_back({std::string(listed.name), listed.attributes.mode, listed.attributes.ino});
      return true;
    });
  }
  const Manifest* manifest = manifestOf(view.number);
  const Committed node = manifest != nullptr ? Committed{manifest, 0}.descendant(path) : Committed{};
  if (!node) return ENOENT;
  if (!node.isDirectory()) return ENOTDIR;
  for (uint32_t i = 0; i < node.entry().childCount; ++i) {
    const Entry& child = node.childAt(i).entry();
    out.push_back({std::string(node.nameOfChild(i)), child.mode, child.ino});
  }
  return 0;
}

int Overlay::pathRead(const ViewName& view, const std::string& path, std::string& out) {
  Target target;
  if (view.isTransaction) {
    target.kind = Target::kTransaction;
    target.txn = findTxn(static_cast<uint32_t>(view.number));
    if (!target.txn) return ENOENT;
    target.ino = target.txn->tree->resolve(path);
    if (target.ino == 0) return ENOENT;
  } else {
    const Manifest* manifest = manifestOf(view.number);
    target.kind = Target::kCommitted;
    target.committed = manifest != nullptr ? Committed{manifest, 0}.descendant(path) : Committed{};
    if (!target.committed) return ENOENT;
  }
  const Source source = openForReading(target, false);
  if (source.error != 0) return source.error;
  out.resize(source.fd ? source.size : 0);
  if (out.empty()) return 0;
  size_t done = 0;
  const int error = source.read(out.data(), out.size(), 0, false, done);
  return error == 0 && done < out.size() ? EIO : error;
}

}  // namespace siteswap::overlay
