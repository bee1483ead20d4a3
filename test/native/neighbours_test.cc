// Which files are fetched when one had to be read from the disk: the other threads' work is done when the test says so.
#include "overlay/neighbours.h"

#include <deque>

#include "check.h"
#include "overlay/scan.h"
#include "overlay_fixture.h"

using namespace siteswap::test;

namespace {

std::string numbered(uint32_t i) {
  return std::string(i < 10 ? "00" : i < 100 ? "0" : "") + std::to_string(i) + ".pyc";
}

// Of the directory `name`.
std::unique_ptr<Manifest> scanned(const TempDir& dir, const std::string& name) {
  const siteswap::sys::UniqueFd lower(::open((dir / name).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  const std::string path = dir / (name + ".manifest");
  ScanSummary summary;
  CHECK_EQ(scanToManifest(lower.get(), path, uint64_t{1} << 32, uint64_t{1} << 32, nullptr, summary).errorNumber, 0);
  std::string why;
  auto manifest = Manifest::open(path, why);
  CHECK_EQ(why, "");
  return manifest;
}

class Fetching {
 public:
  static constexpr uint32_t kFiles = 200;

  Fetching() {
    std::filesystem::create_directories(dir / "lower/cache/below");
    std::filesystem::create_directories(dir / "lower/single");
    for (uint32_t i = 0; i < kFiles; ++i) writeFile(dir / ("lower/cache/" + numbered(i)), "bytes");
    writeFile(dir / "lower/cache/010.empty", "");
    writeFile(dir / "lower/cache/010.large", std::string(Neighbours::kMostBytes + 1, 'x'));
    CHECK_EQ(::symlink("000.pyc", (dir / "lower/cache/010.link").c_str()), 0);
    writeFile(dir / "lower/single/only", "x");
    writeFile(dir / "lower/top", "x");
    manifest = scanned(dir, "lower");
  }
  void note(const std::string& path) { neighbours.note(Committed{manifest.get(), 0}.descendant(path)); }
  // What the work that is waiting fetches.
  std::vector<std::string> work() {
    fetched.clear();
    while (!waiting.empty()) {
      const auto next = std::move(waiting.front());
      waiting.pop_front();
      next();
    }
    return fetched;
  }

  TempDir dir;
  std::unique_ptr<Manifest> manifest;
  std::deque<std::function<void()>> waiting;
  std::vector<std::string> fetched;
  bool hasThreads = true;
  Neighbours neighbours{[this](std::function<void()> work) {
                          if (hasThreads) waiting.push_back(std::move(work));
                          return hasThreads;
                        },
                        [this](const Committed& file) { fetched.push_back(file.path()); }};
};

}  // namespace

TEST(who_waits_for_the_disk_again_and_again_has_more_and_more_fetched) {
  Fetching f;
  f.note("cache/005.pyc");
  const std::vector<std::string> first = f.work();
  REQUIRE(!first.empty());
  CHECK_EQ(first.front(), "cache/006.pyc");
  // Of eight: no file that is empty, large, a link.
  const std::set<std::string> expected{"cache/006.pyc", "cache/007.pyc", "cache/008.pyc", "cache/009.pyc",
                                       "cache/010.pyc"};
  CHECK(std::set<std::string>(first.begin(), first.end()) == expected);
  std::set<std::string> all(first.begin(), first.end());
  size_t most = 0, rounds = 1;
  for (; rounds < 20; ++rounds) {
    // Whichever it was: what comes next was not fetched before.
    f.note("cache/150.pyc");
    const std::vector<std::string> more = f.work();
    if (more.empty()) break;
    most = std::max(most, more.size());
    for (const std::string& path : more) CHECK(all.insert(path).second);
  }
  CHECK_EQ(most, size_t{Neighbours::kMost});
  CHECK(rounds > 4 && rounds < 10);
  // Round to where it began, and then no more.
  CHECK_EQ(all.size(), size_t{Fetching::kFiles - 1});
  CHECK(!all.contains("cache/005.pyc"));
}

TEST(one_thread_a_directory) {
  Fetching f;
  f.note("cache/000.pyc");
  f.note("cache/001.pyc");
  CHECK_EQ(f.waiting.size(), 1u);
  f.note("top");
  CHECK_EQ(f.waiting.size(), 2u);
  f.work();
  f.note("cache/001.pyc");
  CHECK_EQ(f.waiting.size(), 1u);
}

TEST(a_file_without_neighbours) {
  Fetching f;
  f.note("single/only");
  CHECK(f.waiting.empty());
}

TEST(when_the_session_ends_nothing_is_fetched) {
  Fetching f;
  f.hasThreads = false;
  f.note("cache/000.pyc");
  f.hasThreads = true;
  f.note("cache/000.pyc");
  CHECK_EQ(f.work().front(), "cache/001.pyc");
}

// Its thread comes back to a directory that is not remembered any more.
TEST(only_the_latest_directories_are_remembered) {
  Fetching f;
  for (size_t i = 0; i <= Neighbours::kDirectories; ++i)
    std::filesystem::create_directories(f.dir / ("many/" + numbered(static_cast<uint32_t>(i))));
  for (size_t i = 0; i <= Neighbours::kDirectories; ++i) {
    for (const char* name : {"a", "b"})
      writeFile(f.dir / ("many/" + numbered(static_cast<uint32_t>(i)) + "/" + name), "x");
  }
  const auto manifest = scanned(f.dir, "many");
  const Committed root{manifest.get(), 0};
  for (uint32_t i = 0; i < 20; ++i) f.neighbours.note(root.childAt(i).childAt(0));
  // Others are left to serve.
  CHECK_EQ(f.work().size(), Neighbours::kRunning);
  for (uint32_t i = Neighbours::kRunning; i <= Neighbours::kDirectories; ++i) {
    f.neighbours.note(root.childAt(i).childAt(0));
    CHECK_EQ(f.work().size(), 1u);
  }
  f.neighbours.note(root.childAt(Neighbours::kDirectories).childAt(0));
  CHECK(f.work().empty());
  f.neighbours.note(root.childAt(0).childAt(0));
  CHECK_EQ(f.work().size(), 1u);
}
