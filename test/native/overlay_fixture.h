// Shared by the overlay tests: temporary directories, seeded randomness, trees as plain maps, and a small store of
// manifests with the bytes behind them. Include it from a *_test.cc only (it needs check.h).
#pragma once

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "check.h"
#include "overlay/backing.h"
#include "overlay/manifest.h"
#include "overlay/manifest_writer.h"
#include "overlay/merge.h"
#include "overlay/transaction.h"
#include "sys/unique_fd.h"

namespace siteswap::test {

using namespace siteswap::overlay;
using namespace std::string_literals;

class TempDir {
 public:
  TempDir() {
    const char* parent = std::getenv("TMPDIR");
    path = (parent != nullptr ? parent : "/tmp") + "/siteswap-overlay-XXXXXX"s;
    if (::mkdtemp(path.data()) == nullptr) std::abort();
  }
  ~TempDir() {
    std::error_code ignored;
    std::filesystem::remove_all(path, ignored);
  }
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;
  std::string operator/(const std::string& name) const { return path + "/" + name; }
  std::string path;
};

// Prints its seed when the test that it lives in failed: CHECK_SEED repeats it.
class Random {
 public:
  Random() : seed_(check::seed()), failuresBefore_(check::failures), engine_(seed_) {}
  ~Random() {
    if (check::failures != failuresBefore_) std::fprintf(stderr, "repeat with CHECK_SEED=%lu\n", seed_);
  }
  // 0 .. below-1
  uint64_t operator()(uint64_t below) { return below == 0 ? 0 : engine_() % below; }
  bool chance(unsigned percent) { return (*this)(100) < percent; }
  uint64_t bits() { return engine_(); }
  template <class T>
  const T& pick(const std::vector<T>& from) {
    return from[(*this)(from.size())];
  }

 private:
  unsigned long seed_;
  long failuresBefore_;
  std::mt19937_64 engine_;
};

inline std::string readFile(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}
inline void writeFile(const std::string& path, std::string_view bytes) {
  std::ofstream out(path, std::ios::binary | std::ios::trunc);
  out.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

inline std::string parentOf(const std::string& path) {
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? "" : path.substr(0, slash);
}
inline std::string lastOf(const std::string& path) {
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? path : path.substr(slash + 1);
}
inline std::string joined(const std::string& directory, const std::string& name) {
  return directory.empty() ? name : directory + "/" + name;
}

// What stands at one path, as a reader sees it.
struct Seen {
  uint32_t mode = 0, uid = 0, gid = 0, nlink = 0;
  uint64_t ino = 0, size = 0;
  int64_t mtimeNs = 0;
  std::string target, content;
  Xattrs xattrs;
  bool isDirectory() const { return S_ISDIR(mode); }
};
using Tree = std::map<std::string, Seen>;  // "" is the root

inline std::string show(const Seen& s) {
  std::string text = "mode " + std::to_string(s.mode) + " uid " + std::to_string(s.uid) + " gid " +
                     std::to_string(s.gid) + " size " + std::to_string(s.size) + " ino " + std::to_string(s.ino) +
                     " '" + s.target + "' '" + s.content.substr(0, 40) + "'";
  for (const auto& [name, value] : s.xattrs) text += " " + name + "=" + value;
  return text;
}

// The same to a reader, numbers and times apart.
inline bool sameToReader(const Seen& a, const Seen& b) {
  return a.mode == b.mode && a.uid == b.uid && a.gid == b.gid && a.target == b.target && a.content == b.content &&
         a.xattrs == b.xattrs && (a.isDirectory() || a.size == b.size);
}

// Prints the first difference.
template <class Same>
bool sameTrees(const Tree& wanted, const Tree& got, Same&& same, const char* what) {
  for (const auto& [path, seen] : wanted) {
    const auto at = got.find(path);
    if (at == got.end()) return std::fprintf(stderr, "%s: '%s' is missing\n", what, path.c_str()), false;
    if (!same(seen, at->second)) {
      std::fprintf(stderr, "%s: '%s' differs\n  wanted %s\n  got    %s\n", what, path.c_str(), show(seen).c_str(),
                   show(at->second).c_str());
      return false;
    }
  }
  for (const auto& [path, seen] : got) {
    if (!wanted.contains(path)) return std::fprintf(stderr, "%s: '%s' is too much\n", what, path.c_str()), false;
  }
  return true;
}

// Manifests by generation with the bytes behind them: a lower that exists as a map only, and layers as maps.
class Store {
 public:
  Store() { std::filesystem::create_directory(dir / "manifests"); }

  std::string manifestPath(uint64_t generation) const {
    return dir / ("manifests/" + std::to_string(generation) + ".manifest");
  }
  // Loads (with imports) as the overlay does; null and a failed check when it can't be.
  const Manifest* load(uint64_t generation) {
    if (const auto at = manifests.find(generation); at != manifests.end()) return at->second.get();
    std::string error;
    auto manifest = Manifest::open(manifestPath(generation), error);
    if (!manifest) {
      check::verify(false, __FILE__, __LINE__, manifestPath(generation) + " " + error);
      return nullptr;
    }
    CHECK_EQ(manifest->generation(), generation);
    for (const uint64_t imported : manifest->imports()) {
      CHECK(imported < generation);
      manifest->imported.push_back(load(imported));
    }
    return (manifests[generation] = std::move(manifest)).get();
  }
  Committed root(uint64_t generation) { return {load(generation), 0}; }

  std::string contentOf(const Committed& file) const {
    const Entry& e = file.entry();
    if (!S_ISREG(e.mode) || e.size == 0) return "";
    if (e.layer == 0) {
      const auto at = lower.find(file.lowerPath());
      return at == lower.end() ? "<no " + file.lowerPath() + " in the lower>" : at->second;
    }
    const auto at = layers.find({e.layer, e.body});
    return at == layers.end() ? "<no body>" : at->second;
  }

  Seen seen(const Committed& node) const {
    const Entry& e = node.entry();
    Seen s;
    s.mode = e.mode, s.uid = e.uid, s.gid = e.gid, s.nlink = e.nlink, s.ino = e.ino, s.size = e.size;
    s.mtimeNs = e.mtimeNs;
    if (S_ISLNK(e.mode)) s.target = node.manifest->link(e);
    s.content = contentOf(node);
    s.xattrs = decodeXattrs(node.manifest->xattrs(e));
    return s;
  }
  void walk(const Committed& node, const std::string& path, Tree& tree) const {
    tree[path] = seen(node);
    if (!node.isDirectory()) return;
    for (uint32_t i = 0; i < node.entry().childCount; ++i) {
      walk(node.childAt(i), joined(path, std::string(node.nameOfChild(i))), tree);
    }
  }
  Tree tree(const Committed& node) const {
    Tree all;
    walk(node, "", all);
    return all;
  }

  TempDir dir;
  std::map<uint64_t, std::unique_ptr<Manifest>> manifests;
  std::map<std::string, std::string> lower;                     // by path in the lower
  std::map<std::pair<uint32_t, uint64_t>, std::string> layers;  // by (layer, body)
};

inline Entry plainEntry(uint32_t mode, uint64_t size = 0) {
  Entry e{};
  e.mode = mode;
  e.nlink = S_ISDIR(mode) ? 2 : 1;
  e.size = size;
  e.blocks = (size + 511) / 512;
  e.mtimeNs = e.atimeNs = e.ctimeNs = 1'600'000'000'000'000'000;
  return e;
}

inline const std::vector<std::string>& someNames() {
  static const std::vector<std::string> names = {
      "a", "b", "c", "d", "e", "pkg", "pkg-1.0.dist-info", "x.py", "__pycache__", "\xff\xfe", "Z", "ab", "a.b", "~kg"};
  return names;
}

// Writes generation 0: a random tree, numbered densely from `firstIno`, its files' bytes in store.lower. With
// `hardLinks` some files have two names.
inline void writeRandomBase(Store& store, Random& random, uint64_t firstIno, unsigned entries, bool hardLinks) {
  ManifestWriter writer;
  writer.add(0, "", plainEntry(S_IFDIR | 0755), "", "");
  struct Directory {
    uint32_t handle;
    std::string path;
    std::set<std::string> names;
  };
  std::vector<Directory> directories{{0, "", {}}};
  struct Linkable {
    uint32_t handle;
    std::string path;
  };
  std::vector<Linkable> files;
  uint64_t group = 0;
  for (unsigned i = 0; i < entries; ++i) {
    Directory& in = directories[random(directories.size())];
    const std::string name = random.pick(someNames()) + (random.chance(30) ? std::to_string(random(9)) : "");
    if (!in.names.insert(name).second) continue;
    const std::string path = joined(in.path, name);
    const std::string xattrs = random.chance(20) ? encodeXattrs({{"user.base", std::to_string(i)}}) : "";
    const uint32_t inHandle = in.handle;
    if (random.chance(35)) {
      // A mark by which a test knows the directory again wherever it is moved.
      const std::string mark = encodeXattrs({{"user.made", "base" + std::to_string(i)}});
      const uint32_t handle = writer.add(inHandle, name, plainEntry(S_IFDIR | 0755), "", mark);
      directories.push_back({handle, path, {}});
    } else if (random.chance(10)) {
      const std::string target = "to" + std::to_string(i);
      writer.add(inHandle, name, plainEntry(S_IFLNK | 0777, target.size()), target, "");
    } else if (hardLinks && random.chance(25) && !files.empty()) {
      const Linkable first = random.pick(files);
      Entry& e = writer.entry(first.handle);
      if (e.ino == 0) e.ino = ++group;
      e.flags = kSeveralNames;
      ++e.nlink;
      const Entry copy = e;
      // The counts of names that were added before are set below.
      writer.add(inHandle, name, copy, "", "");
      store.lower[path] = store.lower[first.path];
    } else {
      store.lower[path] = "base " + std::to_string(i) + std::string(random(40), '.');
      const uint32_t handle = writer.add(inHandle, name, plainEntry(S_IFREG | 0644, store.lower[path].size()), "", "");
      files.push_back({handle, path});
    }
  }
  std::map<uint64_t, uint32_t> names;
  for (uint32_t i = 1; i < writer.size(); ++i) names[writer.entry(i).ino] += 1;
  for (uint32_t i = 0; i < writer.size(); ++i) {
    Entry& e = writer.entry(i);
    if (S_ISDIR(e.mode)) {
      e.nlink = 2 + writer.directoriesIn(i);
    } else if (e.ino != 0) {
      e.nlink = names[e.ino];
    }
  }
  const uint64_t next = writer.numberDensely(firstIno);
  CHECK_EQ(writer.write(store.manifestPath(0), {0, next, 1'600'000'000'000'000'000}), 0);
}

// A transaction's tree on its own, with its blocks of numbers recorded.
inline Transaction::Options optionsFor(Store& store, uint32_t id, const Committed& root, InoSource& numbers) {
  return {id,
          store.dir / ("txn" + std::to_string(id)),
          root,
          &numbers,
          [](uint64_t) {},
          [&store](uint64_t generation, uint32_t index) {
            const Manifest* manifest = store.manifests.contains(generation) ? store.load(generation) : nullptr;
            return manifest != nullptr && index < manifest->size() ? Committed{manifest, index} : Committed{};
          }};
}

// As Overlay::ownBody() does it, but the base's bytes come from the store's maps.
inline int ownBodyOf(Store& store, Transaction& tree, uint64_t ino, uint64_t keepBytes, sys::UniqueFd& fd) {
  const int copied = tree.copyUp(
      ino, keepBytes, [&](int bodiesFd, const std::string& temporary, const Committed& base, uint64_t keep) {
        sys::UniqueFd to(::openat(bodiesFd, temporary.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
        if (!to) return errno;
        const std::string bytes = store.contentOf(base).substr(0, keep);
        return ::pwrite(to.get(), bytes.data(), bytes.size(), 0) == static_cast<ssize_t>(bytes.size()) ? 0 : EIO;
      });
  if (copied != 0) return copied;
  fd = sys::UniqueFd(::openat(tree.bodiesFd(), Transaction::bodyName(ino).c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  return fd ? 0 : errno;
}
inline int writeAt(Store& store, Transaction& tree, uint64_t ino, uint64_t offset, const std::string& bytes) {
  sys::UniqueFd fd;
  if (const int e = ownBodyOf(store, tree, ino, UINT64_MAX, fd)) return e;
  if (::pwrite(fd.get(), bytes.data(), bytes.size(), static_cast<off_t>(offset)) !=
      static_cast<ssize_t>(bytes.size())) {
    return EIO;
  }
  return tree.written(ino, offset + bytes.size());
}
inline int resizeTo(Store& store, Transaction& tree, uint64_t ino, uint64_t size) {
  sys::UniqueFd fd;
  if (const int e = ownBodyOf(store, tree, ino, size, fd)) return e;
  if (::ftruncate(fd.get(), static_cast<off_t>(size)) != 0) return errno;
  return tree.truncated(ino, size);
}
inline std::string contentOf(Store& store, Transaction& tree, uint64_t ino) {
  const auto place = tree.bodyPlace(ino);
  if (place.error != 0) return "<error " + std::to_string(place.error) + ">";
  if (place.size == 0) return "";
  if (!place.own) return store.contentOf(place.base);
  return readFile("/proc/self/fd/" + std::to_string(tree.bodiesFd()) + "/" + Transaction::bodyName(ino));
}

// The whole tree by listing, which gives everything a number of the transaction's.
inline void walkTransaction(Store& store, Transaction& tree, uint64_t ino, const std::string& path, Tree& out) {
  const auto got = tree.getattr(ino);
  CHECK_EQ(got.error, 0);
  Seen s;
  const NodeAttributes& a = got.attributes;
  s.mode = a.mode, s.uid = a.uid, s.gid = a.gid, s.nlink = a.nlink, s.ino = a.ino, s.size = a.size,
  s.mtimeNs = a.mtimeNs;
  if (S_ISLNK(a.mode)) CHECK_EQ(tree.readlink(ino, s.target), 0);
  if (S_ISREG(a.mode)) s.content = contentOf(store, tree, ino);
  CHECK_EQ(tree.xattrs(ino, s.xattrs), 0);
  out[path] = s;
  if (!s.isDirectory()) return;
  std::vector<std::pair<std::string, uint64_t>> children;
  CHECK_EQ(tree.list(ino, 0, UINT64_MAX, 0,
                     [&](const Transaction::Listed& listed) {
                       children.emplace_back(std::string(listed.name), listed.attributes.ino);
                       return true;
                     }),
           0);
  for (const auto& [name, child] : children) {
    CHECK(!out.contains(joined(path, name)));
    walkTransaction(store, tree, child, joined(path, name), out);
  }
}
inline Tree treeOf(Store& store, Transaction& tree) {
  Tree out;
  walkTransaction(store, tree, kRootIno, "", out);
  return out;
}

}  // namespace siteswap::test
