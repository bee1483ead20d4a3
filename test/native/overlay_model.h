// A transaction's naive model (a map from path to node, shared by hard links), and random operations on both.
// Include it from a *_test.cc only (it needs check.h).
#pragma once

#include <linux/fs.h>
#include <sys/xattr.h>

#include "fuse/protocol.h"
#include "overlay_fixture.h"

namespace siteswap::test {

struct ModelNode {
  Seen seen;
  bool mtimeKnown = false;
};
using ModelPtr = std::shared_ptr<ModelNode>;

class Model {
 public:
  explicit Model(const Tree& base) {
    std::map<uint64_t, ModelPtr> byNumber;
    for (const auto& [path, seen] : base) {
      ModelPtr& node = byNumber[seen.ino];
      if (!node) node = std::make_shared<ModelNode>(ModelNode{seen, false});
      nodes[path] = node;
    }
  }
  ModelPtr at(const std::string& path) const {
    const auto found = nodes.find(path);
    return found == nodes.end() ? nullptr : found->second;
  }
  bool isEmpty(const std::string& directory) const {
    for (const auto& [path, node] : nodes) {
      if (!path.empty() && parentOf(path) == directory) return false;
    }
    return true;
  }
  std::map<std::string, ModelPtr> takeSubtree(const std::string& path) {
    std::map<std::string, ModelPtr> taken;
    for (auto it = nodes.begin(); it != nodes.end();) {
      if (it->first == path || it->first.starts_with(path + "/")) {
        taken[it->first.substr(path.size())] = it->second;
        it = nodes.erase(it);
      } else {
        ++it;
      }
    }
    return taken;
  }
  void putSubtree(const std::string& path, const std::map<std::string, ModelPtr>& subtree) {
    for (const auto& [rest, node] : subtree) nodes[path + rest] = node;
  }
  static bool isBelow(const std::string& path, const std::string& ancestor) {
    return path == ancestor || ancestor.empty() || path.starts_with(ancestor + "/");
  }
  int rename(const std::string& from, const std::string& to, uint32_t flags) {
    const ModelPtr source = at(from), target = at(to);
    if (!source) return ENOENT;
    if ((flags & RENAME_NOREPLACE) && target) return EEXIST;
    if ((flags & RENAME_EXCHANGE) && !target) return ENOENT;
    if (source == target) return 0;
    if (source->seen.isDirectory() && isBelow(parentOf(to), from)) return EINVAL;
    if (target && target->seen.isDirectory() && isBelow(parentOf(from), to)) {
      return (flags & RENAME_EXCHANGE) ? EINVAL : ENOTEMPTY;
    }
    if (target && !(flags & RENAME_EXCHANGE)) {
      if (source->seen.isDirectory() && !target->seen.isDirectory()) return ENOTDIR;
      if (!source->seen.isDirectory() && target->seen.isDirectory()) return EISDIR;
      if (target->seen.isDirectory() && !isEmpty(to)) return ENOTEMPTY;
    }
    const auto moved = takeSubtree(from);
    const auto other = takeSubtree(to);
    putSubtree(to, moved);
    if (flags & RENAME_EXCHANGE) putSubtree(from, other);
    touch(parentOf(from));
    touch(parentOf(to));
    return 0;
  }
  void touch(const std::string& directory) { at(directory)->mtimeKnown = false; }

  Tree tree() const {
    std::map<const ModelNode*, uint32_t> names;
    std::map<std::string, uint32_t> directories;
    for (const auto& [path, node] : nodes) {
      ++names[node.get()];
      if (!path.empty() && node->seen.isDirectory()) ++directories[parentOf(path)];
    }
    Tree all;
    for (const auto& [path, node] : nodes) {
      Seen s = node->seen;
      s.size = s.content.size();
      const auto below = directories.find(path);
      s.nlink = s.isDirectory() ? 2 + (below == directories.end() ? 0 : below->second) : names[node.get()];
      if (S_ISLNK(s.mode)) s.size = s.target.size();
      all[path] = s;
    }
    return all;
  }

  std::map<std::string, ModelPtr> nodes;
};

struct World {
  explicit World(Random& r, unsigned entries) : random(r) {
    writeRandomBase(store, random, 4096, entries, true);
    std::filesystem::create_directory(store.dir / "txn1");
    tree = std::make_unique<Transaction>(optionsFor(store, 1, store.root(0), numbers));
    CHECK_EQ(tree->create(), 0);
    model = std::make_unique<Model>(store.tree(store.root(0)));
  }

  std::string anyPath() {
    auto at = model->nodes.begin();
    std::advance(at, static_cast<long>(random(model->nodes.size())));
    return at->first;
  }
  std::string anyDirectory() {
    for (int i = 0; i < 50; ++i) {
      const std::string path = anyPath();
      if (model->at(path)->seen.isDirectory()) return path;
    }
    return "";
  }
  std::string newPath() {
    return joined(anyDirectory(), random.pick(someNames()) + (random.chance(30) ? std::to_string(random(5)) : ""));
  }
  uint64_t inoOf(const std::string& path) {
    const uint64_t ino = tree->resolve(path);
    CHECK_EQ(ino != 0, model->at(path) != nullptr);
    return ino;
  }

  void make(const std::string& path, uint32_t type) {
    const uint64_t parent = inoOf(parentOf(path));
    const std::string target = S_ISLNK(type) ? "target " + std::to_string(++serial) : "";
    const auto owner = static_cast<uint32_t>(random(3));
    const uint32_t mode = type | (S_ISLNK(type) ? 0777 : 0640);
    const auto made = tree->create(parent, lastOf(path), mode, owner, owner + 1, 0, target, 0);
    if (model->at(path)) return void(CHECK_EQ(made.error, EEXIST));
    REQUIRE(made.error == 0);
    auto node = std::make_shared<ModelNode>();
    Seen& s = node->seen;
    s.mode = mode, s.uid = owner, s.gid = owner + 1, s.target = target;
    const Seen& above = model->at(parentOf(path))->seen;
    if ((above.mode & S_ISGID) != 0) {
      s.gid = above.gid;
      if (S_ISDIR(type)) s.mode |= S_ISGID;
    }
    model->nodes[path] = node;
    model->touch(parentOf(path));
  }

  void write(const std::string& path, bool resize) {
    const ModelPtr node = model->at(path);
    const uint64_t ino = inoOf(path);
    if (!S_ISREG(node->seen.mode)) return;
    std::string& content = node->seen.content;
    if (resize) {
      const uint64_t size = random(content.size() + 30);
      CHECK_EQ(resizeTo(store, *tree, ino, size), 0);
      content.resize(size);
    } else {
      const std::string bytes = "write " + std::to_string(++serial);
      const uint64_t offset = random(content.size() + 10);
      CHECK_EQ(writeAt(store, *tree, ino, offset, bytes), 0);
      if (content.size() < offset + bytes.size()) content.resize(offset + bytes.size());
      content.replace(offset, bytes.size(), bytes);
    }
    node->mtimeKnown = false;
  }

  void setAttributes(const std::string& path) {
    const ModelPtr node = model->at(path);
    Seen& s = node->seen;
    AttributeChange change;
    if (random.chance(40)) change.mask |= FATTR_MODE, change.mode = static_cast<uint32_t>(random(010000));
    if (random.chance(30)) change.mask |= FATTR_UID, change.uid = static_cast<uint32_t>(random(5));
    if (random.chance(30)) change.mask |= FATTR_GID, change.gid = static_cast<uint32_t>(random(5));
    if (random.chance(40)) change.mask |= FATTR_MTIME, change.mtimeNs = static_cast<int64_t>(random(uint64_t{1} << 60));
    CHECK_EQ(tree->setAttributes(inoOf(path), change).error, 0);
    if (change.mask & FATTR_MODE) s.mode = (s.mode & S_IFMT) | change.mode;
    if (change.mask & FATTR_UID) s.uid = change.uid;
    if (change.mask & FATTR_GID) s.gid = change.gid;
    if (change.mask & FATTR_MTIME) s.mtimeNs = change.mtimeNs, node->mtimeKnown = true;
  }

  void changeXattrs(const std::string& path) {
    Xattrs& xattrs = model->at(path)->seen.xattrs;
    const std::string name = random.chance(50) ? "user.base" : "user." + std::to_string(random(3));
    const bool has = xattrs.contains(name);
    if (random.chance(30)) {
      CHECK_EQ(tree->removeXattr(inoOf(path), name), has ? 0 : ENODATA);
      xattrs.erase(name);
      return;
    }
    const uint32_t flags = static_cast<uint32_t>(random(3));  // none, XATTR_CREATE, XATTR_REPLACE
    const std::string value = "v" + std::to_string(++serial);
    const int wanted = flags == XATTR_CREATE && has ? EEXIST : flags == XATTR_REPLACE && !has ? ENODATA : 0;
    CHECK_EQ(tree->setXattr(inoOf(path), name, value, flags), wanted);
    if (wanted == 0) xattrs[name] = value;
  }

  void remove(const std::string& path, bool directory) {
    const ModelPtr node = model->at(path);
    int wanted = 0;
    if (!node) {
      wanted = ENOENT;
    } else if (directory != node->seen.isDirectory()) {
      wanted = directory ? ENOTDIR : EISDIR;
    } else if (directory && !model->isEmpty(path)) {
      wanted = ENOTEMPTY;
    }
    CHECK_EQ(tree->remove(inoOf(parentOf(path)), lastOf(path), directory), wanted);
    if (wanted != 0) return;
    model->nodes.erase(path);
    model->touch(parentOf(path));
  }

  void link(const std::string& from, const std::string& to) {
    const ModelPtr node = model->at(from);
    const int wanted = node->seen.isDirectory() ? EPERM : model->at(to) ? EEXIST : 0;
    CHECK_EQ(tree->link(inoOf(from), inoOf(parentOf(to)), lastOf(to), 0).error, wanted);
    if (wanted != 0) return;
    model->nodes[to] = node;
    model->touch(parentOf(to));
  }

  void nameless(const std::string& path) {
    const auto made = tree->create(0, "", S_IFREG | 0600, 1, 1, 0, "", 1);
    REQUIRE(made.error == 0);
    const std::string bytes = "nameless " + std::to_string(++serial);
    CHECK_EQ(writeAt(store, *tree, made.attributes.ino, 0, bytes), 0);
    const auto linked = tree->link(made.attributes.ino, inoOf(parentOf(path)), lastOf(path), 0);
    CHECK_EQ(linked.error, model->at(path) ? EEXIST : 0);
    if (!model->at(path)) {
      auto node = std::make_shared<ModelNode>();
      node->seen.mode = S_IFREG | 0600, node->seen.uid = node->seen.gid = 1;
      node->seen.content = bytes;
      model->nodes[path] = node;
      model->touch(parentOf(path));
    }
    tree->forget(made.attributes.ino, 1);
  }

  void step() {
    const std::string path = anyPath();
    switch (random(14)) {
      case 0:
      case 1:
        return make(newPath(), S_IFREG);
      case 2:
        return make(newPath(), S_IFDIR);
      case 3:
        return make(newPath(), S_IFLNK);
      case 4:
        if (!path.empty()) remove(path, false);
        return;
      case 5:
        if (!path.empty()) remove(path, random.chance(80));
        return;
      case 6:
      case 7:
      case 8: {
        if (path.empty()) return;
        std::string to = random.chance(60) ? newPath() : anyPath();
        if (to.empty()) return;
        const uint32_t kinds[] = {0, 0, RENAME_NOREPLACE, RENAME_EXCHANGE};
        const uint32_t flags = kinds[random(4)];
        const std::string from = random.chance(95) ? path : newPath();
        const uint64_t fromParent = inoOf(parentOf(from)), toParent = inoOf(parentOf(to));
        const int wanted = model->rename(from, to, flags);
        const int got = tree->rename(fromParent, lastOf(from), toParent, lastOf(to), flags);
        if (got != wanted) std::fprintf(stderr, "rename %s -> %s flags %u\n", from.c_str(), to.c_str(), flags);
        CHECK_EQ(got, wanted);
        return;
      }
      case 9:
        return link(path, newPath());
      case 10:
        return setAttributes(path);
      case 11:
        return changeXattrs(path);
      case 12:
        return write(path, random.chance(40));
      default:
        return random.chance(20) ? nameless(newPath()) : write(path, false);
    }
  }

  bool matches(Transaction& transaction, const char* what) {
    const Tree got = treeOf(store, transaction);
    const Tree wanted = model->tree();
    bool good = sameTrees(
        wanted, got, [](const Seen& a, const Seen& b) { return sameToReader(a, b) && a.nlink == b.nlink; }, what);
    for (const auto& [path, node] : model->nodes) {
      const auto at = got.find(path);
      if (at == got.end() || !node->mtimeKnown || at->second.mtimeNs == node->seen.mtimeNs) continue;
      std::fprintf(stderr, "%s: mtime of '%s'\n", what, path.c_str());
      good = false;
    }
    CHECK(good);
    return good;
  }

  // One number for one node, for as long as it lives.
  void checkNumbers() {
    const Tree got = treeOf(store, *tree);
    std::map<uint64_t, const ModelNode*> owner;
    for (const auto& [path, seen] : got) {
      const ModelNode* node = model->at(path).get();
      CHECK(owner.try_emplace(seen.ino, node).first->second == node);
      const auto known = numberOf.find(model->at(path));
      CHECK(known == numberOf.end() || known->second == seen.ino);
      numberOf[model->at(path)] = seen.ino;
      if (path.empty()) CHECK_EQ(seen.ino, kRootIno);
      if (seen.isDirectory()) {
        CHECK(tree->pathOfDirectory(seen.ino) == path);
        if (!path.empty()) CHECK_EQ(tree->parentOf(seen.ino), got.at(parentOf(path)).ino);
      }
    }
  }

  std::unique_ptr<Transaction> restored() {
    auto second = std::make_unique<Transaction>(optionsFor(store, 1, store.root(0), numbers));
    CHECK_EQ(second->restore(), 0);
    CHECK(second->state() == TransactionState::kFrozen);
    CHECK_EQ(second->mutations() > 0, tree->mutations() > 0);
    return second;
  }

  Random& random;
  Store store;
  InoSource numbers{uint64_t{1} << 32, uint64_t{1} << 30};
  std::unique_ptr<Transaction> tree;
  std::unique_ptr<Model> model;
  std::map<ModelPtr, uint64_t> numberOf;
  uint64_t serial = 0;
};

}  // namespace siteswap::test
