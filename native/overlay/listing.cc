// OPENDIR, READDIR, READDIRPLUS.
//
// Handles carry no state: a root handle's number says which view it lists (so one listing shows one generation however
// long it takes), any other's is 0, or says which transaction a committed directory was opened in.
// Offsets: 1 is behind ".", 2 behind "..", n + 2 behind child n of a committed directory; a transaction's by its
// cookies. When the kernel may keep the root's listing: root_listing.h.
#include <dirent.h>

#include <algorithm>
#include <cerrno>

#include "fuse/wire.h"
#include "overlay/overlay.h"

namespace siteswap::overlay {

namespace {

constexpr uint64_t kTransactionHandle = uint64_t{1} << 63;
constexpr uint64_t kKeepingHandle = uint64_t{1} << 62;  // of the root
constexpr uint64_t kLiveOffset = uint64_t{1} << 61;

// Either kind of listing. An entry without a node (nodeid 0) gives the kernel the name only.
class Listing {
 public:
  Listing(uint32_t sizeBytes, bool plus) : list_(sizeBytes), plus_(plus) {}

  // False: no room.
  bool add(std::string_view name, uint64_t ino, uint32_t mode, uint64_t offset, fuse_entry_out entry) {
    const uint32_t type = (mode & S_IFMT) >> 12;
    if (!plus_) return list_.add(name, ino, type, offset);
    entry.attr.ino = ino;
    return list_.addPlus(name, entry, type, offset);
  }
  void reply(fuse::Request& request) { request.replyData(list_.data(), list_.size()); }

 private:
  fuse::DirectoryList list_;
  const bool plus_;
};

// Where a transaction's listing is (low half), and the first name to come that is not listed any more (high half): who
// renames what he lists, one by one, would else list the new names too, and so on for ever.
struct TransactionOffset {
  static constexpr uint64_t kAdded = uint64_t{1} << 31;

  static uint64_t of(uint64_t cookie, uint64_t end) {
    const uint64_t position = cookie < kAddedCookie ? cookie + 2 : kAdded + (cookie - kAddedCookie);
    return ((end - kAddedCookie + 1) << 32) | position;
  }
  static uint64_t cookie(uint64_t offset) {
    const uint64_t position = offset & 0xffffffff;
    if (position >= kAdded) return kAddedCookie + (position - kAdded);
    return position > 2 ? position - 2 : 0;
  }
  // 0: not settled yet, at the beginning of a listing.
  static uint64_t end(uint64_t offset) { return offset >> 32 == 0 ? 0 : kAddedCookie + (offset >> 32) - 1; }
};

bool isKeeping(const fuse::Request& request, uint64_t fh) {
  return request.nodeid() == kRootIno && (fh & kTransactionHandle) == 0 && (fh & kKeepingHandle) != 0;
}

// "." and "..". False: no room, or nothing more to do.
bool addDots(Listing& listing, uint64_t offset, uint64_t own, uint64_t parent) {
  if (offset < 1 && !listing.add(".", own, S_IFDIR, 1, {})) return false;
  return offset >= 2 || listing.add("..", parent, S_IFDIR, 2, {});
}

// Additions of the live layer come behind all else, in order of their numbers. `references`: of the kernel, by each
// entry that brings a node.
template <class EntryOf>
void addLive(Listing& listing, LiveLayer& live, const std::vector<LiveLayer::Addition>& additions, uint64_t offset,
             unsigned references, EntryOf entryOf) {
  for (const auto& [name, attributes] : additions) {
    const uint64_t own = kLiveOffset + attributes.ino;
    if (own <= offset) continue;
    const fuse_entry_out entry = entryOf(attributes);
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

// Not while somebody's root changes, nor for a mount that is for looking on: its handles are not counted.
bool Overlay::mayKeepRootListing(const fuse::Request& request) const {
  return session_->negotiated().epoch && &request.session() == session_ && request.nodeid() == kRootIno &&
         !hasMembers();
}

void Overlay::opendir(fuse::RequestPtr request) {
  const Target target = resolve(request->nodeid());
  fuse_open_out out{};
  if (target.kind == Target::kNone) return request->replyError(ESTALE);
  if (target.kind == Target::kTransaction || target.kind == Target::kLive) return request->reply(out);
  if (target.kind == Target::kRoot) {
    return withView(std::move(request), Asks::kListing, [this](fuse::Request& r, const Caller& caller) {
      fuse_open_out opened{};
      opened.open_flags = RootListing::kNotKeeping;
      if (caller.member) {
        opened.fh = kTransactionHandle | caller.member->id;
        return r.reply(opened);
      }
      const Manifest* manifest = viewRoot(caller).manifest;
      opened.fh = manifest->generation();
      if (mayKeepRootListing(r) && manifest == head_) opened.open_flags = rootListing_.open(opened.fh);
      if ((opened.open_flags & FOPEN_CACHE_DIR) != 0) opened.fh |= kKeepingHandle;
      r.reply(opened);
    });
  }
  TxnPtr member;
  if (isListedFirst(target.committed)) {
    Caller caller;
    if (!identify(request, Asks::kListing, caller, target.committed)) return;
    member = caller.member;
  } else if (!memberInCommitted(request, member)) {
    return;
  }
  if (member) {
    out.fh = kTransactionHandle | member->id;
    out.open_flags = FOPEN_KEEP_CACHE;  // what others keep of it stays
    return request->reply(out);
  }
  // A committed directory never changes: its listing may be kept for ever.
  out.open_flags = FOPEN_CACHE_DIR | FOPEN_KEEP_CACHE;
  request->reply(out);
}

void Overlay::releasedir(fuse::RequestPtr request) {
  const uint64_t fh = request->arg<fuse_release_in>().fh;
  if (isKeeping(*request, fh)) rootListing_.release(fh & ~kKeepingHandle);
  request->replyEmpty();
}
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
  const uint64_t fh = request->arg<fuse_read_in>().fh;
  const Target target = resolve(request->nodeid());
  if (target.kind == Target::kNone) return request->replyError(ESTALE);
  if (target.kind == Target::kTransaction) {
    return listTransaction(*request, *target.txn->tree, target.ino, plus);
  }
  if (target.kind == Target::kLive) return listLive(*request, target.ino, plus);
  if ((fh & kTransactionHandle) != 0) {
    const TxnPtr txn = findTxn(static_cast<uint32_t>(fh & ~kTransactionHandle));
    if (!txn) return request->replyError(ESTALE);
    const uint64_t ino = target.kind == Target::kRoot ? kRootIno : txn->tree->resolve(target.committed.path());
    if (ino == 0) return request->replyError(ENOENT);
    return listTransaction(*request, *txn->tree, ino, plus);
  }
  if (target.kind == Target::kCommitted) return listCommitted(*request, target.committed, plus, false);
  const Manifest* manifest = manifestOf(fh & ~kKeepingHandle);
  if (manifest == nullptr) return request->replyError(ESTALE);
  if (isKeeping(*request, fh)) rootListing_.used(manifest->generation());
  listCommitted(*request, {manifest, 0}, plus, true);
}

void Overlay::listCommitted(fuse::Request& request, const Committed& directory, bool plus, bool isRoot) {
  if (!directory.isDirectory()) return request.replyError(ENOTDIR);
  const auto& arg = request.arg<fuse_read_in>();
  Listing listing(arg.size, plus);
  const Entry& e = directory.entry();
  const uint64_t parent = isRoot || e.parent == 0 ? kRootIno : directory.manifest->entry(e.parent).ino;
  if (addDots(listing, arg.offset, e.ino, parent)) {
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
    for (uint64_t i = arg.offset > 2 ? arg.offset - 2 : 0; room && i < e.childCount; ++i) {
      const auto position = static_cast<uint32_t>(i);
      const std::string_view name = directory.nameOfChild(position);
      if (isHidden(name)) continue;
      const NodeAttributes a = shown(directory.childAt(position));
      room = listing.add(name, a.ino, a.mode, i + 3, entryOf(a));
    }
    if (room) addLive(listing, live_, additions, arg.offset, referencesOf(request), entryOf);
  }
  listing.reply(request);
}

void Overlay::listLive(fuse::Request& request, uint64_t ino, bool plus) {
  const auto& arg = request.arg<fuse_read_in>();
  Listing listing(arg.size, plus);
  const uint64_t parent = live_.parentOf(ino);
  if (addDots(listing, arg.offset, ino, parent >= LiveLayer::rootKey(0) ? kRootIno : parent)) {
    addLive(listing, live_, live_.additions(ino), arg.offset, referencesOf(request),
            [&](const NodeAttributes& a) { return plus ? entryBelow(request, a, true, true) : fuse_entry_out{}; });
  }
  listing.reply(request);
}

void Overlay::listTransaction(fuse::Request& request, Transaction& tree, uint64_t ino, bool plus) {
  const auto& arg = request.arg<fuse_read_in>();
  Listing listing(arg.size, plus);
  if (addDots(listing, arg.offset, ino, tree.parentOf(ino))) {
    uint64_t end = TransactionOffset::end(arg.offset);
    if (end == 0) end = tree.endOfNames(ino);
    const int error =
        tree.list(ino, TransactionOffset::cookie(arg.offset), end, plus ? referencesOf(request) : 0,
                  [&](const Transaction::Listed& listed) {
                    const fuse_entry_out entry = entryBelow(request, listed.attributes, false, true);
                    const uint64_t offset = TransactionOffset::of(listed.cookie, end);
                    return listing.add(listed.name, listed.attributes.ino, listed.attributes.mode, offset, entry);
                  });
    if (error != 0) return request.replyError(error);
  }
  listing.reply(request);
}

}  // namespace siteswap::overlay
