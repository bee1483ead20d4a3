// Reading ahead, without a disk that is slow: which requests are said to wait, and when the other threads' work is
// done, is up to the test.
#include "overlay/read_ahead.h"

#include <fcntl.h>

#include <cstdlib>
#include <deque>
#include <fstream>

#include "check.h"
#include "scripted_operations.h"

using namespace siteswap;
using namespace siteswap::test;
using overlay::ReadAhead;

namespace {

constexpr uint32_t kRequestBytes = 128 << 10;
constexpr uint64_t kFileBytes = (7 << 20) + 4321;
// Where windows begin, for who reads from the start of the file.
constexpr uint64_t kAhead = ReadAhead::kRunBytes + kRequestBytes;
// What the test's requests get that no window answers.
constexpr char kNotAhead[] = "not ahead";

class Reading {
  overlay::Source file_;
  std::string text_ = std::string(kFileBytes, '\0');
  std::mutex mutex_;
  std::deque<std::function<void()>> work_;

 public:
  Reading() {
    char path[] = "/tmp/siteswap-test-XXXXXX";
    file_.fd = std::make_shared<const sys::UniqueFd>(mkostemp(path, O_CLOEXEC));
    unlink(path);
    file_.size = kFileBytes;
    file_.isCommitted = true;
    for (size_t i = 0; i < text_.size(); ++i) text_[i] = static_cast<char>((i * 2654435761u) >> 13);
    CHECK_EQ(pwrite(file_.fd->get(), text_.data(), text_.size(), 0), static_cast<ssize_t>(text_.size()));
    fixture.operations.handler = [this](fuse::RequestPtr request) {
      const auto in = request->arg<fuse_read_in>();
      const size_t size = std::min<uint64_t>(in.size, kFileBytes - in.offset);
      const ReadAhead::Range range{request->nodeid(), in.offset, size};
      if (ahead.answer(request, range)) return;
      ahead.note(range, file_, waits);
      request->replyData(kNotAhead, sizeof kNotAhead);
    };
    fixture.start();
  }
  ~Reading() { doAll(); }

  uint64_t send(uint64_t offset, uint64_t nodeid = 7) {
    fuse_read_in in{};
    in.offset = offset;
    in.size = kRequestBytes;
    return fixture.kernel.send(FUSE_READ, nodeid, bytesOf(in));
  }
  // 'a': the file's bytes at `offset`, 'n': not ahead, '-': no answer (yet), 'e': an error, 'x': other bytes.
  char answer(uint64_t unique, uint64_t offset, int timeoutMs = 20'000) {
    const auto reply = fixture.kernel.wait(unique, timeoutMs);
    if (!reply) return '-';
    if (reply->error != 0) return 'e';
    const std::string_view got{reinterpret_cast<const char*>(reply->body.data()), reply->body.size()};
    if (got == std::string_view{kNotAhead, sizeof kNotAhead}) return 'n';
    return got == std::string_view(text_).substr(offset, kRequestBytes) ? 'a' : 'x';
  }
  char read(uint64_t offset, uint64_t nodeid = 7) { return answer(send(offset, nodeid), offset); }
  // From the start of the file: as many requests as make a run.
  void begin(uint64_t nodeid = 7) {
    for (uint64_t at = 0; at < kAhead; at += kRequestBytes) CHECK_EQ(read(at, nodeid), 'n');
  }
  // Of what other threads are to do, the first; false when there is none.
  bool doOne() {
    std::function<void()> work;
    {
      std::lock_guard lock(mutex_);
      if (work_.empty()) return false;
      work = std::move(work_.front());
      work_.pop_front();
    }
    work();
    return true;
  }
  int doAll() {
    int count = 0;
    while (doOne()) ++count;
    return count;
  }
  void breakFile(uint64_t bytes) { CHECK_EQ(ftruncate(file_.fd->get(), static_cast<off_t>(bytes)), 0); }
  // Reading it is EBADF from now on.
  void loseFile() {
    const sys::UniqueFd nothing(open("/dev/null", O_WRONLY | O_CLOEXEC));
    CHECK(dup3(nothing.get(), file_.fd->get(), O_CLOEXEC) >= 0);
  }

  bool waits = true;
  bool isEnding = false;
  ReadAhead ahead{[this](std::function<void()> work) {
    std::lock_guard lock(mutex_);
    if (!isEnding) work_.push_back(std::move(work));
    return !isEnding;
  }};
  Fixture fixture;  // the last: its threads use the others
};

// By this thread, as the kernel counts.
uint64_t bytesReadHere() {
  std::ifstream counters("/proc/thread-self/io");
  std::string name;
  uint64_t count = 0;
  CHECK(counters >> name >> count && name == "rchar:");
  return count;
}

}  // namespace

TEST(a_run_is_answered_from_windows_to_the_end_of_the_file) {
  Reading r;
  r.begin();
  CHECK_EQ(r.doAll(), 2);
  for (uint64_t at = kAhead; at < kFileBytes; at += kRequestBytes) {
    CHECK_EQ(r.read(at), 'a');
    r.doAll();
  }
  // Nothing is kept behind the end: from the start, it is a new run.
  CHECK_EQ(r.read(0), 'n');
  CHECK_EQ(r.read(kFileBytes - 100), 'n');
}

TEST(who_comes_before_the_window_is_filled_waits_for_it) {
  Reading r;
  r.begin();
  const uint64_t first = kAhead, second = first + kRequestBytes, next = first + ReadAhead::kWindowBytes;
  const uint64_t a = r.send(first), b = r.send(second), c = r.send(next);
  CHECK_EQ(r.answer(c, next, 50), '-');
  CHECK(r.doOne());
  CHECK_EQ(r.answer(a, first), 'a');
  CHECK_EQ(r.answer(b, second), 'a');
  CHECK_EQ(r.answer(c, next, 50), '-');
  r.doAll();
  CHECK_EQ(r.answer(c, next), 'a');
}

TEST(what_is_read_here_and_there_or_cached_makes_no_run) {
  Reading r;
  for (const uint64_t at : {0, 3, 1, 7, 2, 9, 4, 12, 6}) CHECK_EQ(r.read(at * kRequestBytes), 'n');
  CHECK_EQ(r.doAll(), 0);
  r.waits = false;
  for (uint64_t at = 0; at < kFileBytes; at += kRequestBytes) CHECK_EQ(r.read(at, 8), 'n');
  CHECK_EQ(r.doAll(), 0);
}

TEST(what_is_read_at_once_here_and_there_makes_no_run) {
  Reading r;
  for (const uint64_t from : {5, 3, 2, 0}) {
    for (uint64_t at = from << 20; at < (from << 20) + ReadAhead::kRunBytes; at += kRequestBytes) {
      CHECK_EQ(r.read(at), 'n');
    }
  }
  CHECK_EQ(r.doAll(), 0);
}

TEST(two_readers_of_one_file_have_a_run_each) {
  Reading r;
  r.begin();
  const uint64_t far = 4 << 20;
  for (uint64_t at = far; at < far + kAhead; at += kRequestBytes) CHECK_EQ(r.read(at), 'n');
  r.doAll();
  for (uint64_t at = kAhead; at < 3 << 20; at += kRequestBytes) {
    CHECK_EQ(r.read(at), 'a');
    CHECK_EQ(r.read(far + at), 'a');
    r.doAll();
  }
}

TEST(a_run_is_not_forgotten_for_what_is_read_here_and_there) {
  Reading r;
  r.begin();
  r.doAll();
  for (const uint64_t at : {40, 30, 50, 35, 45, 32, 48}) CHECK_EQ(r.read(at * kRequestBytes), 'n');
  CHECK_EQ(r.read(kAhead), 'a');
}

TEST(a_window_that_nobody_wants_any_more_is_not_read) {
  Reading r;
  r.begin();
  for (uint64_t file = 20; file < 20 + ReadAhead::kRuns; ++file) r.begin(file);
  // The first two are of the run that was forgotten.
  const uint64_t before = bytesReadHere();
  CHECK(r.doOne() && r.doOne());
  const uint64_t between = bytesReadHere();
  CHECK(between - before < ReadAhead::kWindowBytes);
  CHECK(r.doOne());
  CHECK(bytesReadHere() - between >= ReadAhead::kWindowBytes);
  CHECK_EQ(r.read(kAhead, 20), 'a');
}

TEST(a_window_that_nobody_will_want_but_one_waits_for_is_read) {
  Reading r;
  r.begin();
  const uint64_t waiting = r.send(kAhead);
  CHECK_EQ(r.answer(waiting, kAhead, 50), '-');
  for (uint64_t file = 20; file < 20 + ReadAhead::kRuns; ++file) r.begin(file);
  r.doAll();
  CHECK_EQ(r.answer(waiting, kAhead), 'a');
}

TEST(a_read_across_two_windows_is_not_ahead) {
  Reading r;
  r.begin();
  r.doAll();
  CHECK_EQ(r.read(kAhead + ReadAhead::kWindowBytes - 4096), 'n');
}

TEST(more_runs_than_are_remembered) {
  Reading r;
  for (uint64_t file = 10; file < 10 + ReadAhead::kRuns + 1; ++file) r.begin(file);
  r.doAll();
  CHECK_EQ(r.read(kAhead, 10), 'n');
  for (uint64_t file = 11; file < 10 + ReadAhead::kRuns + 1; ++file) CHECK_EQ(r.read(kAhead, file), 'a');
}

TEST(what_can_not_be_read_ahead_is_asked_again_one_by_one) {
  Reading r;
  r.begin();
  const uint64_t at = kAhead;
  const uint64_t waiting = r.send(at);
  CHECK_EQ(r.answer(waiting, at, 50), '-');
  r.loseFile();
  CHECK(r.doAll() >= 2);
  CHECK_EQ(r.answer(waiting, at), 'n');
  CHECK_EQ(r.read(at + kRequestBytes), 'n');
}

// Who reads it then one by one gets an error: see overlay_bodies_test.cc.
TEST(what_is_missing_of_a_file_that_got_shorter_behind_our_back_is_asked_again) {
  Reading r;
  r.begin();
  const uint64_t at = kAhead, next = at + kRequestBytes, last = next + kRequestBytes;
  const uint64_t whole = r.send(at), part = r.send(next), none = r.send(last);
  CHECK_EQ(r.answer(none, last, 50), '-');
  r.breakFile(next + 100);
  r.doAll();
  CHECK_EQ(r.answer(whole, at), 'a');
  CHECK_EQ(r.answer(part, next), 'n');
  CHECK_EQ(r.answer(none, last), 'n');
}

TEST(nobody_waits_for_a_session_that_ends) {
  Reading r;
  r.isEnding = true;
  r.begin();
  CHECK_EQ(r.read(kAhead), 'n');
}
