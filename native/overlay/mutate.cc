// Changes: whose they are, and what they do to a transaction's tree.
#include <fcntl.h>

#include <cerrno>
#include <chrono>
#include <future>
#include <set>

#include "overlay/overlay.h"
#include "sys/clock.h"

namespace siteswap::overlay {

namespace {

// It takes as long as waking a thread, unless somebody holds it up.
constexpr std::chrono::seconds kListingsPatience{1};

}  // namespace

std::string Overlay::pathOf(const Target& target) {
  if (target.kind == Target::kCommitted) return target.committed.path();
  if (target.kind == Target::kTransaction) return target.txn->tree->pathOfDirectory(target.ino).value_or("");
  if (target.kind == Target::kLive && !target.committed) {
    std::string below = live_.nameOf(target.ino);
    uint64_t key = live_.parentOf(target.ino);
    for (; live_.has(key); key = live_.parentOf(key)) below = live_.nameOf(key) + "/" + below;
    if (key >= LiveLayer::rootKey(0)) return below;
    std::shared_lock lock(viewsMutex_);
    const Committed directory = findCommitted(key);
    return directory ? directory.path() + "/" + below : "";
  }
  return "";
}

void Overlay::askPolicy(fuse::RequestPtr request, const std::string& path) {
  OverlayEvents::Writer writer;
  const process::ProcessPtr process = processes_.ofThread(static_cast<pid_t>(request->tid()));
  // By names that the kernel keeps a member may have come to its own root's end without ever being seen.
  const bool isLeftBehind = ownRoots_.isDropped(rootOf(request->nodeid()));
  if (isLeftBehind || worksInDropped(process)) return request->replyError(EROFS);
  writer.pid = process ? process->pid : 0;
  writer.uid = request->header().uid;
  writer.gid = request->header().gid;
  for (const char* c = request->opcodeName(); *c != '\0'; ++c) writer.op += static_cast<char>(std::tolower(*c));
  writer.path = path;
  {
    std::lock_guard lock(parkMutex_);
    if (shuttingDown_ || wasInterrupted(*request)) return request->replyError(EINTR);
    writer.request = nextDecision_++;
    deciding_[writer.request] = std::move(request);
  }
  ++committedViewEvents_;
  events_.writerAppeared(writer);
}

void Overlay::decide(uint64_t id, Verdict verdict, int errorNumber) {
  fuse::RequestPtr request;
  {
    std::lock_guard lock(parkMutex_);
    const auto at = deciding_.find(id);
    if (at == deciding_.end()) return;  // interrupted meanwhile
    request = std::move(at->second);
    deciding_.erase(at);
  }
  if (verdict == Verdict::kError) return request->replyError(errorNumber);
  request->beganMembership = verdict == Verdict::kRetry;
  request->goesLive = verdict == Verdict::kLive;
  fuse::Session::resubmit(std::move(request));
}

bool Overlay::enterTree(fuse::RequestPtr& request, const TxnPtr& txn) {
  if (refuseObserver(request)) return false;
  if (txn->tree->enter()) return true;
  // Being decided: what comes now waits, and is a change of its own afterwards. Decided against: no more changes.
  if (!park(request, txn)) request->replyError(EROFS);
  return false;
}

bool Overlay::enterAsMember(fuse::RequestPtr& request, const Target& target, const std::string& path, Change_& change) {
  for (;;) {
    Caller caller;
    if (!identify(request, Asks::kAttributes, caller)) return false;
    if (caller.isObserver) {
      request->replyError(EROFS);
      return false;
    }
    if (!caller.member) {
      if (request->goesLive || (!caller.process && request->tid() == 0)) {
        // Nothing for the live layer after all; or a process of another pid namespace, or the kernel itself: nobody
        // can say whose transaction this would be.
        request->replyError(EROFS);
      } else {
        askPolicy(std::move(request), path);
      }
      return false;
    }
    std::shared_ptr<Transaction> tree = caller.member->tree;
    {
      std::shared_lock lock(viewsMutex_);
      if (caller.member->detached) continue;
    }
    if (!enterTree(request, caller.member)) return false;
    change.tree = tree;
    change.ino = target.kind == Target::kRoot ? kRootIno : 0;
    return true;
  }
}

bool Overlay::enterDirectory(fuse::RequestPtr& request, uint64_t nodeid, std::string_view name, Change_& change) {
  if (name.size() > 255) {
    request->replyError(ENAMETOOLONG);
    return false;
  }
  const Target target = resolve(nodeid);
  if (target.kind == Target::kNone) {
    request->replyError(ESTALE);
    return false;
  }
  if (target.kind == Target::kTransaction && target.txn->tree->state() != TransactionState::kCommitted) {
    if (!enterTree(request, target.txn)) return false;
    change.tree = target.txn->tree;
    change.ino = target.ino;
    noteReached(*change.tree, nodeid);
    return true;
  }
  const std::string directory = pathOf(target);
  const std::string path = joinPath(directory, name);
  if (!enterAsMember(request, target, path, change)) return false;
  if (target.kind == Target::kRoot) {
    noteReached(*change.tree, nodeid);
    return true;
  }
  // The request that began a membership came by names of before: the kernel walks them again, once, and arrives at the
  // transaction's own nodes. Who was a member already stands in a committed directory (a cwd, a descriptor).
  if (request->beganMembership) {
    request->replyError(ESTALE);
    return false;
  }
  change.ino = change.tree->resolve(directory);
  if (change.ino == 0) {
    request->replyError(ENOENT);
    return false;
  }
  keepNoNames(*change.tree);
  return true;
}

bool Overlay::enterFile(fuse::RequestPtr& request, uint64_t nodeid, Reach reach, Change_& change) {
  const Target target = resolve(nodeid);
  if (target.kind == Target::kNone) {
    request->replyError(ESTALE);
    return false;
  }
  const bool isCommittedTree =
      target.kind == Target::kTransaction && target.txn->tree->state() == TransactionState::kCommitted;
  if (target.kind == Target::kTransaction && !isCommittedTree) {
    if (!enterTree(request, target.txn)) return false;
    change.tree = target.txn->tree;
    change.ino = target.ino;
    // Of the live layer: the bytes of now go with whatever is changed of it.
    if (change.tree->bodyPlace(change.ino).liveIno == 0) return true;
    request->resign();
    FdPtr body;
    const int e = writableBody(change, UINT64_MAX, body);
    if (e != 0) request->replyError(e == ENOENT ? ESTALE : e);
    return e == 0;
  }
  if (target.kind == Target::kRoot) return enterAsMember(request, target, "", change);
  if (refuseObserver(request)) return false;
  // A process that can't be seen from here changes nothing. (The kernel writes back what was stored through a mapping,
  // and does not say who stored it.)
  const bool isWriteBack =
      request->opcode() == FUSE_WRITE && (request->arg<fuse_write_in>().write_flags & FUSE_WRITE_CACHE) != 0;
  if (request->tid() == 0 && !isWriteBack) {
    request->replyError(EROFS);
    return false;
  }
  if (target.kind == Target::kLive) {
    change.ino = target.ino;
    return true;
  }
  if (reach == Reach::kByDescriptor && target.kind == Target::kCommitted) {
    // In place and without truncating: that is no install. The pages of a committed file are everybody's, so what is
    // written through a descriptor of it is everybody's at once, as on a plain directory.
    request->resign();
    if (const int e = adopt(target.committed)) {
      request->replyError(e);
      return false;
    }
    change.ino = target.ino;
    return true;
  }
  if (reach == Reach::kByDescriptor) {
    request->replyError(EROFS);
    return false;
  }
  const std::string path = pathOf(target);
  if (!enterAsMember(request, target, path, change)) return false;
  if (reach == Reach::kByEither && target.kind == Target::kCommitted) {
    change.ino = change.tree->resolve(path);
    change.through = {target.committed, request->header().uid};
    if (change.ino != 0) return true;
  }
  // The walk is made again and arrives at the transaction's own node.
  request->replyError(ESTALE);
  return false;
}

// A directory is another inode to the kernel from each root, and from a committed one that a member stands in: what it
// keeps of the others' attributes is of before the change.
void Overlay::forgetElsewhere(fuse::Request& request, const Change_& change, uint64_t nodeid) {
  if (change.tree == nullptr) return;
  for (const uint64_t other : {change.ino, nodeidOf(change.tree->ownRoot(), change.ino)}) {
    // Of the mount's root nothing is kept while there are members.
    if (other != nodeid && other != kRootIno) session_->notifyInvalInode(other, -1, 0);
  }
  if (const Committed base = change.tree->takeDifference(change.ino); base && base.entry().ino != kRootIno) {
    dropListings(request, base);
  }
}

// The kernel keeps the listing of a committed directory for everybody, members who stand in it too: that was right for
// them until the names began to differ in their transaction. They may stand in it as any generation has it.
//
// The kernel waits for the pages of the listing, one of which is locked while it is copied to somebody's memory, and
// who that is may let it wait there for as long as he likes. So this is done with no lock held, on a thread that others
// need not wait for, and nobody waits for that one long.
void Overlay::dropListings(fuse::Request& request, const Committed& directory) {
  const std::string path = directory.path();
  std::set<uint64_t> inos{directory.entry().ino};
  {
    std::shared_lock lock(viewsMutex_);
    for (const auto& [generation, manifest] : manifests_) {
      if (const Committed at = Committed{manifest.get(), 0}.descendant(path)) inos.insert(at.entry().ino);
    }
  }
  request.resign();
  const auto done = std::make_shared<std::promise<void>>();
  listingsDropped_.run([this, inos, done] {
    for (const uint64_t ino : inos) session_->notifyInvalInode(ino, 0, 0);
    done->set_value();
  });
  done->get_future().wait_for(kListingsPatience);
}

// ---- names ------------------------------------------------------------------------------------------------------

// The new name stands in the kernel below the transaction's own directory, not below a committed one.
bool Overlay::mayCacheNew(const fuse::Request& request, const Change_& change) const {
  return inoOf(request.nodeid()) == change.ino && mayCacheNames(request, *change.tree);
}

void Overlay::createNode(fuse::RequestPtr request, std::string_view name, uint32_t mode, uint32_t rdev,
                         std::string_view target) {
  if (S_ISDIR(mode) && createLive(request, name, mode)) return;
  Change_ change;
  if (!enterDirectory(request, request->nodeid(), name, change)) return;
  const auto made =
      change.tree->create(change.ino, name, mode, request->header().uid, request->header().gid, rdev, target, 1);
  if (made.error != 0) return request->replyError(made.error);
  forgetElsewhere(*request, change, request->nodeid());
  replyEntry(*request, made.attributes, mayCacheNew(*request, change), true);
}

void Overlay::mkdir(fuse::RequestPtr request) {
  const std::string name(request->name());
  const uint32_t mode = S_IFDIR | (request->arg<fuse_mkdir_in>().mode & 07777);
  createNode(std::move(request), name, mode, 0, "");
}

void Overlay::mknod(fuse::RequestPtr request) {
  const std::string name(request->name());
  const auto arg = request->arg<fuse_mknod_in>();
  createNode(std::move(request), name, arg.mode, arg.rdev, "");
}

void Overlay::symlink(fuse::RequestPtr request) {
  const std::string name(request->name(0)), target(request->name(1));
  createNode(std::move(request), name, S_IFLNK | 0777, 0, target);
}

void Overlay::replyCreated(fuse::Request& request, const NodeAttributes& attributes, bool cache) {
  struct {
    fuse_entry_out entry;
    fuse_open_out open;
  } out{};
  out.entry = entryFor(attributes, cache, true);
  out.open.open_flags = FOPEN_KEEP_CACHE;
  live_.addReferences(attributes.ino, referencesOf(request));
  request.reply(out);
}

void Overlay::create(fuse::RequestPtr request) {
  const auto arg = request->arg<fuse_create_in>();
  const std::string name(request->name());
  if (createLive(request, name, S_IFREG | (arg.mode & 07777))) return;
  Change_ change;
  if (!enterDirectory(request, request->nodeid(), name, change)) return;
  const auto made = change.tree->create(change.ino, name, S_IFREG | (arg.mode & 07777), request->header().uid,
                                        request->header().gid, 0, "", 1);
  // Without O_EXCL an existing file is opened: the kernel walks again, finds it, and does that itself.
  if (made.error == EEXIST && (arg.flags & O_EXCL) == 0) return request->replyError(ESTALE);
  if (made.error != 0) return request->replyError(made.error);
  forgetElsewhere(*request, change, request->nodeid());
  replyCreated(*request, made.attributes, mayCacheNew(*request, change));
}

void Overlay::tmpfile(fuse::RequestPtr request) {
  const auto arg = request->arg<fuse_create_in>();
  Change_ change;
  if (!enterDirectory(request, request->nodeid(), "", change)) return;
  const auto directory = change.tree->getattr(change.ino);
  if (directory.error != 0) return request->replyError(directory.error);
  const bool givesGroup = (directory.attributes.mode & S_ISGID) != 0;
  const uint32_t gid = givesGroup ? directory.attributes.gid : request->header().gid;
  const auto made = change.tree->create(0, "", S_IFREG | (arg.mode & 07777), request->header().uid, gid, 0, "", 1);
  if (made.error != 0) return request->replyError(made.error);
  replyCreated(*request, made.attributes, mayCacheNew(*request, change));
}

void Overlay::removeNode(fuse::RequestPtr request, bool directory) {
  if (removeLive(request, directory)) return;
  const std::string name(request->name());
  Change_ change;
  if (!enterDirectory(request, request->nodeid(), name, change)) return;
  if (const int e = change.tree->remove(change.ino, name, directory)) return request->replyError(e);
  forgetElsewhere(*request, change, request->nodeid());
  request->replyEmpty();
}

void Overlay::unlink(fuse::RequestPtr request) {
  removeNode(std::move(request), false);
}
void Overlay::rmdir(fuse::RequestPtr request) {
  removeNode(std::move(request), true);
}

void Overlay::rename(fuse::RequestPtr request) {
  const auto arg = request->arg<fuse_rename2_in>();
  if (renameLive(request)) return;
  const std::string name(request->name(0)), name2(request->name(1));
  Change_ from, to;
  if (!enterDirectory(request, request->nodeid(), name, from)) return;
  if (!enterDirectory(request, arg.newdir, name2, to)) return;
  if (from.tree != to.tree) return request->replyError(EXDEV);
  if (const int e = from.tree->rename(from.ino, name, to.ino, name2, arg.flags)) return request->replyError(e);
  forgetElsewhere(*request, from, request->nodeid());
  forgetElsewhere(*request, to, arg.newdir);
  request->replyEmpty();
}

void Overlay::link(fuse::RequestPtr request) {
  const uint64_t old = request->arg<fuse_link_in>().oldnodeid;
  const std::string name(request->name());
  Change_ file, directory;
  if (!enterDirectory(request, request->nodeid(), name, directory)) return;
  if (!enterFile(request, old, Reach::kByPath, file)) return;
  if (file.tree == nullptr || file.tree != directory.tree) return request->replyError(EXDEV);
  const auto made = file.tree->link(file.ino, directory.ino, name, 1);
  if (made.error != 0) return request->replyError(made.error);
  forgetElsewhere(*request, directory, request->nodeid());
  replyEntry(*request, made.attributes, mayCacheNew(*request, directory), true);
}

// ---- attributes -------------------------------------------------------------------------------------------------

Transaction::Result Overlay::attributesIn(const Change_& change) {
  if (change.tree != nullptr) return change.tree->getattr(change.ino);
  const auto present = live_.attributes(change.ino);
  return present ? Transaction::Result{0, *present} : Transaction::Result{ESTALE, {}};
}

Transaction::Result Overlay::setAttributesIn(const Change_& change, const AttributeChange& wanted) {
  return change.tree == nullptr ? live_.setAttributes(change.ino, wanted)
                                : change.tree->setAttributes(change.ino, wanted, change.through);
}

void Overlay::setattr(fuse::RequestPtr request) {
  const auto arg = request->arg<fuse_setattr_in>();
  const Reach reach = (arg.valid & FATTR_FH) != 0     ? Reach::kByDescriptor
                      : (arg.valid & FATTR_SIZE) != 0 ? Reach::kByPath
                                                      : Reach::kByEither;
  Change_ change;
  if (!enterFile(request, request->nodeid(), reach, change)) return;
  if ((arg.valid & FATTR_SIZE) != 0) {
    if ((arg.valid & FATTR_KILL_SUIDGID) != 0) {
      if (const int e = clearSetid(change)) return request->replyError(e);
    }
    if (const int e = resize(*request, change, arg.size)) return request->replyError(e);
  }
  const int64_t now = sys::realtimeNs();
  // What is beyond the years 1677 to 2262 is taken for their end, as by a file system that can't hold it.
  const auto toNs = [](uint64_t wire, uint32_t rest) {
    constexpr int64_t kSecond = 1'000'000'000, kMost = INT64_MAX / kSecond - 1;
    const auto seconds = static_cast<int64_t>(wire);
    if (seconds < -kMost || seconds > kMost) return (seconds < 0 ? -kMost : kMost) * kSecond;
    return seconds * kSecond + rest;
  };
  AttributeChange wanted;
  wanted.mask = arg.valid & (FATTR_MODE | FATTR_UID | FATTR_GID | FATTR_ATIME | FATTR_MTIME);
  wanted.mode = arg.mode, wanted.uid = arg.uid, wanted.gid = arg.gid;
  wanted.atimeNs = (arg.valid & FATTR_ATIME_NOW) != 0 ? now : toNs(arg.atime, arg.atimensec);
  wanted.mtimeNs = (arg.valid & FATTR_MTIME_NOW) != 0 ? now : toNs(arg.mtime, arg.mtimensec);
  if ((arg.valid & FATTR_KILL_SUIDGID) != 0 && (wanted.mask & FATTR_MODE) == 0 &&
      (wanted.mask & (FATTR_UID | FATTR_GID)) != 0) {
    // HANDLE_KILLPRIV_V2: a change of owner takes set-user-id and set-group-id away, and that is ours to do.
    const auto present = attributesIn(change);
    if (present.error != 0) return request->replyError(present.error);
    wanted.mask |= FATTR_MODE;
    wanted.mode = withoutSetid(present.attributes.mode);
  }
  const auto result = wanted.mask == 0 ? attributesIn(change) : setAttributesIn(change, wanted);
  if (result.error != 0) return request->replyError(result.error);
  if (S_ISDIR(result.attributes.mode)) forgetElsewhere(*request, change, request->nodeid());
  if (!change.through.node) return replyAttributes(*request, result.attributes, change.ino != kRootIno);
  forgetOther(change);
  replyAttributes(*request, shown(change.through.node), true);
}

// Another file changed than the one that was named, which is everybody's and as it was: what the kernel keeps of it is
// void, and so are the names by which a member that stands in a committed directory has reached the one named.
void Overlay::forgetOther(const Change_& change) {
  session_->notifyInvalInode(change.ino, -1, 0);
  std::unique_lock lock(viewsMutex_);
  refreshKernelRoot();
}

void Overlay::setxattr(fuse::RequestPtr request) {
  const auto arg = request->arg<fuse_setxattr_in>();
  const std::string name(request->name());
  // Namespaces that the kernel gives a meaning to elsewhere (ACLs), and names without one.
  if (!name.starts_with("user.") && !name.starts_with("trusted.") && !name.starts_with("security.")) {
    return request->replyError(EOPNOTSUPP);
  }
  Change_ change;
  if (!enterFile(request, request->nodeid(), Reach::kByEither, change)) return;
  if (change.tree == nullptr) return request->replyError(EOPNOTSUPP);
  const auto value = request->payload();
  const std::string_view text{reinterpret_cast<const char*>(value.data()), value.size()};
  const int e = change.tree->setXattr(change.ino, name, text, arg.flags, change.through);
  if (e != 0) return request->replyError(e);
  if (change.through.node) forgetOther(change);
  request->replyEmpty();
}

void Overlay::removexattr(fuse::RequestPtr request) {
  const std::string name(request->name());
  Change_ change;
  if (!enterFile(request, request->nodeid(), Reach::kByEither, change)) return;
  if (change.tree == nullptr) return request->replyError(EOPNOTSUPP);
  if (const int e = change.tree->removeXattr(change.ino, name, change.through)) return request->replyError(e);
  if (change.through.node) forgetOther(change);
  request->replyEmpty();
}

}  // namespace siteswap::overlay
