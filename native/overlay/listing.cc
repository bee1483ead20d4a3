// READDIR, READDIRPLUS. Directories are not opened: the first OPENDIR is answered ENOSYS, and the kernel sends no more
// of them (and no RELEASEDIR) for the life of the connection. It then takes every directory's listing into its cache.
//
// What is everybody's and never changes may stay there. Any other listing ends without being complete for the kernel
// (Listing::reply), so that it asks each time; the root's always. So READDIR of the root is how readers are met, and
// since there are no handles, a root offset says which generation it lists: one listing shows one generation however
// long it takes.
#include <dirent.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "fuse/wire.h"
#include "overlay/overlay.h"

namespace siteswap::overlay {

namespace {

// Offsets. Committed: 1 is behind ".", 2 behind "..", n + 2 behind child n, below the low bits of the generation if it
// is the root; what the live layer adds comes behind all else, by its numbers. Transactions: TransactionOffset.
constexpr uint64_t kTransactionOffset = uint64_t{1} << 62;
constexpr uint64_t kLiveOffset = uint64_t{1} << 61;
constexpr unsigned kPositionBits = 32;

constexpr uint64_t lowBits(uint64_t number, unsigned count) {
  return number & ((uint64_t{1} << count) - 1);
}

// A place in the listing of a generation's root, or (generation 0) of another committed directory.
class CommittedOffset {
 public:
  explicit CommittedOffset(uint64_t offset) : offset_(offset) {}
  static uint64_t ofPosition(uint64_t generation, uint64_t position) {
    return lowBits(generation, kGenerationBits) << kPositionBits | position;
  }
  static uint64_t ofLive(uint64_t generation, uint64_t ino) {
    return kLiveOffset | lowBits(generation, kLiveGenerationBits) << kInoBits | ino;
  }
  // How much of ".", ".." and the children is behind it.
  uint64_t position() const { return isLive() ? UINT32_MAX : lowBits(offset_, kPositionBits); }
  // The number of the last addition behind it, or 0.
  uint64_t live() const { return isLive() ? lowBits(offset_, kInoBits) : 0; }
  // Of its root: the newest that has these bits, of those up to `head`.
  uint64_t generation(uint64_t head) const {
    const unsigned bits = isLive() ? kLiveGenerationBits : kGenerationBits;
    return head - lowBits(head - (offset_ >> (isLive() ? kInoBits : kPositionBits)), bits);
  }

 private:
  static constexpr unsigned kGenerationBits = 29, kLiveGenerationBits = 11;  // what is left below kLiveOffset
  bool isLive() const { return (offset_ & kLiveOffset) != 0; }

  const uint64_t offset_;
};

// Either kind of listing. An entry without a node (nodeid 0) gives the kernel the name only.
class Listing {
 public:
  Listing(uint32_t sizeBytes, bool plus) : list_(sizeBytes), sizeBytes_(sizeBytes), plus_(plus) {}

  // False: no room.
  bool add(std::string_view name, uint64_t ino, uint32_t mode, uint64_t offset, fuse_entry_out entry) {
    const uint32_t type = (mode & S_IFMT) >> 12;
    if (!plus_) return list_.add(name, ino, type, offset);
    entry.attr.ino = ino;
    return list_.addPlus(name, entry, type, offset);
  }
  // An answer without any byte is the end, with which the kernel's copy is complete and good for everybody. One with
  // less than an entry's bytes ends readdir(3) as well, and leaves the copy incomplete (fuse_readdir_uncached() and
  // parse_dirfile(), from the first kernel that keeps listings, 4.20, to 7.x).
  void reply(fuse::Request& request, bool mayBeKept) {
    static constexpr std::array<std::byte, 8> kUnfinished{};
    if (list_.size() > 0 || mayBeKept) return request.replyData(list_.data(), list_.size());
    request.replyData(kUnfinished.data(), std::min<size_t>(kUnfinished.size(), sizeBytes_));
  }

 private:
  fuse::DirectoryList list_;
  const uint32_t sizeBytes_;
  const bool plus_;
};

// Where a transaction's listing is (low half), and the first name to come that is not listed any more (high half): who
// renames what he lists, one by one, would else list the new names too, and so on for ever.
class TransactionOffset {
 public:
  explicit TransactionOffset(uint64_t offset)
      : isSettled_((offset & kTransactionOffset) != 0),
        position_(lowBits(offset, kPositionBits)),
        end_(isSettled_ ? kAddedCookie + ((offset & ~kTransactionOffset) >> kPositionBits) : 0) {}
  bool isSettled() const { return isSettled_; }
  void settle(uint64_t end) {
    isSettled_ = true;
    end_ = end;
  }
  uint64_t position() const { return position_; }
  uint64_t end() const { return end_; }
  uint64_t cookie() const {
    if (position_ >= kAdded) return kAddedCookie + (position_ - kAdded);
    return position_ > 2 ? position_ - 2 : 0;
  }
  // Other places in the same listing.
  uint64_t at(uint64_t position) const {
    return kTransactionOffset | (end_ - kAddedCookie) << kPositionBits | position;
  }
  uint64_t behind(uint64_t cookie) const {
    return at(cookie < kAddedCookie ? cookie + 2 : kAdded + (cookie - kAddedCookie));
  }

 private:
  static constexpr uint64_t kAdded = uint64_t{1} << 31;

  bool isSettled_;
  uint64_t position_, end_;
};

// "." and "..", which `offsetAt` gives their offsets by position. False: no room.
template <class OffsetAt>
bool addDots(Listing& listing, uint64_t position, uint64_t own, uint64_t parent, OffsetAt offsetAt) {
  if (position < 1 && !listing.add(".", own, S_IFDIR, offsetAt(1), {})) return false;
  return position >= 2 || listing.add("..", parent, S_IFDIR, offsetAt(2), {});
}

// Additions of the live layer come behind all else, in order of their numbers. `references`: of the kernel, by each
// entry that brings a node.
template <class EntryOf>
void addLive(Listing& listing, LiveLayer& live, const std::vector<LiveLayer::Addition>& additions, uint64_t generation,
             CommittedOffset offset, unsigned references, EntryOf entryOf) {
  for (const auto& [name, attributes] : additions) {
    if (attributes.ino <= offset.live()) continue;
    const fuse_entry_out entry = entryOf(attributes);
    const uint64_t own = CommittedOffset::ofLive(generation, attributes.ino);
    if (!listing.add(name, attributes.ino, attributes.mode, own, entry)) break;
    if (entry.nodeid != 0) live.addReferences(entry.nodeid, references);
  }
}

// Whoever reads a generation lists one of these first, when a whole environment is mounted over: Python never lists
// what is above them.
bool isListedFirst(const Committed& directory) {
  return directory.name() == "site-packages" || directory.name() == "dist-packages";
}

}  // namespace

// What a transaction wrote is made durable as a whole, when it commits.
void Overlay::fsyncdir(fuse::RequestPtr request) {
  request->replyEmpty();
}
void Overlay::readdir(fuse::RequestPtr request) {
  listInto(std::move(request), false);
}
void Overlay::readdirplus(fuse::RequestPtr request) {
  listInto(std::move(request), true);
}

void Overlay::listInto(fuse::RequestPtr request, bool plus) {
  const Target target = resolve(request->nodeid());
  switch (target.kind) {
    case Target::kNone:
      return request->replyError(ESTALE);
    case Target::kTransaction:
      return listTransaction(*request, *target.txn->tree, target.ino, plus);
    case Target::kLive:
      return listLive(*request, target.ino, plus);
    case Target::kRoot:
      return listRoot(std::move(request), plus);
    case Target::kCommitted:
      break;
  }
  // Who stands in a committed directory as a member lists the transaction's; but who becomes one while he lists goes on
  // with what he began. (What the live layer adds has other places in the transaction's.)
  const uint64_t offset = request->arg<fuse_read_in>().offset;
  if (offset != 0 && (offset & kTransactionOffset) == 0) return listCommitted(*request, target.committed, plus, 0);
  TxnPtr member;
  if (isListedFirst(target.committed) && offset == 0) {
    Caller caller;
    if (!identify(request, Asks::kListing, caller, target.committed)) return;
    member = caller.member;
  } else {
    member = memberInCommitted(request);
  }
  if (!member) return listCommitted(*request, target.committed, plus, 0);
  const uint64_t ino = member->tree->resolve(target.committed.path());
  if (ino == 0) return request->replyError(ENOENT);
  listTransaction(*request, *member->tree, ino, plus, false);
}

void Overlay::listRoot(fuse::RequestPtr request, bool plus) {
  const uint64_t offset = request->arg<fuse_read_in>().offset;
  const bool begins = offset == 0;
  if (begins || (offset & kTransactionOffset) != 0) {
    const Asks asks = begins ? Asks::kListing : Asks::kName;
    return withView(std::move(request), asks, [this, plus, begins](fuse::Request& r, const Caller& caller) {
      if (caller.member) return listTransaction(r, *caller.member->tree, kRootIno, plus);
      // Its transaction has ended meanwhile.
      if (!begins) return r.replyError(ESTALE);
      const Committed root = viewRoot(caller);
      listCommitted(r, root, plus, root.manifest->generation());
    });
  }
  uint64_t head;
  {
    std::shared_lock lock(viewsMutex_);
    head = head_->generation();
  }
  const uint64_t generation = CommittedOffset(offset).generation(head);
  const Manifest* manifest = generation > head ? nullptr : manifestOf(generation);
  if (manifest == nullptr) return request->replyError(ESTALE);
  listCommitted(*request, {manifest, 0}, plus, generation);
}

bool Overlay::mayKeepListing(const fuse::Request& request, const Committed& directory) const {
  // (A directory that is reached from an own root is another one to the kernel: see Overlay::dropListings().)
  if (inoOf(request.nodeid()) == kRootIno || rootOf(request.nodeid()) != 0 || isListedFirst(directory)) return false;
  std::shared_lock lock(viewsMutex_);
  return !hasMembers();
}

void Overlay::listCommitted(fuse::Request& request, const Committed& directory, bool plus, uint64_t generation) {
  if (!directory.isDirectory()) return request.replyError(ENOTDIR);
  const auto& arg = request.arg<fuse_read_in>();
  // Of a transaction that the caller was a member of.
  if ((arg.offset & kTransactionOffset) != 0) return request.replyError(ESTALE);
  const CommittedOffset offset(arg.offset);
  const bool isRoot = inoOf(request.nodeid()) == kRootIno;
  const auto offsetAt = [&](uint64_t position) { return CommittedOffset::ofPosition(generation, position); };
  Listing listing(arg.size, plus);
  const Entry& e = directory.entry();
  const uint64_t parent = isRoot || e.parent == 0 ? kRootIno : directory.manifest->entry(e.parent).ino;
  if (addDots(listing, offset.position(), e.ino, parent, offsetAt)) {
    const auto additions = live_.additions(LiveLayer::keyOf(directory));
    const auto isHidden = [&](std::string_view name) {
      return std::any_of(additions.begin(), additions.end(), [&](const auto& added) { return added.name == name; });
    };
    // Without a node the kernel takes the name only, and looks it up when somebody wants it. So it must with the
    // root's: it stamps what a listing brings with the epoch of when it takes it in, which may be after a swap
    // (fuse_direntplus_link(); a LOOKUP's answer is stamped with the epoch of before it was sent).
    const auto entryOf = [&](const NodeAttributes& a) {
      return plus && !isRoot ? entryBelow(request, a, true, true) : fuse_entry_out{};
    };
    bool room = true;
    for (uint64_t i = offset.position() > 2 ? offset.position() - 2 : 0; room && i < e.childCount; ++i) {
      const auto position = static_cast<uint32_t>(i);
      const std::string_view name = directory.nameOfChild(position);
      if (isHidden(name)) continue;
      const NodeAttributes a = shown(directory.childAt(position));
      room = listing.add(name, a.ino, a.mode, offsetAt(i + 3), entryOf(a));
    }
    if (room) addLive(listing, live_, additions, generation, offset, referencesOf(request), entryOf);
  }
  listing.reply(request, mayKeepListing(request, directory));
}

void Overlay::listLive(fuse::Request& request, uint64_t ino, bool plus) {
  const auto& arg = request.arg<fuse_read_in>();
  const CommittedOffset offset(arg.offset);
  Listing listing(arg.size, plus);
  const uint64_t above = live_.parentOf(ino), parent = above >= LiveLayer::rootKey(0) ? kRootIno : above;
  const auto offsetAt = [](uint64_t position) { return CommittedOffset::ofPosition(0, position); };
  if (addDots(listing, offset.position(), ino, parent, offsetAt)) {
    addLive(listing, live_, live_.additions(ino), 0, offset, referencesOf(request),
            [&](const NodeAttributes& a) { return plus ? entryBelow(request, a, true, true) : fuse_entry_out{}; });
  }
  listing.reply(request, false);
}

void Overlay::listTransaction(fuse::Request& request, Transaction& tree, uint64_t ino, bool plus, bool bringsNodes) {
  const auto& arg = request.arg<fuse_read_in>();
  TransactionOffset offset(arg.offset);
  if (!offset.isSettled()) offset.settle(tree.endOfNames(ino));
  Listing listing(arg.size, plus);
  if (addDots(listing, offset.position(), ino, tree.parentOf(ino), [&](uint64_t p) { return offset.at(p); })) {
    const int error = tree.list(ino, offset.cookie(), offset.end(), plus && bringsNodes ? referencesOf(request) : 0,
                                [&](const Transaction::Listed& listed) {
                                  fuse_entry_out entry{};
                                  if (bringsNodes) entry = entryBelow(request, listed.attributes, false, true);
                                  return listing.add(listed.name, listed.attributes.ino, listed.attributes.mode,
                                                     offset.behind(listed.cookie), entry);
                                });
    if (error != 0) return request.replyError(error);
  }
  // Another session is another kernel's cache, of a tree that does not change any more.
  listing.reply(request, &request.session() != session_ && ino != kRootIno);
}

}  // namespace siteswap::overlay
