#include "overlay/overlay.h"

#include <time.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace siteswap::overlay {

namespace {

// "For ever" for entry and attribute timeouts: 68 years.
constexpr uint64_t kForeverSeconds = 0x7fffffff;

fuse_attr toWire(const NodeAttributes& a) {
  fuse_attr w{};
  w.ino = a.ino;
  w.size = a.size;
  w.blocks = a.blocks;
  const auto split = [](int64_t ns, uint64_t& seconds, uint32_t& rest) {
    int64_t s = ns / 1'000'000'000, r = ns % 1'000'000'000;
    if (r < 0) r += 1'000'000'000, --s;
    seconds = static_cast<uint64_t>(s);
    rest = static_cast<uint32_t>(r);
  };
  split(a.atimeNs, w.atime, w.atimensec);
  split(a.mtimeNs, w.mtime, w.mtimensec);
  split(a.ctimeNs, w.ctime, w.ctimensec);
  w.mode = a.mode;
  w.nlink = a.nlink;
  w.uid = a.uid;
  w.gid = a.gid;
  w.rdev = a.rdev;
  w.blksize = 4096;
  return w;
}

}  // namespace

fuse_entry_out entryFor(const NodeAttributes& attributes, bool cacheName, bool cacheAttributes) {
  fuse_entry_out out{};
  out.nodeid = attributes.ino;
  out.entry_valid = cacheName ? kForeverSeconds : 0;
  out.attr_valid = cacheAttributes ? kForeverSeconds : 0;
  out.attr = toWire(attributes);
  return out;
}

Overlay::Overlay(OverlayOptions options, OverlayEvents events)
    : options_(std::move(options)),
      events_(std::move(events)),
      numbers_(options_.firstIno, options_.inoCount),
      backing_(options_.lowerFd, options_.layersDir),
      readAhead_([this](std::function<void()> work) { return session_->post(std::move(work)); }),
      neighbours_([this](std::function<void()> work) { return session_->post(std::move(work)); },
                  [this](const Committed& file) { backing_.fetch(file); }),
      later_([this](std::function<void()> work) { return session_ != nullptr && session_->post(std::move(work)); }),
      listingsDropped_([this](std::function<void()> work) { return session_->post(std::move(work)); }),
      maxMtimeNs_(options_.maxMtimeNs),
      processes_({options_.disablePidfdInfo, options_.disableExitEvents, events_.log}) {}

Overlay::~Overlay() = default;

std::string Overlay::load() {
  std::unique_lock lock(viewsMutex_);
  std::string error = loadManifest(options_.generation);
  if (!error.empty()) return error;
  head_ = manifests_.at(options_.generation).get();
  const int e = live_.open(
      options_.liveDir, &numbers_,
      [this](uint64_t key) {
        return key == LiveLayer::rootKey(head_->generation()) || static_cast<bool>(findCommitted(key));
      },
      [this](uint64_t ino) { later_.run([this, ino] { backing_.removeBody(live_.bodiesFd(), ino, true); }); });
  return e == 0 ? "" : options_.liveDir + ": " + std::strerror(e);
}

std::string Overlay::loadManifest(uint64_t generation) {
  if (manifests_.contains(generation)) return "";
  const std::string path = options_.manifestsDir + "/" + std::to_string(generation) + ".manifest";
  std::string why;
  std::unique_ptr<Manifest> manifest = Manifest::open(path, why);
  if (!manifest) return path + " " + why;
  if (manifest->generation() != generation) return path + " is of another generation";
  for (const uint64_t imported : manifest->imports()) {
    if (imported >= generation) return path + " imports a later generation";
    if (std::string error = loadManifest(imported); !error.empty()) return error;
    manifest->imported.push_back(manifests_.at(imported).get());
  }
  const Entry& root = manifest->entry(0);
  for (uint32_t i = 0; i < root.childCount; ++i) {
    const Entry& e = manifest->entry(root.firstChild + i);
    if ((e.flags & kImported) == 0) continue;
    const Manifest& from = *manifest->imported[e.import];
    const Entry* target = e.firstChild < from.size() ? &from.entry(e.firstChild) : nullptr;
    if (target == nullptr || target->ino != e.ino || !S_ISDIR(target->mode) || (target->flags & kImported) != 0) {
      return path + " imports something that is not there";
    }
  }
  if (manifest->header().denseFirstIno != 0) {
    denseManifests_.push_back(manifest.get());
  } else {
    for (uint32_t i = 1; i < manifest->size(); ++i) {
      auto& owners = manifestsOfBlock_[InoSource::blockOf(manifest->entry(i).ino)];
      if (owners.empty() || owners.back() != manifest.get()) owners.push_back(manifest.get());
    }
  }
  manifests_[generation] = std::move(manifest);
  return "";
}

const Manifest* Overlay::manifestOf(uint64_t generation) {
  {
    std::shared_lock lock(viewsMutex_);
    if (const auto at = manifests_.find(generation); at != manifests_.end()) return at->second.get();
  }
  std::unique_lock lock(viewsMutex_);
  if (const std::string error = loadManifest(generation); !error.empty()) {
    events_.log("manifest: " + error);
    return nullptr;
  }
  return manifests_.at(generation).get();
}

void Overlay::registerBlock(uint64_t block, const TxnPtr& txn) {
  std::unique_lock lock(blocksMutex_);
  txnOfBlock_[block] = txn;
}

std::set<uint64_t> Overlay::blocksOf(const TxnPtr& txn) {
  std::shared_lock lock(blocksMutex_);
  std::set<uint64_t> blocks;
  for (const auto& [block, owner] : txnOfBlock_) {
    if (owner == txn) blocks.insert(block);
  }
  return blocks;
}

Overlay::Target Overlay::resolve(uint64_t nodeid) {
  const uint64_t ino = inoOf(nodeid);
  if (ino == kRootIno) return {Target::kRoot, {}, nullptr, kRootIno};
  TxnPtr txn;
  {
    std::shared_lock lock(blocksMutex_);
    if (const auto at = txnOfBlock_.find(InoSource::blockOf(ino)); at != txnOfBlock_.end()) txn = at->second;
  }
  // A number that was committed is not the transaction's any more: see Transaction::releaseCommitted().
  if (txn && txn->tree->knows(ino)) return {Target::kTransaction, {}, txn, ino};
  std::shared_lock lock(viewsMutex_);
  const Committed committed = findCommitted(ino);
  if (live_.has(ino)) return {Target::kLive, committed, nullptr, ino};
  if (committed) return {Target::kCommitted, committed, nullptr, ino};
  return {};
}

Committed Overlay::findCommitted(uint64_t ino) const {
  for (const Manifest* manifest : denseManifests_) {
    if (const auto index = manifest->indexOf(ino)) return {manifest, *index};
  }
  if (const auto at = manifestsOfBlock_.find(InoSource::blockOf(ino)); at != manifestsOfBlock_.end()) {
    for (const Manifest* manifest : at->second) {
      const auto index = manifest->indexOf(ino);
      if (index && (manifest->entry(*index).flags & kImported) == 0) return {manifest, *index};
    }
  }
  return {};
}

bool Overlay::hasMembers() const {
  if (!observers_.empty()) return true;
  return std::any_of(txns_.begin(), txns_.end(), [](const auto& item) { return !item.second->detached; });
}

bool Overlay::severalViews() const {
  if (hasMembers()) return true;
  std::lock_guard lock(knownMutex_);
  for (const auto& [generation, count] : pinCounts_) {
    if (generation != head_->generation()) return true;
  }
  return false;
}

bool Overlay::rootAttributesAreHeads() const {
  return !hasMembers() && (options_.pin != PinPolicy::kLease || !severalViews());
}

bool Overlay::rootNameMayBeCached(std::string_view name) {
  if (!session_->negotiated().epoch || hasMembers()) return false;
  const auto now = shownChild({head_, 0}, name);
  std::lock_guard lock(knownMutex_);
  for (const auto& [generation, count] : pinCounts_) {
    if (generation == head_->generation()) continue;
    const auto manifest = manifests_.find(generation);
    if (manifest == manifests_.end()) return false;
    const auto then = shownChild({manifest->second.get(), 0}, name);
    if (then.has_value() != now.has_value() || (now && then->ino != now->ino)) return false;
  }
  return true;
}

bool Overlay::mayCacheNames(const fuse::Request& request, Transaction& tree) const {
  const uint32_t root = rootOf(request.nodeid());
  if (inoOf(request.nodeid()) == kRootIno && (root == 0 || root != tree.ownRoot())) return false;
  if (!session_->negotiated().epoch || tree.isTranslated()) return false;
  // Another session is another kernel's cache, of a tree that does not change any more.
  return &request.session() != session_ || tree.isReachedFrom(root);
}

void Overlay::noteReached(Transaction& tree, uint64_t nodeid) {
  if (!tree.isReachedFrom(rootOf(nodeid))) keepNoNames(tree);
}

void Overlay::keepNoNames(Transaction& tree) {
  if (!tree.noteTranslated()) return;
  std::unique_lock lock(viewsMutex_);
  refreshKernelRoot();
}

fuse_entry_out Overlay::entryBelow(const fuse::Request& request, const NodeAttributes& attributes, bool cacheName,
                                   bool cacheAttributes) {
  fuse_entry_out out = entryFor(attributes, cacheName, cacheAttributes);
  // A file may have several names.
  if (S_ISDIR(attributes.mode)) out.nodeid = nodeidOf(rootOf(request.nodeid()), attributes.ino);
  return out;
}

void Overlay::replyEntry(fuse::Request& request, const NodeAttributes& attributes, bool cacheName,
                         bool cacheAttributes) {
  live_.addReferences(attributes.ino, referencesOf(request));
  request.reply(entryBelow(request, attributes, cacheName, cacheAttributes));
}

void Overlay::replyNegative(fuse::Request& request, bool cache) {
  // An ENOENT is never cached by the kernel; a positive answer without a node is.
  if (!cache) return request.replyError(ENOENT);
  fuse_entry_out out{};
  out.entry_valid = kForeverSeconds;
  request.reply(out);
}

void Overlay::replyAttributes(fuse::Request& request, const NodeAttributes& attributes, bool cache) {
  fuse_attr_out out{};
  out.attr_valid = cache ? kForeverSeconds : 0;
  out.attr = toWire(attributes);
  request.reply(out);
}

Committed Overlay::viewRoot(const Caller& caller) {
  if (caller.pin) {
    if (const auto at = manifests_.find(*caller.pin); at != manifests_.end()) return {at->second.get(), 0};
  }
  return {head_, 0};
}

void Overlay::refreshKernelRoot() {
  if (session_ == nullptr) return;
  if (session_->negotiated().epoch) session_->notifyIncEpoch();
  // Attributes only: this takes no lock that a request of ours could hold.
  session_->notifyInvalInode(kRootIno, -1, 0);
  for (const auto& [id, txn] : txns_) {
    if (!txn->detached) forgetOwnRoot(*txn->tree);
  }
}

void Overlay::forgetOwnRoot(const Transaction& tree) {
  if (tree.ownRoot() != 0) session_->notifyInvalInode(nodeidOf(tree.ownRoot(), kRootIno), -1, 0);
}

Overlay::TxnPtr Overlay::findTxn(uint32_t id) {
  std::shared_lock lock(viewsMutex_);
  const auto at = txns_.find(id);
  return at == txns_.end() ? nullptr : at->second;
}

void Overlay::sweepClosed() {
  std::erase_if(closedTxns_, [&](const TxnPtr& txn) {
    if (txn->tree->hasKernelReferences()) return false;
    txn->tree->releaseLive();
    std::unique_lock lock(blocksMutex_);
    std::erase_if(txnOfBlock_, [&](const auto& item) { return item.second == txn; });
    return true;
  });
}

}  // namespace siteswap::overlay
