// Where the bytes of files are, and when they go: nobody waits for it, and no space stays used.
#include "check.h"
#include "overlay_mounted.h"

using namespace siteswap::test;

namespace {

void cutTo(const std::string& path, off_t bytes) {
  CHECK_EQ(::truncate(path.c_str(), bytes), 0);
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
