// Names, attributes, links and extended attributes: reading.
#include <sys/statvfs.h>
#include <sys/xattr.h>

#include <cerrno>

#include "overlay/overlay.h"

namespace siteswap::overlay {

namespace {

// What the root's time is later in a transaction whose root has not changed yet, and to an observer, than in the
// generation it looks like: who was pinned to another one may have seen that time with other names. Generations are 2
// µs apart.
constexpr int64_t kOtherViewNs = 1000;

}  // namespace

void Overlay::lookup(fuse::RequestPtr request) {
  const std::string_view name = request->name();
  if (name.size() > 255) return request->replyError(ENAMETOOLONG);
  const Target parent = resolve(request->nodeid());
  switch (parent.kind) {
    case Target::kNone:
      return request->replyError(ESTALE);
    case Target::kTransaction: {
      Transaction& tree = *parent.txn->tree;
      const auto found = tree.lookup(parent.ino, name, referencesOf(*request));
      if (found.error == ENOENT) return replyNegative(*request, mayCacheNames(*request, tree));
      if (found.error != 0) return request->replyError(found.error);
      return replyEntry(*request, found.attributes, mayCacheNames(*request, tree), true);
    }
    case Target::kLive: {
      const auto child = live_.child(parent.ino, name);
      return child ? replyEntry(*request, *child, true, true) : replyNegative(*request, true);
    }
    case Target::kCommitted:
      break;
    case Target::kRoot: {
      {
        // The same in every generation that anybody sees: no need to know who asks.
        std::shared_lock lock(viewsMutex_);
        if (rootNameMayBeCached(name)) {
          const auto child = shownChild({head_, 0}, name);
          return child ? replyEntry(*request, *child, true, true) : replyNegative(*request, true);
        }
      }
      return withView(std::move(request), Asks::kName,
                      [this](fuse::Request& r, const Caller& caller) { lookUpInRoot(r, caller); });
    }
  }
  // A member that stands in a committed directory (its cwd) arrives at the transaction's nodes from there too.
  if (const TxnPtr member = memberInCommitted(request)) {
    Transaction& tree = *member->tree;
    const uint64_t directory = tree.resolve(parent.committed.path());
    if (directory == 0) return request->replyError(ENOENT);
    const auto found = tree.lookup(directory, name, referencesOf(*request));
    if (found.error != 0) return request->replyError(found.error);
    return replyEntry(*request, found.attributes, false, true);
  }
  if (!parent.committed.isDirectory()) return request->replyError(ENOTDIR);
  const auto child = shownChild(parent.committed, name);
  return child ? replyEntry(*request, *child, true, true) : replyNegative(*request, true);
}

void Overlay::lookUpInRoot(fuse::Request& request, const Caller& caller) {
  if (!caller.member) {
    const auto child = shownChild(viewRoot(caller), request.name());
    return child ? replyEntry(request, *child, false, true) : replyNegative(request, false);
  }
  Transaction& tree = *caller.member->tree;
  const std::string& token = caller.member->token;
  const std::string_view name = request.name();
  const bool isOwnRoot = !token.empty() && name.starts_with(kOwnRootPrefix) && name == ownRootName(token) &&
                         !caller.isObserver && &request.session() == session_ && session_->negotiated().epoch;
  if (const uint32_t number = isOwnRoot ? ownRoots_.give(caller.member->id) : 0; number != 0) {
    tree.setOwnRoot(number);
    fuse_entry_out out = entryFor(tree.getattr(kRootIno).attributes, false, false);
    out.nodeid = nodeidOf(number, kRootIno);
    return request.reply(out);
  }
  const auto found = tree.lookup(kRootIno, request.name(), referencesOf(request));
  if (found.error == ENOENT) return replyNegative(request, mayCacheNames(request, tree));
  if (found.error != 0) return request.replyError(found.error);
  replyEntry(request, found.attributes, mayCacheNames(request, tree), true);
}

void Overlay::forgetNode(uint64_t nodeid, uint64_t count) {
  if (inoOf(nodeid) == kRootIno) return ownRoots_.forget(rootOf(nodeid), count);
  const Target target = resolve(nodeid);
  if (target.kind == Target::kTransaction) target.txn->tree->forget(target.ino, count);
  if (target.kind == Target::kLive) live_.forget(target.ino, count);
}

void Overlay::forget(fuse::RequestPtr request) {
  if (referencesOf(*request) == 0) return request->replyNone();
  forgetNode(request->nodeid(), request->arg<fuse_forget_in>().nlookup);
  request->replyNone();
}

void Overlay::batchForget(fuse::RequestPtr request) {
  if (referencesOf(*request) == 0) return request->replyNone();
  const auto payload = request->payload();
  const auto* items = reinterpret_cast<const fuse_forget_one*>(payload.data());
  const size_t count = std::min<size_t>(request->arg<fuse_batch_forget_in>().count, payload.size() / sizeof *items);
  for (size_t i = 0; i < count; ++i) forgetNode(items[i].nodeid, items[i].nlookup);
  request->replyNone();
}

void Overlay::getattr(fuse::RequestPtr request) {
  const Target target = resolve(request->nodeid());
  switch (target.kind) {
    case Target::kNone:
      return request->replyError(ESTALE);
    case Target::kTransaction: {
      const auto found = target.txn->tree->getattr(target.ino);
      if (found.error != 0) return request->replyError(found.error);
      return replyAttributes(*request, found.attributes, true);
    }
    case Target::kCommitted:
      return replyAttributes(*request, attributesOf(target.committed), true);
    case Target::kLive: {
      const auto found = live_.attributes(target.ino);
      return found ? replyAttributes(*request, *found, true) : request->replyError(ESTALE);
    }
    case Target::kRoot: {
      {
        std::shared_lock lock(viewsMutex_);
        if (rootAttributesAreHeads()) {
          const bool cache = session_->negotiated().epoch && request->nodeid() == kRootIno;
          return replyAttributes(*request, attributesOf({head_, 0}), cache);
        }
      }
      return withView(std::move(request), Asks::kAttributes, [this](fuse::Request& r, const Caller& caller) {
        if (caller.member) {
          auto found = caller.member->tree->getattr(kRootIno);
          if (found.error != 0) return r.replyError(found.error);
          const int64_t baseNs = caller.member->tree->baseRoot().entry().mtimeNs;
          if (found.attributes.mtimeNs == baseNs) found.attributes.mtimeNs += kOtherViewNs;
          return replyAttributes(r, found.attributes, mayCacheNames(r, *caller.member->tree));
        }
        const bool hasOwn = caller.isObserver || options_.pin == PinPolicy::kLease;
        NodeAttributes attributes = attributesOf(hasOwn ? viewRoot(caller) : Committed{head_, 0});
        if (caller.isObserver) attributes.mtimeNs += kOtherViewNs;
        replyAttributes(r, attributes, false);
      });
    }
  }
}

void Overlay::readlink(fuse::RequestPtr request) {
  const Target target = resolve(request->nodeid());
  if (target.kind == Target::kCommitted) {
    const Entry& e = target.committed.entry();
    if (!S_ISLNK(e.mode)) return request->replyError(EINVAL);
    const std::string_view text = target.committed.manifest->link(e);
    return request->replyData(text.data(), text.size());
  }
  if (target.kind != Target::kTransaction) {
    return request->replyError(target.kind == Target::kNone ? ESTALE : EINVAL);
  }
  std::string text;
  if (const int e = target.txn->tree->readlink(target.ino, text)) return request->replyError(e);
  request->replyData(text.data(), text.size());
}

void Overlay::statfs(fuse::RequestPtr request) {
  struct statvfs v;
  request->resign();
  if (::fstatvfs(backing_.lowerFd(), &v) != 0) return request->replyError(errno);
  fuse_statfs_out out{};
  out.st.blocks = v.f_blocks;
  out.st.bfree = v.f_bfree;
  out.st.bavail = v.f_bavail;
  out.st.files = v.f_files;
  out.st.ffree = v.f_ffree;
  out.st.bsize = static_cast<uint32_t>(v.f_bsize);
  out.st.frsize = static_cast<uint32_t>(v.f_frsize);
  out.st.namelen = 255;
  request->reply(out);
}

namespace {

// GETXATTR and LISTXATTR: size 0 asks how much room is needed.
void replySized(fuse::Request& request, uint32_t room, std::string_view value) {
  if (room == 0) {
    fuse_getxattr_out out{};
    out.size = static_cast<uint32_t>(value.size());
    return request.reply(out);
  }
  if (value.size() > room) return request.replyError(ERANGE);
  request.replyData(value.data(), value.size());
}

Xattrs xattrsOf(const Committed& node) {
  return decodeXattrs(node.manifest->xattrs(node.entry()));
}

void replyXattr(fuse::Request& request, const Xattrs& xattrs) {
  const auto at = xattrs.find(std::string(request.name()));
  if (at == xattrs.end()) return request.replyError(ENODATA);
  replySized(request, request.arg<fuse_getxattr_in>().size, at->second);
}

void replyXattrNames(fuse::Request& request, const Xattrs& xattrs) {
  std::string names;
  for (const auto& [name, value] : xattrs) names += name + '\0';
  replySized(request, request.arg<fuse_getxattr_in>().size, names);
}

}  // namespace

void Overlay::withXattrs(fuse::RequestPtr request, void (*answer)(fuse::Request&, const Xattrs&)) {
  const Target target = resolve(request->nodeid());
  switch (target.kind) {
    case Target::kNone:
      return request->replyError(ESTALE);
    case Target::kCommitted:
      return answer(*request, xattrsOf(target.committed));
    case Target::kLive:
      return answer(*request, target.committed ? xattrsOf(target.committed) : Xattrs{});
    case Target::kTransaction: {
      Xattrs xattrs;
      if (const int e = target.txn->tree->xattrs(target.ino, xattrs)) return request->replyError(e);
      return answer(*request, xattrs);
    }
    case Target::kRoot:
      return withView(std::move(request), Asks::kAttributes, [this, answer](fuse::Request& r, const Caller& caller) {
        if (!caller.member) return answer(r, xattrsOf(viewRoot(caller)));
        Xattrs xattrs;
        if (const int e = caller.member->tree->xattrs(kRootIno, xattrs)) return r.replyError(e);
        answer(r, xattrs);
      });
  }
}

void Overlay::getxattr(fuse::RequestPtr request) {
  withXattrs(std::move(request), replyXattr);
}
void Overlay::listxattr(fuse::RequestPtr request) {
  withXattrs(std::move(request), replyXattrNames);
}

}  // namespace siteswap::overlay
