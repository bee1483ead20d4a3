// Where the bytes of files are, and when they go: nobody waits for it, and no space stays used.
#include "check.h"
#include "overlay_mounted.h"

using namespace siteswap::test;

namespace {

void cutTo(const std::string& path, off_t bytes) {
  CHECK_EQ(::truncate(path.c_str(), bytes), 0);
}

// Files without a name that this process has open below `directory`.
size_t openWithoutName(const std::string& directory) {
  size_t count = 0;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    std::error_code gone;
    const std::string path = std::filesystem::read_symlink(entry.path(), gone).string();
    count += path.starts_with(directory) && path.ends_with(" (deleted)") ? 1 : 0;
  }
  return count;
}
size_t openBelow(const std::string& directory) {
  size_t count = 0;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    std::error_code gone;
    count += std::filesystem::read_symlink(entry.path(), gone).string().starts_with(directory + "/") ? 1 : 0;
  }
  return count;
}

template <class Holds>
bool soon(Holds&& holds) {
  for (int i = 0; i < 5000; ++i) {
    if (holds()) return true;
    std::this_thread::sleep_for(1ms);
  }
  return false;
}

size_t filesIn(const std::string& directory) {
  return static_cast<size_t>(std::distance(std::filesystem::directory_iterator(directory), {}));
}

// Keeps all threads but the reader's busy.
class Busy {
 public:
  explicit Busy(Session& session) {
    for (int i = 0; i < 15; ++i) {
      CHECK(session.post([this] {
        ++running_;
        running_.notify_all();
        while (!done_) std::this_thread::sleep_for(1ms);
        --running_;
      }));
    }
    CHECK(soon([this] { return running_ == 15; }));
  }
  ~Busy() { end(); }
  void end() {
    done_ = true;
    CHECK(soon([this] { return running_ == 0; }));
  }

 private:
  std::atomic<int> running_{0};
  std::atomic<bool> done_{false};
};

void forget(Mounted& m, uint64_t nodeid, uint64_t count) {
  m.kernel.send(FUSE_FORGET, nodeid, bytesOf(fuse_forget_in{count}));
}

}  // namespace

TEST(a_committed_file_that_was_cut_is_an_error_to_whoever_reads_it) {
  Mounted m;
  Process member;
  REQUIRE(m.begin(1, member.pid) == 0);
  const uint64_t committed = m.walk("pkg/__init__.py");
  const uint64_t own = m.walk("pkg/__init__.py", member.pid);
  REQUIRE(own != committed);
  cutTo(m.dir / "lower/pkg/__init__.py", 2);
  for (const uint64_t file : {committed, own}) {
    CHECK_EQ(m.readReply(file, 0, 4096, member.pid).error, -EIO);
    CHECK_EQ(m.readReply(file, 2, 4096, member.pid).error, -EIO);
    CHECK_EQ(m.text(m.readReply(file, 0, 2, member.pid)), "in");
  }
  // Nor is it copied as if that were all.
  CHECK_EQ(m.write(own, "X", member.pid).error, -EIO);
  const uint64_t to = m.create(kRootIno, "copy", member.pid).as<fuse_entry_out>().nodeid;
  fuse_copy_file_range_in copy{};
  copy.nodeid_out = to, copy.off_in = 2, copy.len = 2;
  CHECK_EQ(m.ask(FUSE_COPY_FILE_RANGE, own, bytesOf(copy), member.pid).error, -EIO);
}

TEST(who_reads_requests_does_not_remove_bodies) {
  Mounted m;
  Process member;
  REQUIRE(m.begin(1, member.pid) == 0);
  const std::string bodies = m.dir / "txn1/bodies";
  const auto make = [&](const char* name) {
    const uint64_t file = m.create(kRootIno, name, member.pid).as<fuse_entry_out>().nodeid;
    CHECK_EQ(m.write(file, "bytes", member.pid).error, 0);
    return file;
  };
  // Forgotten when the kernel closes it, forgotten among others, and removed when the kernel knows it no more.
  const uint64_t one = make("one"), two = make("two"), gone = make("gone");
  CHECK_EQ(m.unlink(kRootIno, "one", member.pid), 0);
  CHECK_EQ(m.unlink(kRootIno, "two", member.pid), 0);
  CHECK_EQ(filesIn(bodies), 3u);
  Busy busy(*m.session);
  forget(m, one, 1);
  m.kernel.send(FUSE_BATCH_FORGET, 0, bytesOf(fuse_batch_forget_in{1, 0}, fuse_forget_one{two, 1}));
  forget(m, gone, 1);
  CHECK_EQ(m.unlink(kRootIno, "gone", member.pid), 0);
  // All of that is done as far as requests go.
  CHECK_EQ(m.ask(FUSE_GETATTR, one, bytesOf(fuse_getattr_in{}), member.pid).error, -ESTALE);
  CHECK_EQ(m.walk("gone", member.pid), 0u);
  CHECK_EQ(filesIn(bodies), 3u);
  busy.end();
  CHECK(soon([&] { return filesIn(bodies) == 0; }));
  // Nor are they kept by a descriptor of ours.
  CHECK(soon([&] { return openWithoutName(bodies) == 0; }));
}

TEST(bodies_are_removed_before_the_session_ends) {
  auto m = std::make_unique<Mounted>();
  Process member;
  REQUIRE(m->begin(1, member.pid) == 0);
  const uint64_t file = m->create(kRootIno, "new", member.pid).as<fuse_entry_out>().nodeid;
  CHECK_EQ(m->write(file, "bytes", member.pid).error, 0);
  CHECK_EQ(m->unlink(kRootIno, "new", member.pid), 0);
  forget(*m, file, 1);
  CHECK_EQ(m->ask(FUSE_GETATTR, file, bytesOf(fuse_getattr_in{}), member.pid).error, -ESTALE);
  m->overlay->shutDown();
  m->session->stop();
  CHECK_EQ(filesIn(m->dir / "txn1/bodies"), 0u);
}

TEST(an_aborted_transaction_has_no_file_open) {
  Mounted m;
  Process member;
  REQUIRE(m.begin(1, member.pid) == 0);
  for (const char* name : {"one", "two"}) {
    const uint64_t file = m.create(kRootIno, name, member.pid).as<fuse_entry_out>().nodeid;
    CHECK_EQ(m.write(file, "bytes", member.pid).error, 0);
  }
  CHECK_EQ(m.readPath("version"), "0");
  CHECK_EQ(openBelow(m.dir / "txn1/bodies"), 2u);
  CHECK_EQ(m.overlay->abortTransaction(1), 0);
  CHECK(soon([&] { return openBelow(m.dir / "txn1/bodies") == 0; }));
  CHECK_EQ(openBelow(m.dir / "lower"), 1u);  // what is not its own
}

TEST(a_committed_file_that_is_gone_below_is_an_error_of_the_disk) {
  Mounted m;
  const uint64_t node = m.walk("other/file");
  std::filesystem::remove(m.dir / "lower/other/file");
  CHECK_EQ(m.readReply(node, 0, 10).error, -EIO);
  std::filesystem::remove(m.dir / "lower/other");
  std::ofstream(m.dir / "lower/other") << "no directory";
  CHECK_EQ(m.readReply(node, 0, 10).error, -EIO);
}
