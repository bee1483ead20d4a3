// overlay/merge against a naive three-way merge of plain trees, over chains of generations.
//
// Every change in these tests makes something that was never there before (bytes, owners, attributes), and every new
// directory carries a mark of its own: so "the same" is what looks the same, and the oracle needs no identities.
#include <linux/fs.h>

#include <algorithm>

#include "fuse/protocol.h"
#include "overlay_fixture.h"

using namespace siteswap::test;

namespace {

// A tree of values, children by name.
struct Value {
  Seen seen;
  bool touched = false;  // the transaction changed this very node (directories: a name in it)
  std::map<std::string, Value> children;
};
using MaybeValue = const Value*;

Value toValue(const Tree& tree, const std::string& path = "") {
  Value value{tree.at(path), false, {}};
  const std::string prefix = path.empty() ? "" : path + "/";
  for (auto at = tree.upper_bound(prefix); at != tree.end() && at->first.starts_with(prefix); ++at) {
    if (at->first.find('/', prefix.size()) != std::string::npos || at->first.empty()) continue;
    value.children.emplace(at->first.substr(prefix.size()), toValue(tree, at->first));
  }
  return value;
}

void markTouched(Value& value, const Transaction& tree) {
  const Node* node = tree.node(value.seen.ino);
  value.touched = node != nullptr && Transaction::selfChanged(*node);
  for (auto& [name, child] : value.children) markTouched(child, tree);
}

bool deepSame(MaybeValue a, MaybeValue b) {
  if (a == nullptr || b == nullptr) return a == b;
  if (!sameToReader(a->seen, b->seen) || a->children.size() != b->children.size()) return false;
  for (const auto& [name, child] : a->children) {
    const auto at = b->children.find(name);
    if (at == b->children.end() || !deepSame(&child, &at->second)) return false;
  }
  return true;
}
bool anyTouched(const Value& value) {
  if (value.touched) return true;
  return std::any_of(value.children.begin(), value.children.end(), [](const auto& c) { return anyTouched(c.second); });
}
MaybeValue childOf(MaybeValue parent, const std::string& name) {
  if (parent == nullptr) return nullptr;
  const auto at = parent->children.find(name);
  return at == parent->children.end() ? nullptr : &at->second;
}

struct Oracle {
  std::string ownMark;  // xattr user.made of what this transaction made begins with it
  std::set<std::string> conflicts;

  bool madeByUs(const Value& value) const {
    const auto at = value.seen.xattrs.find("user.made");
    return at != value.seen.xattrs.end() && at->second.starts_with(ownMark);
  }
  static std::string mark(const Value& value) {
    const auto at = value.seen.xattrs.find("user.made");
    return at == value.seen.xattrs.end() ? "" : at->second;
  }

  // What the generation has at a path; null: nothing.
  std::optional<Value> merge(const std::string& path, MaybeValue base, MaybeValue head, MaybeValue ours) {
    const auto copy = [](MaybeValue v) { return v == nullptr ? std::nullopt : std::optional<Value>(*v); };
    const bool touched = ours != nullptr && anyTouched(*ours);
    if (deepSame(ours, base) && !touched) return copy(head);
    if (ours == nullptr) {
      if (head != nullptr && !deepSame(base, head)) conflicts.insert(path);
      return std::nullopt;
    }
    if (ours->seen.isDirectory() && head != nullptr && head->seen.isDirectory()) {
      const bool inPlace = base != nullptr && base->seen.isDirectory() && mark(*base) == mark(*ours);
      if (inPlace || (base == nullptr && madeByUs(*ours))) return mergeBoth(path, base, head, ours);
    }
    if (!deepSame(base, head)) {
      conflicts.insert(path);
      return std::nullopt;
    }
    return copy(ours);
  }

  Value mergeBoth(const std::string& path, MaybeValue base, MaybeValue head, MaybeValue ours) {
    Value out;
    const Seen &b = base != nullptr ? base->seen : Seen{}, &h = head->seen, &o = ours->seen;
    const bool xattrsChanged = base == nullptr || o.xattrs != b.xattrs;
    const bool changed = xattrsChanged || o.mode != b.mode || o.uid != b.uid || o.gid != b.gid;
    out.seen = changed ? o : h;
    out.seen.xattrs = xattrsChanged ? o.xattrs : h.xattrs;
    out.seen.ino = 0;  // a new one
    std::set<std::string> names;
    for (const auto& [name, child] : head->children) names.insert(name);
    for (const auto& [name, child] : ours->children) names.insert(name);
    if (base != nullptr) {
      for (const auto& [name, child] : base->children) names.insert(name);
    }
    for (const std::string& name : names) {
      auto merged = merge(joined(path, name), childOf(base, name), childOf(head, name), childOf(ours, name));
      if (merged) out.children.emplace(name, std::move(*merged));
    }
    return out;
  }
};

void flatten(const Value& value, const std::string& path, Tree& out) {
  out[path] = value.seen;
  for (const auto& [name, child] : value.children) flatten(child, joined(path, name), out);
}

// A chain of generations with transactions on any of them.
class Chain {
 public:
  explicit Chain(Random& r) : random(r) {
    writeRandomBase(store, random, 4096, static_cast<unsigned>(5 + random(80)), false);
    trees.push_back(store.tree(store.root(0)));
    remember(0);
  }

  std::unique_ptr<Transaction> begin(uint64_t base, uint32_t id) {
    std::filesystem::create_directory(store.dir / ("txn" + std::to_string(id)));
    auto tree = std::make_unique<Transaction>(optionsFor(store, id, store.root(base), numbers));
    CHECK_EQ(tree->create(), 0);
    return tree;
  }

  std::string unique() { return std::to_string(++serial); }
  std::map<std::string, Seen> paths(Transaction& tree, uint64_t base) {
    (void)base;
    return treeOf(store, tree);
  }

  void change(Transaction& tree, uint32_t id, uint64_t base, int steps) {
    const std::string own = "t" + std::to_string(id) + ".";
    Tree now = trees[base];
    for (int i = 0; i < steps; ++i) {
      // Looking at all names gives all of them numbers: usually only those on the way get one.
      if (random.chance(10)) now = treeOf(store, tree);
      std::vector<std::string> all;
      for (const auto& [path, seen] : now) all.push_back(path);
      const std::string path = random.pick(all);
      const uint64_t ino = tree.resolve(path);
      if (ino == 0) continue;
      const auto attributes = tree.getattr(ino).attributes;
      const bool directory = S_ISDIR(attributes.mode);
      const std::string at = directory ? path : parentOf(path);
      const uint64_t parent = tree.resolve(at);
      const std::string name = random.pick(someNames()) + (random.chance(40) ? std::to_string(random(4)) : "");
      const auto owner = static_cast<uint32_t>(1000 + ++serial);
      switch (random(9)) {
        case 0:
        case 1: {
          const auto made = tree.create(parent, name, S_IFREG | 0644, owner, 0, 0, "", 0);
          if (made.error != 0) break;
          CHECK_EQ(writeAt(store, tree, made.attributes.ino, 0, "bytes " + unique()), 0);
          now[joined(at, name)] = {};
          break;
        }
        case 2: {
          const auto made = tree.create(parent, name, S_IFDIR | 0755, owner, 0, 0, "", 0);
          if (made.error != 0) break;
          CHECK_EQ(tree.setXattr(made.attributes.ino, "user.made", own + unique(), 0), 0);
          now[joined(at, name)] = {};
          break;
        }
        case 3:
          if (tree.create(parent, name, S_IFLNK | 0777, owner, 0, 0, "to " + unique(), 0).error == 0)
            now[joined(at, name)] = {};
          break;
        case 4:
          if (!path.empty()) tree.remove(tree.resolve(parentOf(path)), lastOf(path), directory);
          break;
        case 5: {
          if (path.empty()) break;
          const std::string to = random.pick(all);
          const uint64_t toIno = tree.resolve(to);
          if (toIno == 0 || !S_ISDIR(tree.getattr(toIno).attributes.mode)) break;
          if (tree.rename(tree.resolve(parentOf(path)), lastOf(path), toIno, name,
                          random.chance(20) ? RENAME_EXCHANGE : 0) == 0) {
            now[joined(to, name)] = {};
          }
          break;
        }
        case 6: {
          AttributeChange wanted;
          wanted.mask = FATTR_UID;
          wanted.uid = owner;
          CHECK_EQ(tree.setAttributes(ino, wanted).error, 0);
          break;
        }
        case 7:
          CHECK_EQ(tree.setXattr(ino, "user.x", unique(), 0), 0);
          break;
        default:
          if (S_ISREG(attributes.mode)) CHECK_EQ(writeAt(store, tree, ino, random(8), "over " + unique()), 0);
      }
    }
  }

  void takeBodies(Transaction& tree, uint32_t layer) {
    for (const auto& file :
         std::filesystem::directory_iterator("/proc/self/fd/" + std::to_string(tree.bodiesFd()) + "/")) {
      const uint64_t ino = std::strtoull(file.path().filename().c_str(), nullptr, 16);
      store.layers[{layer, ino}] = readFile(file.path());
    }
  }

  // Numbers mean one thing for ever.
  void remember(uint64_t generation) {
    for (const auto& [path, seen] : trees[generation]) {
      if (path.empty()) continue;
      const std::string parent = parentOf(path);
      if (seen.isDirectory()) {
        const auto where = std::make_pair(trees[generation].at(parent).ino, lastOf(path));
        const auto known = placeOfDirectory.try_emplace(seen.ino, where);
        check::verify(known.first->second == where, __FILE__, __LINE__,
                      "directory " + std::to_string(seen.ino) + " stands at two places: " + path);
      }
      const auto known = meaning.try_emplace(seen.ino, seen);
      check::verify(sameToReader(known.first->second, seen) && known.first->second.mtimeNs == seen.mtimeNs, __FILE__,
                    __LINE__,
                    "number " + std::to_string(seen.ino) + " means two things: " + path + "\n  " +
                        show(known.first->second) + "\n  " + show(seen));
    }
    // Below a directory that stays, nothing changes: the kernel keeps its names for ever.
    for (const auto& [path, seen] : trees[generation]) {
      if (path.empty()) continue;
      const auto at = trees[generation].find(parentOf(path));
      if (at->first.empty()) continue;
      const auto known = child.try_emplace({at->second.ino, lastOf(path)}, seen.ino);
      CHECK_EQ(known.first->second, seen.ino);
    }
    for (const auto& [path, seen] : trees[generation]) {
      if (!seen.isDirectory() || path.empty()) continue;
      std::set<std::string> names;
      for (const auto& [other, ignored] : trees[generation]) {
        if (!other.empty() && parentOf(other) == path) names.insert(lastOf(other));
      }
      const auto known = listing.try_emplace(seen.ino, names);
      CHECK(known.first->second == names);
    }
  }

  void checkTimes(const Tree& head, const Tree& result) {
    std::set<int64_t> fresh;
    for (const auto& [path, seen] : result) {
      if (!seen.isDirectory()) continue;
      std::set<std::string> before, after;
      for (const auto& [other, ignored] : head) {
        if (!other.empty() && parentOf(other) == path) before.insert(lastOf(other));
      }
      for (const auto& [other, ignored] : result) {
        if (!other.empty() && parentOf(other) == path) after.insert(lastOf(other));
      }
      const bool existed = head.contains(path) && head.at(path).isDirectory();
      if (!path.empty() && existed && before == after) continue;
      check::verify(seen.mtimeNs > maxMtimeNs, __FILE__, __LINE__, "an old time of changed directory " + path);
      fresh.insert(seen.mtimeNs);
    }
    int64_t last = maxMtimeNs;
    for (const int64_t time : fresh) {
      CHECK(time - last > 1000);
      last = time;
    }
  }

  // A transaction on `base`, committed onto the newest. False: it was refused.
  bool commit(Transaction& tree, uint32_t id, uint64_t base) {
    const uint64_t headGeneration = trees.size() - 1, generation = trees.size();
    // The merge comes first: looking at the whole tree for the oracle gives numbers to what nobody looked at.
    tree.freeze();
    const MergeResult result = mergeToManifest({tree, store.root(base), store.root(headGeneration), generation, id,
                                                store.manifestPath(generation), numbers, maxMtimeNs});
    CHECK_EQ(result.error, 0);
    const Tree head = trees[headGeneration];
    Value baseValue = toValue(trees[base]), headValue = toValue(head), ours = toValue(treeOf(store, tree));
    markTouched(ours, tree);
    Oracle oracle{"t" + std::to_string(id) + ".", {}};
    const Value wanted = oracle.mergeBoth("", &baseValue, &headValue, &ours);
    const std::set<std::string> conflicts(result.conflicts.begin(), result.conflicts.end());
    if (conflicts != oracle.conflicts) {
      for (const auto& path : oracle.conflicts) std::fprintf(stderr, "wanted conflict %s\n", path.c_str());
      for (const auto& path : conflicts) {
        std::fprintf(stderr, "got conflict %s\n", path.c_str());
        if (oracle.conflicts.contains(path)) continue;
        for (MaybeValue value : {&baseValue, &headValue, &ours}) {
          for (std::string_view rest = path; value != nullptr && !rest.empty();) {
            const size_t slash = rest.find('/');
            value = childOf(value, std::string(rest.substr(0, slash)));
            rest = slash == std::string_view::npos ? "" : rest.substr(slash + 1);
          }
          std::fprintf(stderr, "  %s\n", value == nullptr ? "nothing" : show(value->seen).c_str());
        }
      }
    }
    CHECK(conflicts == oracle.conflicts);
    CHECK_EQ(conflicts.size(), result.conflicts.size());
    checkChanges(tree, baseValue, ours);
    if (!conflicts.empty()) {
      CHECK(!std::filesystem::exists(store.manifestPath(generation)));
      return false;
    }
    takeBodies(tree, id);
    const Manifest* manifest = store.load(generation);
    if (manifest == nullptr) return false;
    CHECK_EQ(manifest->size(), result.entries);
    const Tree got = store.tree({manifest, 0});
    Tree flat;
    flatten(wanted, "", flat);
    CHECK(sameTrees(flat, got, sameToReader, "generation"));
    for (const auto& [path, seen] : got) {
      const auto at = head.find(path);
      // What HEAD had and the transaction left alone.
      const auto ofWanted = flat.find(path);
      if (at == head.end() || ofWanted == flat.end() || seen.isDirectory()) continue;
      if (ofWanted->second.ino == at->second.ino) CHECK_EQ(seen.ino, at->second.ino);
      if (S_ISREG(seen.mode)) CHECK_EQ(seen.nlink, 1u);
    }
    for (const auto& [name, value] : wanted.children) {
      const MaybeValue h = childOf(&headValue, name);
      if (!value.seen.isDirectory() || h == nullptr || h->seen.ino != value.seen.ino) continue;
      // Unchanged below the root: imported, with its number.
      CHECK_EQ(got.at(name).ino, h->seen.ino);
      CHECK((manifest->entry(*manifest->childIndex(manifest->entry(0), name)).flags & kImported) != 0);
    }
    for (const auto& [path, seen] : got) {
      if (!seen.isDirectory()) continue;
      uint32_t below = 0;
      for (const auto& [other, s] : got) below += !other.empty() && parentOf(other) == path && s.isDirectory();
      CHECK_EQ(seen.nlink, 2 + below);
    }
    checkTimes(head, got);
    CHECK(result.maxMtimeNs > maxMtimeNs);
    for (const auto& [path, seen] : got) CHECK(!seen.isDirectory() || seen.mtimeNs <= result.maxMtimeNs);
    maxMtimeNs = result.maxMtimeNs;
    trees.push_back(got);
    remember(generation);
    return true;
  }

  void checkChanges(Transaction& tree, const Value& base, const Value& ours) {
    std::map<std::string, std::set<ChangeKind>> wanted;
    diff("", &base, &ours, wanted);
    std::map<std::string, std::set<ChangeKind>> got;
    for (const Change& change : changesOf(tree)) got[change.path].insert(change.kind);
    std::set<std::string> paths;
    for (const auto& [path, kinds] : wanted) {
      // An attribute of a directory apart: a directory that was replaced by another has its names compared only.
      if (got.contains(path) || kinds == std::set{ChangeKind::kAttributes}) continue;
      check::verify(false, __FILE__, __LINE__, "changesOf() does not tell " + path);
    }
    for (const auto& [path, kinds] : got) {
      check::verify(wanted.contains(path) && wanted.at(path) == kinds, __FILE__, __LINE__,
                    "changesOf() tells of " + path);
    }
  }
  static void allBelow(const std::string& path, const Value& value, ChangeKind kind,
                       std::map<std::string, std::set<ChangeKind>>& out) {
    out[path].insert(kind);
    for (const auto& [name, c] : value.children) allBelow(joined(path, name), c, kind, out);
  }
  static void diff(const std::string& path, MaybeValue base, MaybeValue ours,
                   std::map<std::string, std::set<ChangeKind>>& out) {
    if (base == nullptr && ours == nullptr) return;
    if (base == nullptr) return allBelow(path, *ours, ChangeKind::kAdded, out);
    if (ours == nullptr) return allBelow(path, *base, ChangeKind::kRemoved, out);
    if ((base->seen.mode & S_IFMT) != (ours->seen.mode & S_IFMT)) {
      allBelow(path, *base, ChangeKind::kRemoved, out);
      return allBelow(path, *ours, ChangeKind::kAdded, out);
    }
    if (!ours->seen.isDirectory()) {
      if (base->seen.content != ours->seen.content || base->seen.target != ours->seen.target) {
        out[path].insert(ChangeKind::kModified);
      } else if (!sameToReader(base->seen, ours->seen)) {
        out[path].insert(ChangeKind::kAttributes);
      }
      return;
    }
    if (!sameToReader(base->seen, ours->seen)) out[path].insert(ChangeKind::kAttributes);
    std::set<std::string> names;
    for (const auto& [name, c] : base->children) names.insert(name);
    for (const auto& [name, c] : ours->children) names.insert(name);
    for (const std::string& name : names) diff(joined(path, name), childOf(base, name), childOf(ours, name), out);
  }

  Random& random;
  Store store;
  InoSource numbers{uint64_t{1} << 32, uint64_t{1} << 40};
  std::vector<Tree> trees;  // by generation
  int64_t maxMtimeNs = 1'600'000'000'000'000'000;
  uint64_t serial = 0;
  std::map<uint64_t, std::pair<uint64_t, std::string>> placeOfDirectory;
  std::map<uint64_t, Seen> meaning;
  std::map<std::pair<uint64_t, std::string>, uint64_t> child;
  std::map<uint64_t, std::set<std::string>> listing;
};

}  // namespace

TEST(chains_of_random_transactions) {
  Random random;
  const long before = check::failures;
  int committed = 0, refused = 0;
  for (int round = 0; round < 25; ++round) {
    Chain chain(random);
    uint32_t id = 0;
    for (int generation = 0; generation < 8; ++generation) {
      // Several at once, on the newest or on an older generation; they commit one after the other.
      struct Open {
        std::unique_ptr<Transaction> tree;
        uint32_t id;
        uint64_t base;
      };
      std::vector<Open> open;
      for (uint64_t n = 1 + random(3); n > 0; --n) {
        const uint64_t newest = chain.trees.size() - 1;
        const uint64_t base = random.chance(75) ? newest : random(newest + 1);
        ++id;
        open.push_back({chain.begin(base, id), id, base});
        chain.change(*open.back().tree, id, base, static_cast<int>(random(random.chance(50) ? 5 : 25)));
      }
      for (Open& one : open) {
        (chain.commit(*one.tree, one.id, one.base) ? committed : refused) += 1;
        if (check::failures > before) return;
      }
    }
  }
  CHECK(committed > 50);
  CHECK(refused > 10);
}

TEST(a_commit_of_nothing) {
  Random random;
  Chain chain(random);
  auto tree = chain.begin(0, 1);
  treeOf(chain.store, *tree);  // looked at, not touched
  CHECK(changesOf(*tree).empty());
  REQUIRE(chain.commit(*tree, 1, 0));
  const Manifest& m = *chain.store.load(1);
  for (uint32_t i = 1; i < m.size(); ++i) CHECK(!S_ISDIR(m.entry(i).mode) || (m.entry(i).flags & kImported) != 0);
}

TEST(a_body_that_is_not_what_the_tree_says) {
  Random random;
  Chain chain(random);
  auto tree = chain.begin(0, 1);
  const uint64_t ino = tree->create(kRootIno, "file", S_IFREG | 0644, 0, 0, 0, "", 0).attributes.ino;
  CHECK_EQ(writeAt(chain.store, *tree, ino, 0, "bytes"), 0);
  tree->freeze();
  const std::string body = chain.store.dir / ("txn1/bodies/" + Transaction::bodyName(ino));
  const auto merged = [&] {
    return mergeToManifest(
        {*tree, chain.store.root(0), chain.store.root(0), 1, 1, chain.store.manifestPath(1), chain.numbers, 0});
  };
  std::filesystem::resize_file(body, 4);
  CHECK_EQ(merged().error, EIO);
  std::filesystem::remove(body);
  CHECK_EQ(merged().error, EIO);
  CHECK(!std::filesystem::exists(chain.store.manifestPath(1)));
}

TEST(times_never_repeat_when_the_clock_stands_behind) {
  Random random;
  Chain chain(random);
  chain.maxMtimeNs = 4'000'000'000'000'000'000;  // a lower from the future
  for (uint32_t id = 1; id <= 3; ++id) {
    auto tree = chain.begin(chain.trees.size() - 1, id);
    tree->create(kRootIno, "file" + std::to_string(id), S_IFREG | 0644, 0, 0, 0, "", 0);
    REQUIRE(chain.commit(*tree, id, chain.trees.size() - 1));
  }
  CHECK(chain.trees[3].at("").mtimeNs > chain.trees[2].at("").mtimeNs + 1000);
}
