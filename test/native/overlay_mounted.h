// An overlay of a small lower behind a session on a fake kernel, the requests that a kernel would send to it, and
// processes for them to come from. Include it from a *_test.cc only (it needs check.h).
#pragma once

#include <sys/wait.h>

#include <atomic>
#include <condition_variable>
#include <thread>

#include "fake_kernel.h"
#include "overlay/overlay.h"
#include "overlay/scan.h"
#include "overlay_fixture.h"
#include "sys/unique_fd.h"

namespace siteswap::test {

using namespace std::chrono_literals;
using siteswap::fuse::kNotifyIncEpoch;
using siteswap::fuse::kNotifyInvalInode;
using siteswap::fuse::Session;
using siteswap::fuse::SessionOptions;

constexpr uint64_t kForever = 0x7fffffff;
using Verdict = Overlay::Verdict;

// A process that only is there: its pid is what requests come from. A program of its own, and not a fork of the test:
// forks share what their parent sees.
class Process {
 public:
  Process() {
    int ready[2], go[2];
    if (::pipe2(go, O_CLOEXEC) != 0 || ::pipe2(ready, O_CLOEXEC) != 0) std::abort();
    pid = ::fork();
    if (pid == 0) {
      ::dup2(go[0], 0);
      ::execlp("cat", "cat", nullptr);
      ::_exit(127);
    }
    ::close(go[0]);
    ::close(ready[1]);
    go_ = siteswap::sys::UniqueFd(go[1]);
    // Ends when the program has taken the place of ours.
    char byte;
    while (::read(ready[0], &byte, 1) < 0) {
    }
    ::close(ready[0]);
  }
  ~Process() { end(); }
  // Exits, and is reaped.
  void end() {
    if (pid <= 0) return;
    ::kill(pid, SIGKILL);
    int status;
    ::waitpid(pid, &status, 0);
    pid = 0;
  }
  pid_t pid = 0;

 private:
  siteswap::sys::UniqueFd go_;
};

struct Named {
  std::string name;
  uint64_t ino, offset, nodeid;
};

// A lower with a few files, its generation 0, and an overlay of it on a fake kernel.
class Mounted {
 public:
  explicit Mounted(SessionOptions given = {}, PinPolicy pin = PinPolicy::kProcess) {
    for (const char* name : {"lower", "manifests", "layers", "live", "lower/pkg", "lower/pkg/sub", "lower/other"}) {
      CHECK_EQ(::mkdir((dir / name).c_str(), 0755), 0);
    }
    writeFile(dir / "lower/version", "0");
    writeFile(dir / "lower/also", "0");
    writeFile(dir / "lower/pkg/__init__.py", "init");
    writeFile(dir / "lower/pkg/sub/deep.py", "deep");
    writeFile(dir / "lower/other/file", "other");
    CHECK_EQ(::symlink("pkg/__init__.py", (dir / "lower/link").c_str()), 0);
    lower = siteswap::sys::UniqueFd(::open((dir / "lower").c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    ScanSummary summary;
    CHECK_EQ(scanToManifest(lower.get(), manifestPath(0), uint64_t{1} << 32, uint64_t{1} << 32, nullptr, summary)
                 .errorNumber,
             0);
    OverlayOptions options;
    options.lowerFd = lower.get();
    options.layersDir = dir / "layers", options.manifestsDir = dir / "manifests", options.liveDir = dir / "live";
    options.firstIno = uint64_t{2} << 32, options.inoCount = uint64_t{1} << 32;
    options.maxMtimeNs = summary.maxMtimeNs;
    options.pin = pin;
    options.leaseSeconds = 3600;
    OverlayEvents events;
    events.writerAppeared = [this](const OverlayEvents::Writer& writer) {
      std::lock_guard lock(mutex_);
      writers_.push_back(writer);
      ++writersSeen_;
      changed_.notify_all();
    };
    events.rootExited = [this](uint32_t, siteswap::process::ExitStatus) { ++rootsExited; };
    events.log = [this](const std::string& line) {
      std::lock_guard lock(mutex_);
      log_.push_back(line);
    };
    overlay = std::make_unique<Overlay>(options, events);
    CHECK_EQ(overlay->load(), "");
    given.deviceFd = kernel.deviceFd();
    given.log = events.log;
    given.stopped = [](siteswap::fuse::StopReason, const std::string&) {};
    session = std::make_unique<Session>(given, *overlay);
    overlay->attach(session.get());
    std::atomic<bool> ready{false};
    session->start([&](const siteswap::fuse::Negotiated&) { ready = true; });
    CHECK_EQ(kernel.init(45, FakeKernel::kAllFlags).error, 0);
    while (!ready) std::this_thread::yield();
  }
  ~Mounted() {
    overlay->shutDown();
    session.reset();
    overlay.reset();
  }

  std::string manifestPath(uint64_t g) const { return dir / ("manifests/" + std::to_string(g) + ".manifest"); }

  uint64_t send(uint32_t opcode, uint64_t nodeid, const Bytes& body, pid_t tid) {
    return kernel.send(opcode, nodeid, body, {}, static_cast<uint32_t>(tid));
  }
  Reply ask(uint32_t opcode, uint64_t nodeid, const Bytes& body, pid_t tid = 0) {
    const uint64_t unique = send(opcode, nodeid, body, tid);
    return kernel.wait(unique).value_or(Reply{unique, -ETIMEDOUT, {}});
  }
  Reply lookupReply(uint64_t parent, const std::string& name, pid_t tid = 0) {
    return ask(FUSE_LOOKUP, parent, bytesOf(name, '\0'), tid);
  }
  // nodeid 0 when it is not there.
  fuse_entry_out lookup(uint64_t parent, const std::string& name, pid_t tid = 0) {
    const Reply reply = lookupReply(parent, name, tid);
    if (reply.error != 0) return {};
    return reply.as<fuse_entry_out>();
  }
  uint64_t walk(const std::string& path, pid_t tid = 0) {
    uint64_t at = kRootIno;
    for (std::string_view rest = path; at != 0 && !rest.empty();) {
      const size_t slash = rest.find('/');
      at = lookup(at, std::string(rest.substr(0, slash)), tid).nodeid;
      rest = slash == std::string_view::npos ? "" : rest.substr(slash + 1);
    }
    return at;
  }
  fuse_attr_out getattr(uint64_t nodeid, pid_t tid = 0) {
    return ask(FUSE_GETATTR, nodeid, bytesOf(fuse_getattr_in{}), tid).as<fuse_attr_out>();
  }
  Reply readReply(uint64_t nodeid, uint64_t offset, uint32_t size, pid_t tid = 0) {
    fuse_read_in in{};
    in.offset = offset;
    in.size = size;
    return ask(FUSE_READ, nodeid, bytesOf(in), tid);
  }
  static std::string text(const Reply& reply) {
    if (reply.error != 0) return "<error " + std::to_string(-reply.error) + ">";
    return {reinterpret_cast<const char*>(reply.body.data()), reply.body.size()};
  }
  std::string read(uint64_t nodeid, pid_t tid = 0) { return text(readReply(nodeid, 0, 4096, tid)); }
  std::string readPath(const std::string& path, pid_t tid = 0) {
    const uint64_t node = walk(path, tid);
    return node == 0 ? "<nothing>" : read(node, tid);
  }

  // Behind `offset`. `isComplete`: whether the kernel may answer others with it.
  std::vector<Named> list(uint64_t nodeid, bool plus, uint32_t size, pid_t tid = 0, uint64_t offset = 0,
                          bool* isComplete = nullptr) {
    std::vector<Named> all;
    for (;;) {
      const Reply reply = listReply(nodeid, plus, size, tid, offset);
      CHECK_EQ(reply.error, 0);
      CHECK(reply.body.size() <= size);
      if (isComplete != nullptr) *isComplete = reply.body.empty();
      if (reply.error != 0 || reply.body.size() < FUSE_NAME_OFFSET) return all;
      for (size_t at = 0; at < reply.body.size();) {
        fuse_entry_out entry{};
        if (plus) std::memcpy(&entry, reply.body.data() + at, sizeof entry);
        const size_t head = at + (plus ? sizeof entry : 0);
        fuse_dirent d{};
        std::memcpy(&d, reply.body.data() + head, FUSE_NAME_OFFSET);
        const auto* name = reinterpret_cast<const char*>(reply.body.data()) + head + FUSE_NAME_OFFSET;
        all.push_back({std::string(name, d.namelen), d.ino, d.off, entry.nodeid});
        offset = d.off;
        at = head + FUSE_DIRENT_ALIGN(FUSE_NAME_OFFSET + d.namelen);
      }
    }
  }
  Reply listReply(uint64_t nodeid, bool plus, uint32_t size, pid_t tid, uint64_t offset) {
    fuse_read_in in{};
    in.offset = offset, in.size = size;
    return ask(plus ? FUSE_READDIRPLUS : FUSE_READDIR, nodeid, bytesOf(in), tid);
  }
  // What every program does first that imports anything.
  void listRoot(pid_t tid) { CHECK(!list(kRootIno, true, 4096, tid).empty()); }

  Reply create(uint64_t parent, const std::string& name, pid_t tid) {
    fuse_create_in in{};
    in.mode = S_IFREG | 0644;
    in.flags = O_CREAT | O_EXCL | O_RDWR;
    return ask(FUSE_CREATE, parent, bytesOf(in, name, '\0'), tid);
  }
  Reply write(uint64_t nodeid, const std::string& bytes, pid_t tid) {
    fuse_write_in in{};
    in.size = static_cast<uint32_t>(bytes.size());
    return ask(FUSE_WRITE, nodeid, bytesOf(in, bytes), tid);
  }
  Reply mkdir(uint64_t parent, const std::string& name, pid_t tid) {
    fuse_mkdir_in in{};
    in.mode = 0755;
    return ask(FUSE_MKDIR, parent, bytesOf(in, name, '\0'), tid);
  }
  int unlink(uint64_t parent, const std::string& name, pid_t tid) {
    return ask(FUSE_UNLINK, parent, bytesOf(name, '\0'), tid).error;
  }

  int begin(uint32_t id, pid_t root, const std::string& token = "") {
    const std::string directory = dir / ("txn" + std::to_string(id));
    if (::mkdir(directory.c_str(), 0700) != 0) return errno;
    return overlay->beginTransaction(id, directory, root, token);
  }
  // freeze, build, move the layer, publish: as the daemon does it.
  void commit(uint32_t id, uint64_t generation) {
    CHECK_EQ(overlay->freezeTransaction(id), 0);
    const MergeResult built = overlay->buildManifest(id, generation, id, manifestPath(generation), {});
    CHECK_EQ(built.error, 0);
    CHECK(built.conflicts.empty());
    std::filesystem::rename(dir / ("txn" + std::to_string(id) + "/bodies"), dir / ("layers/" + std::to_string(id)));
    std::string error;
    CHECK_EQ(overlay->publish(generation, id, error), 0);
    CHECK_EQ(error, "");
  }
  // A commit by `member` that puts `generation` into both files.
  void install(uint32_t id, uint64_t generation, pid_t member) {
    CHECK_EQ(begin(id, member), 0);
    for (const char* name : {"version", "also"}) {
      CHECK_EQ(unlink(kRootIno, name, member), 0);
      const Reply made = create(kRootIno, name, member);
      CHECK_EQ(made.error, 0);
      CHECK_EQ(write(made.as<fuse_entry_out>().nodeid, std::to_string(generation), member).error, 0);
    }
    commit(id, generation);
  }

  std::optional<OverlayEvents::Writer> nextWriter(std::chrono::milliseconds patience = 10s) {
    std::unique_lock lock(mutex_);
    if (!changed_.wait_for(lock, patience, [&] { return !writers_.empty(); })) return std::nullopt;
    OverlayEvents::Writer first = writers_.front();
    writers_.erase(writers_.begin());
    return first;
  }
  size_t writersSeen() {
    std::lock_guard lock(mutex_);
    return writersSeen_;
  }
  // Waits until so many requests are parked or being decided.
  bool waitParked(uint64_t count) {
    for (int i = 0; i < 5000; ++i) {
      if (overlay->parkedCount() == count) return true;
      std::this_thread::sleep_for(1ms);
    }
    return false;
  }
  bool isUnanswered(uint64_t unique) { return !kernel.wait(unique, 30).has_value(); }
  void dropNotifications() {
    while (kernel.waitNotification(0)) {
    }
  }
  // INC_EPOCH, then the root's attributes.
  void checkRefreshed(int timeoutMs = 5000) {
    const auto first = kernel.waitNotification(timeoutMs);
    REQUIRE(first.has_value());
    CHECK_EQ(first->error, kNotifyIncEpoch);
    for (;;) {
      const auto next = kernel.waitNotification(timeoutMs);
      REQUIRE(next.has_value());
      REQUIRE(next->error == kNotifyInvalInode);
      const auto out = next->as<fuse_notify_inval_inode_out>();
      CHECK(out.off < 0);
      if (out.ino == kRootIno) return;
    }
  }

  TempDir dir;
  siteswap::sys::UniqueFd lower;
  FakeKernel kernel;
  std::unique_ptr<Overlay> overlay;
  std::unique_ptr<Session> session;
  std::atomic<int> rootsExited{0};

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<OverlayEvents::Writer> writers_;
  size_t writersSeen_ = 0;
  std::vector<std::string> log_;
};

}  // namespace siteswap::test
