// overlay/scan and overlay/compare on real directories: everything that a lower may contain, and what compareLower()
// notices.
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sys/xattr.h>

#include <algorithm>

#include "overlay/compare.h"
#include "overlay/scan.h"
#include "overlay_fixture.h"
#include "sys/unique_fd.h"

using namespace siteswap::test;

namespace {

using Lines = std::vector<std::string>;

std::string lineOf(const LowerChange& change) {
  return "+-*"[static_cast<int>(change.kind)] + change.path;
}

Lines linesOf(const std::vector<LowerChange>& changes) {
  Lines lines;
  for (const LowerChange& change : changes) lines.push_back(lineOf(change));
  std::sort(lines.begin(), lines.end());
  return lines;
}

struct Scanned {
  explicit Scanned(const std::string& lower) : fd(::open(lower.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)) {
    CHECK(static_cast<bool>(fd));
    std::filesystem::create_directory(store.dir / "manifests");
  }
  ScanError scan(uint64_t first = uint64_t{1} << 32, uint64_t count = uint64_t{1} << 32) {
    return scanToManifest(fd.get(), store.manifestPath(0), first, count, nullptr, summary);
  }
  const Manifest* load() { return store.load(0); }
  std::vector<std::string> compare(const CompareOptions& options = {}) {
    std::vector<LowerChange> changes;
    const ScanError error = compareLower(fd.get(), *load(), options, changes);
    CHECK_EQ(error.errorNumber, 0);
    return linesOf(changes);
  }
  Store store;
  siteswap::sys::UniqueFd fd;
  ScanSummary summary;
};

// Changes a directory's content without a trace in its time.
void keepTime(const std::string& directory, const std::function<void()>& change) {
  struct stat st;
  CHECK_EQ(::stat(directory.c_str(), &st), 0);
  change();
  const timespec times[2] = {st.st_atim, st.st_mtim};
  CHECK_EQ(::utimensat(AT_FDCWD, directory.c_str(), times, 0), 0);
}

void compareWithDisk(const std::string& path, const Committed& node, uint64_t& entries) {
  ++entries;
  struct stat st;
  REQUIRE(::lstat(path.c_str(), &st) == 0);
  const Entry& e = node.entry();
  CHECK(e.mode == st.st_mode && e.uid == st.st_uid && e.gid == st.st_gid);
  CHECK_EQ(e.size, static_cast<uint64_t>(st.st_size));
  CHECK_EQ(e.blocks, static_cast<uint64_t>(st.st_blocks));
  CHECK_EQ(e.nlink, st.st_nlink);
  CHECK_EQ(e.mtimeNs, int64_t{st.st_mtim.tv_sec} * 1'000'000'000 + st.st_mtim.tv_nsec);
  CHECK_EQ(e.lowerIno, st.st_ino);
  CHECK_EQ(e.layer, 0u);
  if (S_ISLNK(e.mode)) CHECK(node.manifest->link(e) == std::filesystem::read_symlink(path).native());
  if (!node.isDirectory()) return;
  std::set<std::string> onDisk, inManifest;
  for (const auto& entry : std::filesystem::directory_iterator(path)) onDisk.insert(entry.path().filename().native());
  for (uint32_t i = 0; i < e.childCount; ++i) {
    const std::string name(node.nameOfChild(i));
    inManifest.insert(name);
    compareWithDisk(path + "/" + name, node.childAt(i), entries);
  }
  CHECK(onDisk == inManifest);
}

}  // namespace

TEST(everything_a_directory_may_hold) {
  TempDir lower, outside;
  const std::string d = lower.path;
  const auto in = [&](const std::string& name) { return d + "/" + name; };
  writeFile(in("plain"), "bytes");
  writeFile(in("empty"), "");
  CHECK_EQ(::mkdir(in("dir").c_str(), 0750), 0);
  CHECK_EQ(::mkdir(in("dir/deep").c_str(), 0700), 0);
  CHECK_EQ(::mkdir(in("void").c_str(), 0700), 0);
  CHECK_EQ(::mkfifo(in("fifo").c_str(), 0600), 0);
  const int socketFd = ::socket(AF_UNIX, SOCK_STREAM, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strcpy(address.sun_path, in("sock").c_str());
  CHECK_EQ(::bind(socketFd, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  ::close(socketFd);
  for (const char* target : {"plain", "nowhere", "/etc/passwd", "..", "dir"}) {
    CHECK_EQ(::symlink(target, in("link-" + std::to_string(std::strlen(target))).c_str()), 0);
  }
  CHECK_EQ(::symlink(std::string(4000, 't').c_str(), in("long-link").c_str()), 0);
  CHECK_EQ(::link(in("plain").c_str(), in("dir/plain-too").c_str()), 0);
  writeFile(outside / "cache", "cached");
  const bool linked = ::link((outside / "cache").c_str(), in("cached").c_str()) == 0;
  writeFile(in("non-utf8-\xff\xfe\x80"), "x");
  writeFile(in(std::string(255, 'n')), "x");
  writeFile(in("new\nline 'quoted' \\"), "x");
  writeFile(in("sparse"), "x");
  CHECK_EQ(::truncate(in("sparse").c_str(), 1 << 30), 0);
  const bool xattrs = ::setxattr(in("plain").c_str(), "user.test", "va\0lue", 6, 0) == 0;
  if (xattrs) CHECK_EQ(::setxattr(d.c_str(), "user.root", "r", 1, 0), 0);
  if (xattrs) CHECK_EQ(::setxattr(in("dir").c_str(), "user.dir", "", 0, 0), 0);
  CHECK_EQ(::chmod(in("empty").c_str(), 06755), 0);

  Scanned s(d);
  REQUIRE(s.scan().errorNumber == 0);
  const Manifest* m = s.load();
  REQUIRE(m != nullptr);
  uint64_t entries = 0;
  compareWithDisk(d, {m, 0}, entries);
  CHECK_EQ(entries, s.summary.entries);
  CHECK_EQ(m->size(), s.summary.entries);
  CHECK_EQ(s.summary.nextIno, (uint64_t{1} << 32) + entries);
  CHECK(s.summary.maxMtimeNs >= m->entry(0).mtimeNs);
  CHECK_EQ(m->header().maxMtimeNs, s.summary.maxMtimeNs);
  const Committed root{m, 0};
  CHECK_EQ(root.child("plain").entry().ino, root.child("dir").child("plain-too").entry().ino);
  CHECK((root.child("plain").entry().flags & kSeveralNames) != 0);
  if (linked) CHECK_EQ(root.child("cached").entry().flags, 0);
  if (linked) CHECK_EQ(root.child("cached").entry().nlink, 2u);
  if (xattrs) {
    CHECK(decodeXattrs(m->xattrs(root.child("plain").entry())) == (Xattrs{{"user.test", "va\0lue"s}}));
    CHECK(decodeXattrs(m->xattrs(root.entry())) == (Xattrs{{"user.root", "r"}}));
    CHECK(decodeXattrs(m->xattrs(root.child("dir").entry())) == (Xattrs{{"user.dir", ""}}));
  }
  CHECK(s.compare().empty());
  // Links that a package cache makes or removes elsewhere are no change here.
  if (linked) {
    CHECK_EQ(::unlink((outside / "cache").c_str()), 0);
    CHECK(s.compare().empty());
  }
}

TEST(changes_of_the_lower) {
  TempDir lower;
  const auto in = [&](const std::string& name) { return lower / name; };
  for (const char* name : {"a", "b", "pkg", "pkg/sub"}) CHECK_EQ(::mkdir(in(name).c_str(), 0755), 0);
  for (const char* name : {"a/1", "a/2", "b/1", "pkg/x.py", "pkg/sub/y.py", "z"}) writeFile(in(name), name);
  CHECK_EQ(::symlink("here", in("a/link").c_str()), 0);
  Scanned s(lower.path);
  REQUIRE(s.scan().errorNumber == 0);
  CHECK(s.compare().empty());
  keepTime(in("a"), [&] { writeFile(in("a/3"), "new"); });
  CHECK((s.compare() == Lines{"+a/3"}));
  keepTime(in("a"), [&] { ::unlink(in("a/3").c_str()); });
  CHECK(s.compare().empty());
  keepTime(in("b"), [&] { ::unlink(in("b/1").c_str()); });
  CHECK((s.compare() == Lines{"-b/1"}));
  writeFile(in("pkg/x.py"), "longer than before");
  CHECK((s.compare() == Lines{"*pkg/x.py", "-b/1"}));
  CHECK_EQ(::chmod(in("pkg/sub/y.py").c_str(), 0600), 0);
  CHECK((s.compare() == Lines{"*pkg/sub/y.py", "*pkg/x.py", "-b/1"}));
  keepTime(in("a"), [&] {
    ::unlink(in("a/link").c_str());
    CHECK_EQ(::symlink("there", in("a/link").c_str()), 0);
  });
  CHECK((s.compare() == Lines{"*a/link", "*pkg/sub/y.py", "*pkg/x.py", "-b/1"}));
  CHECK_EQ(s.compare({.limit = 2}).size(), 2u);
  // The same bytes and times at the name, but another file.
  keepTime(in("a"), [&] {
    struct stat st;
    CHECK_EQ(::stat(in("a/1").c_str(), &st), 0);
    writeFile(in("a/1.new"), "a/1");
    const timespec times[2] = {st.st_atim, st.st_mtim};
    CHECK_EQ(::utimensat(AT_FDCWD, in("a/1.new").c_str(), times, 0), 0);
    CHECK_EQ(::rename(in("a/1.new").c_str(), in("a/1").c_str()), 0);
  });
  CHECK((s.compare() == Lines{"*a/1", "*a/link", "*pkg/sub/y.py", "*pkg/x.py", "-b/1"}));
  // A directory where a file was, and the reverse.
  std::filesystem::remove_all(in("pkg"));
  writeFile(in("pkg"), "a file now");
  ::unlink(in("z").c_str());
  CHECK_EQ(::mkdir(in("z").c_str(), 0755), 0);
  writeFile(in("z/inside"), "");
  const Lines now = s.compare();
  CHECK(std::find(now.begin(), now.end(), "*pkg") != now.end());
  CHECK(std::find(now.begin(), now.end(), "*z") != now.end());
  // Only a directory's own time.
  Scanned fresh(lower.path);
  REQUIRE(fresh.scan().errorNumber == 0);
  const timespec times[2] = {{1, 0}, {1, 5}};
  CHECK_EQ(::utimensat(AT_FDCWD, in("a").c_str(), times, 0), 0);
  CHECK((fresh.compare() == Lines{"*a"}));
}

TEST(only_directories) {
  TempDir lower;
  const auto in = [&](const std::string& name) { return lower / name; };
  for (const char* name : {"a", "b", "a/sub", "c", "c/sub"}) CHECK_EQ(::mkdir(in(name).c_str(), 0755), 0);
  for (const char* name : {"a/1", "a/sub/2", "b/3", "c/sub/4"}) writeFile(in(name), name);
  Scanned s(lower.path);
  REQUIRE(s.scan().errorNumber == 0);
  const CompareOptions quick{.directoriesOnly = true};
  CHECK(s.compare(quick).empty());
  // The price: a file that was changed in place.
  writeFile(in("a/1"), "longer than before");
  CHECK(s.compare(quick).empty());
  CHECK((s.compare() == Lines{"*a/1"}));
  // In a directory that differs everything is looked at.
  writeFile(in("a/new"), "");
  CHECK((s.compare(quick) == Lines{"*a", "*a/1", "+a/new"}));
  // The root's own time is no change, but its names are looked at then.
  writeFile(in("top"), "");
  CHECK((s.compare(quick) == Lines{"*a", "*a/1", "+a/new", "+top"}));
  // A link in a directory's place is reported, and not followed.
  CHECK_EQ(::rename(in("c").c_str(), in("elsewhere").c_str()), 0);
  CHECK_EQ(::symlink("elsewhere", in("c").c_str()), 0);
  CHECK_EQ(::unlink(in("elsewhere/sub/4").c_str()), 0);
  CHECK((s.compare(quick) == Lines{"*a", "*a/1", "*c", "+a/new", "+elsewhere", "+top"}));
  CHECK((s.compare() == Lines{"*a", "*a/1", "*c", "+a/new", "+elsewhere", "+top"}));
}

namespace {

// compareLower() as one would write it first.
void compareNaively(const std::string& directory, const std::string& path, const Committed& node,
                    std::vector<LowerChange>& changes) {
  std::set<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(directory)) {
    names.insert(entry.path().filename().native());
  }
  for (const std::string& name : names) {
    if (!node.child(name)) changes.push_back({LowerChangeKind::kAdded, joined(path, name)});
  }
  for (uint32_t i = 0; i < node.entry().childCount; ++i) {
    const std::string name(node.nameOfChild(i)), at = joined(path, name);
    const Entry& e = node.childAt(i).entry();
    if (!names.contains(name)) {
      changes.push_back({LowerChangeKind::kRemoved, at});
      continue;
    }
    struct stat st;
    CHECK_EQ(::lstat((directory + "/" + name).c_str(), &st), 0);
    const int64_t mtimeNs = int64_t{st.st_mtim.tv_sec} * 1'000'000'000 + st.st_mtim.tv_nsec;
    bool same = e.mode == st.st_mode && e.uid == st.st_uid && e.gid == st.st_gid && e.mtimeNs == mtimeNs;
    if (!S_ISDIR(e.mode)) {
      same = same && e.lowerIno == st.st_ino && e.size == static_cast<uint64_t>(st.st_size) && e.rdev == st.st_rdev;
    }
    if (!same) changes.push_back({LowerChangeKind::kModified, at});
    if (S_ISDIR(e.mode) && S_ISDIR(st.st_mode)) compareNaively(directory + "/" + name, at, node.childAt(i), changes);
  }
}

struct RandomLower {
  explicit RandomLower(Random& r) : random(r) {
    for (int i = 0; i < 60; ++i) add();
  }
  std::string anyDirectory() {
    std::vector<std::string> all{lower.path};
    for (const auto& entry : std::filesystem::recursive_directory_iterator(lower.path)) {
      if (std::filesystem::is_directory(entry.symlink_status())) all.push_back(entry.path().native());
    }
    return random.pick(all);
  }
  std::string anyEntry() {
    std::vector<std::string> all;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(lower.path)) {
      all.push_back(entry.path().native());
    }
    return all.empty() ? "" : random.pick(all);
  }
  void add() {
    const std::string path = anyDirectory() + "/" + random.pick(someNames());
    if (std::filesystem::exists(std::filesystem::symlink_status(path))) return;
    if (random.chance(40)) {
      CHECK_EQ(::mkdir(path.c_str(), 0755), 0);
    } else if (random.chance(15)) {
      CHECK_EQ(::symlink(random.pick(someNames()).c_str(), path.c_str()), 0);
    } else {
      writeFile(path, std::string(random(20), '.'));
    }
  }
  void change() {
    const std::string path = anyEntry();
    if (path.empty()) return add();
    const bool isFile = std::filesystem::is_regular_file(std::filesystem::symlink_status(path));
    switch (random(6)) {
      case 0:
        return add();
      case 1:
        std::filesystem::remove_all(path);
        return;
      case 2:
        if (isFile) writeFile(path, "written in place");
        return;
      case 3:
        if (!std::filesystem::is_symlink(path)) ::chmod(path.c_str(), 0700);
        return;
      case 4:  // Anything takes its place; also a link to a directory.
        std::filesystem::remove_all(path);
        if (random.chance(50))
          CHECK_EQ(::symlink(lower.path.c_str(), path.c_str()), 0);
        else
          writeFile(path, "instead");
        return;
      default: {
        const std::string to = anyDirectory() + "/moved";
        if (!to.starts_with(path)) ::rename(path.c_str(), to.c_str());
      }
    }
  }
  Random& random;
  TempDir lower;
};

}  // namespace

TEST(as_a_naive_comparison_finds) {
  Random random;
  for (int round = 0; round < 150 && check::failures == 0; ++round) {
    RandomLower tree(random);
    Scanned s(tree.lower.path);
    REQUIRE(s.scan().errorNumber == 0);
    for (uint64_t i = random(6); i > 0; --i) {
      // Also changes that leave no trace in a directory's time.
      if (random.chance(20))
        keepTime(tree.lower.path, [&] { tree.change(); });
      else
        tree.change();
    }
    std::vector<LowerChange> naive;
    compareNaively(tree.lower.path, "", {s.load(), 0}, naive);
    CHECK(s.compare() == linesOf(naive));
    CHECK(s.compare({.inBackground = true}) == linesOf(naive));
    CHECK_EQ(s.compare({.limit = 2}).size(), std::min<size_t>(naive.size(), 2));

    // Of files, it finds those that lie in a directory that differs.
    const auto differs = [&](const std::string& directory) {
      if (!directory.empty())
        return std::find(naive.begin(), naive.end(), LowerChange{LowerChangeKind::kModified, directory}) != naive.end();
      struct stat st;
      CHECK_EQ(::stat(tree.lower.path.c_str(), &st), 0);
      return s.load()->entry(0).mtimeNs != int64_t{st.st_mtim.tv_sec} * 1'000'000'000 + st.st_mtim.tv_nsec;
    };
    std::vector<LowerChange> expected;
    for (const LowerChange& change : naive) {
      const size_t slash = change.path.rfind('/');
      Committed node{s.load(), 0};
      for (size_t at = 0; node && at != std::string::npos && at < change.path.size();) {
        const size_t end = std::min(change.path.find('/', at), change.path.size());
        node = node.child(change.path.substr(at, end - at));
        at = end + 1;
      }
      const bool wasDirectory = node && node.isDirectory();
      if (wasDirectory || differs(slash == std::string::npos ? "" : change.path.substr(0, slash)))
        expected.push_back(change);
    }
    CHECK(s.compare({.directoriesOnly = true}) == linesOf(expected));
  }
}

TEST(a_comparison_that_is_stopped) {
  TempDir lower;
  writeFile(lower / "file", "x");
  Scanned s(lower.path);
  REQUIRE(s.scan().errorNumber == 0);
  writeFile(lower / "file", "changed");
  const std::atomic<bool> stop{true};
  std::vector<LowerChange> changes;
  CHECK_EQ(compareLower(s.fd.get(), *s.load(), {.stop = &stop}, changes).errorNumber, ECANCELED);
  CHECK(changes.empty());
}

TEST(twenty_thousand_entries) {
  TempDir lower;
  size_t made = 0;
  for (int i = 0; i < 200; ++i) {
    const std::string directory = lower / ("package" + std::to_string(i));
    CHECK_EQ(::mkdir(directory.c_str(), 0755), 0);
    ++made;
    for (int f = 0; f < 99; ++f, ++made) {
      const int fd = ::open((directory + "/module" + std::to_string(f) + ".py").c_str(), O_CREAT | O_WRONLY, 0644);
      CHECK(fd >= 0);
      ::close(fd);
    }
  }
  Scanned s(lower.path);
  uint64_t last = 0;
  ScanSummary summary;
  const ScanError error = scanToManifest(
      s.fd.get(), s.store.manifestPath(0), 4096, uint64_t{1} << 32,
      [&](uint64_t entries) {
        CHECK(entries >= last);
        last = entries;
      },
      summary);
  REQUIRE(error.errorNumber == 0);
  CHECK_EQ(summary.entries, made + 1);
  CHECK_EQ(last, made);
  CHECK(s.compare().empty());
  CHECK_EQ(::unlink((lower / "package77/module13.py").c_str()), 0);
  CHECK((s.compare() == Lines{"*package77", "-package77/module13.py"}));
}

TEST(deep_trees) {
  TempDir lower;
  // As deep as one path can name.
  std::string path = lower.path;
  while (path.size() + 60 < 4000) {
    path += "/" + std::string(50, 'd');
    REQUIRE(::mkdir(path.c_str(), 0755) == 0);
  }
  Scanned s(lower.path);
  REQUIRE(s.scan().errorNumber == 0);
  REQUIRE(s.load() != nullptr);
  CHECK_EQ(Committed(s.load(), s.load()->size() - 1).path(), path.substr(lower.path.size() + 1));
  CHECK(s.compare().empty());
}

TEST(an_empty_directory) {
  TempDir lower;
  Scanned s(lower.path);
  REQUIRE(s.scan().errorNumber == 0);
  CHECK_EQ(s.summary.entries, 1u);
  CHECK(s.compare().empty());
}

TEST(scan_errors) {
  TempDir lower;
  writeFile(lower / "file", "x");
  writeFile(lower / "file2", "x");
  {
    Scanned s(lower.path);
    CHECK_EQ(s.scan(1 << 20, 2).errorNumber, EOVERFLOW);
    CHECK(!std::filesystem::exists(s.store.manifestPath(0)));
    REQUIRE(s.scan().errorNumber == 0);
    CHECK_EQ(s.scan().errorNumber, EEXIST);
  }
  CHECK_EQ(::mkdir((lower / "closed").c_str(), 0), 0);
  CHECK_EQ(::mkdir((lower / "open").c_str(), 0755), 0);
  CHECK_EQ(::chmod(lower.path.c_str(), 0755), 0);
  // In a child that has no rights.
  const pid_t child = ::fork();
  if (child == 0) {
    if (::geteuid() == 0 && (::setgid(65534) != 0 || ::setuid(65534) != 0)) _exit(77);
    const int fd = ::open(lower.path.c_str(), O_RDONLY | O_DIRECTORY);
    ScanSummary summary;
    const ScanError error = scanToManifest(fd, "/nonexistent/manifest", 4096, 1 << 20, nullptr, summary);
    _exit(fd >= 0 && error.errorNumber == EACCES && error.path == "closed" ? 0 : 1);
  }
  int status = 0;
  CHECK_EQ(::waitpid(child, &status, 0), child);
  CHECK(WIFEXITED(status) && (WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == 77));
  ::chmod((lower / "closed").c_str(), 0700);
}
