#include "overlay/merge.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <functional>
#include <set>

#include "overlay/manifest_writer.h"
#include "sys/clock.h"
#include "sys/unique_fd.h"

namespace siteswap::overlay {

namespace {

// The same thing on both sides? Directories are compared by what is in them: their numbers also change when
// something far away below the same root entry does.
bool same(const Committed& a, const Committed& b) {
  if (!a || !b) return !a && !b;
  const Entry& x = a.entry();
  const Entry& y = b.entry();
  if (x.ino == y.ino) return true;
  if (!S_ISDIR(x.mode) || !S_ISDIR(y.mode)) return false;
  if (x.mode != y.mode || x.uid != y.uid || x.gid != y.gid || x.childCount != y.childCount) return false;
  if (a.manifest->xattrs(x) != b.manifest->xattrs(y)) return false;
  for (uint32_t i = 0; i < x.childCount; ++i) {
    if (a.nameOfChild(i) != b.nameOfChild(i) || !same(a.childAt(i), b.childAt(i))) return false;
  }
  return true;
}

// Is this node what the base has at the same place, whatever happened to its content?
bool isInPlace(const Node& node, const Committed& base) {
  if (!base || !node.base) return false;
  return node.isDirectory() ? node.base == base : node.base.entry().ino == base.entry().ino;
}

class Merger {
 public:
  explicit Merger(const MergeOptions& options)
      : options_(options), transaction_(options.transaction), lastMtimeNs_(options.maxMtimeNs) {}

  MergeResult run() {
    transaction_.locked([&] { mergeRoot(); });
    result_.entries = writer_.size();
    result_.nextIno = nextIno_;
    result_.maxMtimeNs = lastMtimeNs_;
    if (result_.error == 0 && result_.conflicts.empty()) {
      result_.error = writer_.write(options_.manifestPath, {options_.generation, nextIno_, lastMtimeNs_});
    }
    return std::move(result_);
  }

 private:
  // CPython caches a directory's listing by its float mtime: later than any given out, and more than a float's grain.
  int64_t fresh() {
    constexpr int64_t kGrainNs = 2000;
    return lastMtimeNs_ = std::max(sys::realtimeNs(), lastMtimeNs_ + kGrainNs);
  }

  uint64_t newIno() {
    if (nextIno_ == endIno_) {
      nextIno_ = options_.numbers.takeBlock();
      if (nextIno_ == 0) result_.error = ENFILE;
      endIno_ = nextIno_ + (uint64_t{1} << kInoBlockBits);
    }
    return nextIno_++;
  }

  void mergeRoot() {
    const Node& root = *transaction_.node(kRootIno);
    Entry e = root.attributesChanged ? entryOf(root) : options_.head.entry();
    e.ino = kRootIno;
    e.mtimeNs = e.ctimeNs = fresh();
    writer_.add(0, "", e, "", xattrsOf(root, options_.head));
    mergeDirectory(0, root, options_.base, options_.head, "");
  }

  void mergeDirectory(uint32_t out, const Node& node, const Committed& base, const Committed& head,
                      const std::string& path) {
    const uint32_t headCount = head.entry().childCount;
    for (uint32_t i = 0; i < headCount; ++i) {
      const std::string name(head.nameOfChild(i));
      const auto record = node.children.find(name);
      if (record == node.children.end()) {
        copyCommitted(out, name, head.childAt(i), path);
      } else {
        mergeChild(out, name, record->second, base ? base.child(name) : Committed{}, head.childAt(i), path);
      }
    }
    for (const auto& [name, record] : node.children) {
      if (!head.child(name)) mergeChild(out, name, record, base ? base.child(name) : Committed{}, {}, path);
    }
    setLinkCount(out);
  }

  void mergeChild(uint32_t out, const std::string& name, const ChildRecord& record, const Committed& base,
                  const Committed& head, const std::string& directoryPath) {
    const std::string path = joinPath(directoryPath, name);
    const Node* node = nullptr;
    if (!Transaction::isWhiteout(record) && (node = transaction_.node(record.ino)) == nullptr) {
      result_.error = EIO;
      return;
    }
    if (node != nullptr && transaction_.isThrowaway(*node)) {
      if (head) copyCommitted(out, name, head, directoryPath);
      return;
    }
    if (const Resolution* decided = resolutionAt(path)) {
      return resolve([out] { return out; }, name, {node, {}}, base, head, directoryPath, *decided);
    }
    if (node == nullptr) {
      if (head && !same(base, head)) result_.conflicts.push_back(path);
      return;
    }
    const bool inPlace = isInPlace(*node, base);
    if (inPlace && !transaction_.subtreeChanged(*node)) {
      if (head) copyCommitted(out, name, head, directoryPath);
      return;
    }
    const bool bothDirectories = node->isDirectory() && head && head.isDirectory();
    if (bothDirectories && (inPlace || (!base && !node->base))) {
      mergeBoth(out, name, *node, base, head, directoryPath);
      return;
    }
    if (!same(base, head)) {
      result_.conflicts.push_back(path);
      return;
    }
    addNode(out, name, *node, directoryPath, inPlace);
  }

  void mergeBoth(uint32_t out, const std::string& name, const Node& node, const Committed& base, const Committed& head,
                 const std::string& directoryPath) {
    Entry e = base && !node.attributesChanged ? head.entry() : entryOf(node);
    // The transaction's own number stands for what the transaction saw there, and the kernel may have that cached.
    e.ino = base && base.entry().ino == head.entry().ino ? node.ino : newIno();
    if (node.entriesChanged) e.mtimeNs = e.ctimeNs = fresh();
    const uint32_t handle = writer_.add(out, name, e, "", xattrsOf(node, head));
    mergeDirectory(handle, node, base, head, joinPath(directoryPath, name));
  }

  // ---- resolutions

  const Resolution* resolutionAt(const std::string& path) const {
    const auto at = options_.resolutions.find(path);
    return at == options_.resolutions.end() ? nullptr : &at->second;
  }
  bool hasResolutionBelow(const std::string& path) const {
    const auto at = options_.resolutions.lower_bound(path + "/");
    return at != options_.resolutions.end() && at->first.starts_with(path + "/");
  }

  // Where something is put; a directory that is made when the first thing is put into it.
  using Place = std::function<uint32_t()>;
  // What the transaction has at a name: a node, an entry of the base that came with a directory, or nothing.
  struct Ours {
    const Node* node = nullptr;
    Committed committed;
    explicit operator bool() const { return node != nullptr || committed; }
    bool isDirectory() const { return node != nullptr ? node->isDirectory() : committed.isDirectory(); }
  };

  void addOurs(const Place& place, const std::string& name, const Ours& ours, const Committed& base,
               const std::string& directoryPath) {
    if (ours.node != nullptr) return addNode(place(), name, *ours.node, directoryPath, isInPlace(*ours.node, base));
    if (ours.committed) copyCommitted(place(), name, ours.committed, directoryPath);
  }

  void resolve(const Place& place, const std::string& name, const Ours& ours, const Committed& base,
               const Committed& head, const std::string& directoryPath, const Resolution& decided) {
    switch (decided.take) {
      case Resolution::kNothing:
        return;
      case Resolution::kHead:
        if (head) copyCommitted(place(), name, head, directoryPath);
        return;
      case Resolution::kTransaction:
        return addOurs(place, name, ours, base, directoryPath);
      case Resolution::kContent:
        return addContent(place(), name, ours, head, decided.content);
      case Resolution::kMerge:
        return mergeByName(place, name, ours, base, head, directoryPath);
    }
  }

  void addContent(uint32_t out, const std::string& name, const Ours& ours, const Committed& head,
                  const std::string& content) {
    Entry e = ours.node != nullptr && ours.node->isFile() ? entryOf(*ours.node)
              : ours.committed                            ? ours.committed.entry()
              : head                                      ? head.entry()
                                                          : Entry{};
    if (!S_ISREG(e.mode)) {
      result_.error = EINVAL;
      return;
    }
    e.ino = e.body = newIno();
    e.layer = options_.layer;
    e.size = content.size();
    e.blocks = (e.size + 511) / 512;
    e.mtimeNs = e.ctimeNs = sys::realtimeNs();
    e.nlink = 1, e.flags = 0, e.lowerIno = 0;
    const std::string body = Transaction::bodyName(e.ino);
    sys::UniqueFd fd(::openat(transaction_.bodiesFd(), body.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
    if (fd.get() < 0) {
      result_.error = errno;
      return;
    }
    for (size_t done = 0; done < content.size();) {
      const ssize_t n = ::write(fd.get(), content.data() + done, content.size() - done);
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) {
        result_.error = n < 0 ? errno : EIO;
        return;
      }
      done += static_cast<size_t>(n);
    }
    if (e.size != 0) ++result_.bodies;
    writer_.add(out, name, e, "", ours.node != nullptr ? xattrsOf(*ours.node, head) : "");
  }

  // Three-way over the names in a directory that one side may have replaced by another, or removed.
  void mergeByName(const Place& place, const std::string& name, const Ours& ours, const Committed& base,
                   const Committed& head, const std::string& directoryPath) {
    const std::string path = joinPath(directoryPath, name);
    const auto fits = [](const Committed& c) { return !c || c.isDirectory(); };
    if ((ours && !ours.isDirectory()) || !fits(head) || !fits(base) || (!ours && !head)) {
      result_.conflicts.push_back(path);
      return;
    }
    const Committed inherited = ours.node != nullptr ? ours.node->base : ours.committed;
    std::optional<uint32_t> handle;
    const Place inside = [&] {
      if (!handle) {
        Entry e = ours.node != nullptr ? entryOf(*ours.node) : ours.committed ? ours.committed.entry() : head.entry();
        e.ino = newIno();
        e.flags = 0;
        e.mtimeNs = e.ctimeNs = fresh();
        const std::string xattrs = ours.node != nullptr ? xattrsOf(*ours.node, head) : "";
        handle = writer_.add(place(), name, e, "", xattrs);
      }
      return *handle;
    };
    if (ours && head) inside();
    std::set<std::string> names;
    for (const Committed& side : {head, inherited}) {
      for (uint32_t i = 0; side && i < side.entry().childCount; ++i) names.emplace(side.nameOfChild(i));
    }
    if (ours.node != nullptr) {
      for (const auto& [child, record] : ours.node->children) names.insert(child);
    }
    for (const std::string& child : names) {
      Ours here;
      if (ours.node != nullptr && ours.node->children.contains(child)) {
        const ChildRecord& record = ours.node->children.at(child);
        if (!Transaction::isWhiteout(record)) here.node = transaction_.node(record.ino);
        if (here.node != nullptr && transaction_.isThrowaway(*here.node)) here.node = nullptr;
      } else if (inherited) {
        here.committed = inherited.child(child);
      }
      mergeName(inside, child, here, base ? base.child(child) : Committed{}, head ? head.child(child) : Committed{},
                path, !ours || !head);
    }
    if (handle) setLinkCount(*handle);
  }

  void mergeName(const Place& place, const std::string& name, const Ours& ours, const Committed& base,
                 const Committed& head, const std::string& directoryPath, bool directoryIsGone) {
    const std::string path = joinPath(directoryPath, name);
    if (const Resolution* decided = resolutionAt(path)) {
      return resolve(place, name, ours, base, head, directoryPath, *decided);
    }
    const bool oursIsBase = ours.node != nullptr
                                ? isInPlace(*ours.node, base) && !transaction_.subtreeChanged(*ours.node)
                                : same(ours.committed, base);
    if (oursIsBase) {
      // An addition to what the transaction replaced or removed: does it still mean anything?
      if (!base && head)
        result_.conflicts.push_back(path);
      else if (head)
        copyCommitted(place(), name, head, directoryPath);
      return;
    }
    if (same(base, head)) {
      if (!base && directoryIsGone)
        result_.conflicts.push_back(path);
      else
        addOurs(place, name, ours, base, directoryPath);
      return;
    }
    const bool areDirectories = (!ours || ours.isDirectory()) && (!head || head.isDirectory()) && (ours || head);
    if (areDirectories) return mergeByName(place, name, ours, base, head, directoryPath);
    if (ours || head) result_.conflicts.push_back(path);
  }

  // ---- copies

  // What the transaction has there, as it sees it.
  void addNode(uint32_t out, const std::string& name, const Node& node, const std::string& directoryPath,
               bool inPlace) {
    const std::string path = joinPath(directoryPath, name);
    // A file that only moved, or got a further name, is the same file.
    if (!node.isDirectory() && node.base && !Transaction::selfChanged(node)) {
      copyCommitted(out, name, node.base, directoryPath);
      return;
    }
    Entry e = entryOf(node);
    std::string link = node.target;
    if (node.isFile() && node.ownBody) {
      e.layer = options_.layer;
      e.body = node.ino;
      if (!takeBody(node, e)) return;
    } else if (node.isFile()) {
      const Entry& old = node.base.entry();
      e.layer = old.layer, e.body = old.body, e.lowerIno = old.lowerIno, e.blocks = old.blocks;
      if (old.layer == 0) {
        e.flags |= kHasLowerPath;
        link = node.base.lowerPath();
      }
    }
    if (node.isDirectory() && (node.entriesChanged || !inPlace)) e.mtimeNs = e.ctimeNs = fresh();
    const uint32_t handle = writer_.add(out, name, e, link, xattrsOf(node, node.base));
    if (!node.isDirectory()) return;
    if (node.base) {
      const uint32_t count = node.base.entry().childCount;
      for (uint32_t i = 0; i < count; ++i) {
        const std::string child(node.base.nameOfChild(i));
        if (node.children.contains(child)) continue;
        // At its new path its time may be the one that another listing had there before.
        moved_ = !inPlace;
        copyCommitted(handle, child, node.base.childAt(i), path);
        moved_ = false;
      }
    }
    for (const auto& [childName, record] : node.children) {
      if (Transaction::isWhiteout(record)) continue;
      const Node* child = transaction_.node(record.ino);
      if (child == nullptr) {
        result_.error = EIO;
        return;
      }
      if (transaction_.isThrowaway(*child)) continue;
      addNode(handle, childName, *child, path, inPlace && isInPlace(*child, node.base.child(childName)));
    }
    setLinkCount(handle);
  }

  void copyCommitted(uint32_t out, const std::string& name, const Committed& from, const std::string& directoryPath) {
    const std::string path = joinPath(directoryPath, name);
    if (const Resolution* decided = resolutionAt(path); decided && decided->take == Resolution::kNothing) return;
    Entry e = from.entry();
    const std::string_view xattrs = from.manifest->xattrs(e);
    if (!S_ISDIR(e.mode)) {
      std::string link(from.manifest->link(e));
      e.flags = static_cast<uint16_t>(e.flags & kSeveralNames);
      // A name that nobody looked at, of a file that was changed, removed or linked by another of its names.
      if (const Node* const linked = transaction_.hardLinked(e.ino)) {
        if (Transaction::selfChanged(*linked)) return addNode(out, name, *linked, directoryPath, true);
        e.nlink = linked->nlink + linked->externalLinks;
        e.flags = linked->nlink > 1 ? kSeveralNames : 0;
      }
      if (S_ISREG(e.mode)) {
        link = e.layer == 0 ? from.lowerPath() : "";
        if (link == path) link.clear();
        if (!link.empty()) e.flags |= kHasLowerPath;
      }
      writer_.add(out, name, e, link, xattrs);
      return;
    }
    const bool isCut = hasResolutionBelow(path);
    if (out == 0 && !isCut) {
      writer_.addImport(name, from);
      return;
    }
    const uint32_t count = e.childCount;
    e.flags = 0;
    e.ino = newIno();
    if (isCut || moved_) e.mtimeNs = e.ctimeNs = fresh();
    const uint32_t handle = writer_.add(out, name, e, "", xattrs);
    for (uint32_t i = 0; i < count; ++i) {
      copyCommitted(handle, std::string(from.nameOfChild(i)), from.childAt(i), path);
    }
    if (isCut) setLinkCount(handle);
  }

  static Entry entryOf(const Node& node) {
    Entry e{};
    e.ino = node.ino;
    e.size = node.size;
    e.blocks = (node.size + 511) / 512;
    e.atimeNs = node.atimeNs, e.mtimeNs = node.mtimeNs, e.ctimeNs = node.ctimeNs;
    e.mode = node.mode, e.uid = node.uid, e.gid = node.gid, e.rdev = node.rdev;
    e.nlink = node.nlink + (node.ownBody ? 0 : node.externalLinks);
    if (!node.isDirectory() && node.nlink > 1) e.flags |= kSeveralNames;
    return e;
  }

  static std::string xattrsOf(const Node& node, const Committed& otherwise) {
    if (node.xattrs) return encodeXattrs(*node.xattrs);
    return otherwise ? std::string(otherwise.manifest->xattrs(otherwise.entry())) : "";
  }

  // The body must be there with the size that the tree says: nothing else may become a generation.
  bool takeBody(const Node& node, Entry& e) {
    if (node.size == 0) return true;
    struct stat st;
    const std::string name = Transaction::bodyName(node.ino);
    if (::fstatat(transaction_.bodiesFd(), name.c_str(), &st, AT_SYMLINK_NOFOLLOW) != 0 ||
        static_cast<uint64_t>(st.st_size) != node.size) {
      result_.error = EIO;
      return false;
    }
    e.blocks = static_cast<uint64_t>(st.st_blocks);
    ++result_.bodies;
    return true;
  }

  void setLinkCount(uint32_t handle) { writer_.entry(handle).nlink = 2 + writer_.directoriesIn(handle); }

  const MergeOptions& options_;
  const Transaction& transaction_;
  ManifestWriter writer_;
  MergeResult result_;
  int64_t lastMtimeNs_;
  bool moved_ = false;  // what is copied stood elsewhere in the base
  uint64_t nextIno_ = 0, endIno_ = 0;
};

// ---- changes ----------------------------------------------------------------------------------------------------

// What a transaction has at a name: one of its nodes, or an entry of the base that nobody looked at.
struct Effective {
  const Node* node = nullptr;
  Committed committed;
  explicit operator bool() const { return node != nullptr || committed; }
  uint32_t mode() const { return node != nullptr ? node->mode : committed.entry().mode; }
};

class Differ {
 public:
  explicit Differ(const Transaction& transaction) : transaction_(transaction) {}

  std::vector<Change> run() {
    transaction_.locked([&] { compare(transaction_.baseRoot(), {transaction_.node(kRootIno), {}}, ""); });
    return std::move(changes_);
  }

 private:
  std::map<std::string, Effective> childrenOf(const Effective& of) {
    std::map<std::string, Effective> children;
    const Committed base = of.node != nullptr ? of.node->base : of.committed;
    if (base && base.isDirectory()) {
      for (uint32_t i = 0; i < base.entry().childCount; ++i) {
        children[std::string(base.nameOfChild(i))] = {nullptr, base.childAt(i)};
      }
    }
    if (of.node != nullptr) {
      for (const auto& [name, record] : of.node->children) {
        children.erase(name);
        const Node* node = Transaction::isWhiteout(record) ? nullptr : transaction_.node(record.ino);
        if (node != nullptr && !transaction_.isThrowaway(*node)) children[name] = {node, {}};
      }
    }
    return children;
  }

  void all(ChangeKind kind, const Effective& what, const std::string& path) {
    changes_.push_back({kind, what.mode(), path});
    if (!S_ISDIR(what.mode())) return;
    for (const auto& [name, child] : childrenOf(what)) all(kind, child, joinPath(path, name));
  }

  void compare(const Committed& base, const Effective& now, const std::string& path) {
    if (!base && !now) return;
    if (!base) return all(ChangeKind::kAdded, now, path);
    if (!now) return all(ChangeKind::kRemoved, {nullptr, base}, path);
    const bool sameOrigin =
        now.node != nullptr ? isInPlace(*now.node, base) : now.committed.entry().ino == base.entry().ino;
    if (sameOrigin && (now.node == nullptr || !transaction_.subtreeChanged(*now.node))) return;
    if ((base.entry().mode & S_IFMT) != (now.mode() & S_IFMT)) {
      all(ChangeKind::kRemoved, {nullptr, base}, path);
      return all(ChangeKind::kAdded, now, path);
    }
    if (!S_ISDIR(now.mode())) {
      const bool sameBytes = sameOrigin && !now.node->ownBody;
      changes_.push_back({sameBytes ? ChangeKind::kAttributes : ChangeKind::kModified, now.mode(), path});
      return;
    }
    if (now.node != nullptr && sameOrigin && now.node->attributesChanged) {
      changes_.push_back({ChangeKind::kAttributes, now.mode(), path});
    }
    const std::map<std::string, Effective> children = childrenOf(now);
    for (uint32_t i = 0; i < base.entry().childCount; ++i) {
      const std::string name(base.nameOfChild(i));
      const auto child = children.find(name);
      compare(base.childAt(i), child == children.end() ? Effective{} : child->second, joinPath(path, name));
    }
    for (const auto& [name, child] : children) {
      if (!base.child(name)) compare({}, child, joinPath(path, name));
    }
  }

  const Transaction& transaction_;
  std::vector<Change> changes_;
};

}  // namespace

MergeResult mergeToManifest(const MergeOptions& options) {
  return Merger(options).run();
}

std::vector<Change> changesOf(const Transaction& transaction) {
  return Differ(transaction).run();
}

}  // namespace siteswap::overlay
