// process/: identities and ends of real forked children.

#include "process/process.h"

#include <dirent.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <csignal>
#include <cstdlib>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "check.h"
#include "process/exit_events.h"
#include "process/pidfd.h"
#include "process/proc_files.h"

namespace {

using namespace siteswap::process;
using namespace std::chrono_literals;

// A child that stays until told, then ends as `end` says. Only async-signal-safe calls in it: the test has threads.
class Child {
 public:
  template <class End>
  explicit Child(End end) {
    if (pipe(go_) != 0) std::abort();
    pid = fork();
    if (pid == 0) {
      char byte;
      while (read(go_[0], &byte, 1) < 0) {
      }
      end();
      _exit(0);
    }
  }
  ~Child() {
    release();
    reap();
    close(go_[0]);
    close(go_[1]);
  }
  Child(const Child&) = delete;

  // A byte, not an end of file: later children hold copies of the pipe.
  void release() {
    if (write(go_[1], "", 1) != 1) std::abort();
  }
  void reap() {
    if (!reaped_) waitpid(pid, &status, 0);
    reaped_ = true;
  }

  pid_t pid;
  int status = 0;

 private:
  int go_[2];
  bool reaped_ = false;
};

// Collects what callbacks bring.
template <class T>
class Inbox {
 public:
  void put(T value) {
    std::lock_guard guard(lock_);
    values_.push_back(std::move(value));
    changed_.notify_all();
  }
  bool waitFor(size_t count, std::chrono::milliseconds patience = 10s) {
    std::unique_lock guard(lock_);
    return changed_.wait_for(guard, patience, [&] { return values_.size() >= count; });
  }
  std::vector<T> values() {
    std::lock_guard guard(lock_);
    return values_;
  }

 private:
  std::mutex lock_;
  std::condition_variable changed_;
  std::vector<T> values_;
};

ProcessTable::Options quiet() {
  return {.log = {}};
}

pid_t currentTid() {
  return static_cast<pid_t>(syscall(SYS_gettid));
}

size_t openDescriptors() {
  size_t count = 0;
  DIR* dir = opendir("/proc/self/fd");
  while (readdir(dir)) count++;
  closedir(dir);
  return count;
}

TEST(stat_line_with_a_hostile_command) {
  const std::string tail =
      " S 77 1 1 0 -1 4194368 1 2 3 4 5 6 7 8 20 0 1 0 987654321 1000 100 18446744073709551615 1 1 0 0 0 0 0 0 0 0 0 0 "
      "17 0 0 0 0 0 0 0 0 0 0 0 0 0 10752\n";
  for (const char* command : {"sh", "a) R 1 (b", ")", "", " ) ) ", "new\nline"}) {
    auto stat = parseStat("1234 (" + std::string(command) + ")" + tail);
    REQUIRE(stat.has_value());
    CHECK_EQ(stat->pid, 1234);
    CHECK_EQ(stat->state, 'S');
    CHECK_EQ(stat->parentPid, 77);
    CHECK_EQ(stat->flags, uint64_t{4194368});
    CHECK_EQ(stat->startTicks, uint64_t{987654321});
    CHECK_EQ(stat->exitCode, 10752);
  }
  for (const char* broken :
       {"", "1234", "1234 (sh)", "1234 (sh) ", "1234 (sh) S", "x (sh) S 1 1", "1 (sh) S 1 2 3 4"}) {
    CHECK(!parseStat(broken).has_value());
  }
}

TEST(status_file) {
  auto status = parseStatus("Name:\tTgid:\nUmask:\t0022\nTgid:\t42\nNgid:\t0\nUid:\t1000\t0\t0\t0\n");
  REQUIRE(status.has_value());
  CHECK_EQ(status->threadGroup, 42);
  CHECK_EQ(status->uid, uid_t{1000});
  CHECK(!parseStatus("").has_value());
  CHECK(!parseStatus("Tgid:\t42\n").has_value());
  CHECK(!parseStatus("Tgid:\t\nUid:\t\n").has_value());
}

TEST(own_identity_and_its_threads) {
  ProcessTable table(quiet());
  auto self = table.ofPid(getpid());
  REQUIRE(self != nullptr);
  CHECK_EQ(self->pid, getpid());
  CHECK_EQ(self->parentPid, getppid());
  CHECK_EQ(self->currentParent(), getppid());
  CHECK_EQ(self->uid, getuid());
  CHECK(!self->forkedNotExeced);
  CHECK(!self->ended());
  // A thread that lives leads to the one object of its process; its number alone is no process.
  pid_t gone = 0;
  std::thread([&] {
    gone = currentTid();
    CHECK(table.ofThread(gone) == self);
    CHECK(table.ofThread(gone) == self);
    CHECK(table.ofPid(gone) == nullptr);
  }).join();
  // The cache must not speak for a thread that has ended.
  for (int i = 0; i < 1000 && isThreadOf(gone, getpid()); i++) std::this_thread::sleep_for(1ms);
  CHECK(table.ofThread(gone) == nullptr);
  CHECK(table.ofThread(getpid()) == self);
}

TEST(nobody) {
  ProcessTable table(quiet());
  CHECK(table.ofThread(0) == nullptr);
  CHECK(table.ofPid(0) == nullptr);
  CHECK(table.ofThread(-1) == nullptr);
  CHECK(table.ofPid(-1) == nullptr);
  CHECK(table.ofThread(0x3fffffff) == nullptr);
  CHECK(table.ofPid(0x3fffffff) == nullptr);
}

TEST(orphans_are_forks_whose_parent_is_of_another_program) {
  ProcessTable table(quiet());
  const auto own = table.ofPid(getpid())->program();
  REQUIRE(own && own->hasLayout());
  int ends[2];
  REQUIRE(pipe(ends) == 0);
  // The child ends at once; its own child stays until the pipe is closed, and has nobody of its program above it.
  const pid_t child = fork();
  if (child == 0) {
    if (fork() == 0) {
      char byte;
      close(ends[1]);
      while (read(ends[0], &byte, 1) > 0) {
      }
    }
    _exit(0);
  }
  Child other([] {});
  waitpid(child, nullptr, 0);
  std::vector<RunningProgram> ours;
  OrphanScan scan;
  std::vector<RunningProgram> orphans = scan.pass();
  // Of a zombie only the second pass can say that it was one before.
  for (int i = 0; i < 1000 && !scan.isComplete(); i++) orphans = scan.pass();
  CHECK(scan.isComplete());
  for (const RunningProgram& orphan : orphans) {
    if (orphan.program.layout == own->layout) ours.push_back(orphan);
  }
  other.release();
  other.reap();
  close(ends[0]);
  close(ends[1]);
  REQUIRE(ours.size() == 1);
  CHECK(ours[0].pid != child);
  CHECK(ours[0].pid != other.pid);
  CHECK(ours[0].program.forkedNotExeced);
}

TEST(forked_and_execed) {
  ProcessTable table(quiet());
  Child child([] { execl("/bin/sleep", "sleep", "100", nullptr); });
  auto process = table.ofPid(child.pid);
  REQUIRE(process != nullptr);
  CHECK(process->forkedNotExeced);
  CHECK(process->isForkedNotExecedNow());
  CHECK_EQ(process->parentPid, getpid());
  child.release();
  for (int i = 0; i < 5000 && process->isForkedNotExecedNow(); i++) std::this_thread::sleep_for(1ms);
  CHECK(!process->isForkedNotExecedNow());
  CHECK(table.ofPid(child.pid) == process);
  CHECK(table.ofThread(child.pid) == process);
  kill(child.pid, SIGKILL);
  child.reap();
  CHECK(process->ended());
  CHECK_EQ(process->currentParent(), 0);
  CHECK(table.ofPid(child.pid) == nullptr);
  CHECK(table.ofThread(child.pid) == nullptr);
}

TEST(another_program) {
  ProcessTable table(quiet());
  const auto own = table.ofPid(getpid())->program();
  REQUIRE(own.has_value());
  CHECK(own->hasLayout());
  CHECK(!own->forkedNotExeced);
  // A fork is the same program.
  Child child([] { execl("/bin/sh", "sh", "-c", "read x; exec sleep 100", nullptr); });
  const auto process = table.ofPid(child.pid);
  REQUIRE(process != nullptr);
  const auto forked = process->program();
  REQUIRE(forked.has_value());
  CHECK(forked->forkedNotExeced);
  CHECK(forked->layout == own->layout);
  CHECK(!isAnotherProgram(*own, *forked));
  // Its parent lives.
  for (const RunningProgram& each : OrphanScan().pass()) CHECK(each.pid != child.pid);
  // After an exec it is another one, and after the next one too, in the same process.
  child.release();
  for (int i = 0; i < 5000 && process->isForkedNotExecedNow(); i++) std::this_thread::sleep_for(1ms);
  const auto execed = process->program();
  REQUIRE(execed.has_value());
  CHECK(isAnotherProgram(*forked, *execed));
  kill(child.pid, SIGKILL);
  child.reap();
  CHECK(!process->program().has_value());

  const Program unknown;
  CHECK(!isAnotherProgram(unknown, *own));
  CHECK(!isAnotherProgram(*own, unknown));
}

TEST(orphan_changes_parent) {
  ProcessTable table(quiet());
  int report[2];
  CHECK_EQ(pipe(report), 0);
  Child parent([report] {
    pid_t orphan = fork();
    if (orphan == 0) {
      close(report[1]);
      for (;;) pause();
    }
    if (write(report[1], &orphan, sizeof orphan) < 0) _exit(1);
    for (;;) pause();
  });
  parent.release();
  pid_t orphan = 0;
  CHECK_EQ(read(report[0], &orphan, sizeof orphan), static_cast<ssize_t>(sizeof orphan));
  auto process = table.ofPid(orphan);
  REQUIRE(process != nullptr);
  CHECK_EQ(process->parentPid, parent.pid);
  kill(parent.pid, SIGKILL);
  parent.reap();
  CHECK(process->currentParent() != parent.pid);
  CHECK(process->currentParent() != 0);
  kill(orphan, SIGKILL);
  close(report[0]);
  close(report[1]);
}

// The three ways to end and how each is seen, with and without PIDFD_GET_INFO.
struct Without {
  bool pidfdInfo = false, exitEvents = false;
};
void endsAs(Without without, bool reapAtOnce) {
  Inbox<ExitStatus> statuses;
  Inbox<int> ends;
  ProcessTable table({.disablePidfdInfo = without.pidfdInfo, .disableExitEvents = without.exitEvents, .log = {}});
  Child exits([] { _exit(42); });
  Child killed([] { kill(getpid(), SIGKILL); });
  Child clean([] {});
  std::vector<ExitStatus> seen;
  for (Child* child : {&exits, &killed, &clean}) {
    auto process = table.ofPid(child->pid);
    REQUIRE(process != nullptr);
    table.watchEnd(process, [&] { ends.put(1); });
    table.watchExit(process, 5000, [&](ExitStatus status) { statuses.put(status); });
    child->release();
    if (reapAtOnce) child->reap();
    CHECK(statuses.waitFor(seen.size() + 1));
    seen.push_back(statuses.values().back());
    CHECK(process->ended());
  }
  CHECK(ends.waitFor(3));
  // Reaped before it could be looked at, and a kernel that does not keep the status: unknown, but told.
  const bool hasEvents = !without.exitEvents && ExitEvents::open() != nullptr;
  bool mayBeUnknown = reapAtOnce && (without.pidfdInfo || !hasPidfdInfo()) && !hasEvents;
  auto known = [&](const ExitStatus& status) { return status.exitCode || status.signal || !mayBeUnknown; };
  if (known(seen[0])) CHECK_EQ(seen[0].exitCode.value_or(-1), 42);
  if (known(seen[1])) CHECK_EQ(seen[1].signal.value_or(-1), SIGKILL);
  if (known(seen[2])) CHECK_EQ(seen[2].exitCode.value_or(-1), 0);
}

TEST(exit_status_of_reaped) {
  endsAs({}, true);
}
TEST(exit_status_of_reaped_by_the_process_connector) {
  endsAs({.pidfdInfo = true}, true);
}
TEST(exit_status_of_reaped_that_nobody_tells) {
  endsAs({.pidfdInfo = true, .exitEvents = true}, true);
}

// A parent that never reaps: the status comes from the zombie itself.
TEST(exit_status_of_zombie) {
  endsAs({}, false);
}
TEST(exit_status_of_zombie_by_the_process_connector) {
  endsAs({.pidfdInfo = true}, false);
}
TEST(exit_status_of_zombie_that_nobody_tells) {
  endsAs({.pidfdInfo = true, .exitEvents = true}, false);
}

TEST(already_ended) {
  Inbox<ExitStatus> statuses;
  Inbox<int> ends;
  ProcessTable table(quiet());
  Child child([] { _exit(3); });
  auto process = table.ofPid(child.pid);
  child.release();
  siginfo_t info;
  waitid(P_PID, static_cast<id_t>(child.pid), &info, WEXITED | WNOWAIT);
  CHECK(process->ended());
  CHECK(table.ofPid(child.pid) == process);  // a zombie is still there
  table.watchEnd(process, [&] { ends.put(1); });
  CHECK(ends.waitFor(1));
  child.reap();
  table.watchEnd(process, [&] { ends.put(2); });
  table.watchExit(process, 1000, [&](ExitStatus status) { statuses.put(status); });
  CHECK(ends.waitFor(2));
  CHECK(statuses.waitFor(1));
  if (hasPidfdInfo()) CHECK_EQ(statuses.values()[0].exitCode.value_or(-1), 3);
  CHECK_EQ(ends.values().size(), size_t{2});
}

// Runs the test `name` of this program as another user, in a process of its own (a fork of one with threads would not
// do), telling it of `watched`.
pid_t startAsNobody(const char* name, pid_t watched) {
  const std::string number = std::to_string(watched);
  pid_t pid = fork();
  if (pid == 0) {
    dup2(2, 1);  // one line of results is for the program that was started
    setenv("PROCESS_TEST_WATCHED", number.c_str(), 1);
    execl("/proc/self/exe", "tests", "process_test", name, nullptr);
    _exit(100);
  }
  return pid;
}

// In that process: the one to be watched, once we are nobody; 0 in the first process.
pid_t watchedAsNobody() {
  const char* number = std::getenv("PROCESS_TEST_WATCHED");
  if (!number || setresgid(65534, 65534, 65534) != 0 || setresuid(65534, 65534, 65534) != 0) return 0;
  return std::atoi(number);
}

// As another user there is no access to the zombie: it must be "unknown after patience", never "exit code 0".
TEST(zombie_without_access) {
  if (geteuid() != 0) return;
  if (pid_t watched = watchedAsNobody()) {
    Inbox<ExitStatus> statuses;
    ProcessTable table(quiet());
    auto process = table.ofPid(watched);
    REQUIRE(process != nullptr);
    auto started = std::chrono::steady_clock::now();
    table.watchExit(process, 200, [&](ExitStatus status) { statuses.put(status); });
    REQUIRE(statuses.waitFor(1));
    CHECK(!statuses.values()[0].exitCode && !statuses.values()[0].signal);
    CHECK(std::chrono::steady_clock::now() - started >= 200ms);
    return;
  }
  Child child([] { _exit(9); });
  child.release();
  pid_t asNobody = startAsNobody("zombie_without_access", child.pid);
  int status = 0;
  waitpid(asNobody, &status, 0);
  CHECK_EQ(status, 0);
}

TEST(reaped_status_needs_no_access) {
  if (geteuid() != 0 || !hasPidfdInfo()) return;
  if (pid_t watched = watchedAsNobody()) {
    Inbox<ExitStatus> statuses;
    ProcessTable table(quiet());
    auto process = table.ofPid(watched);
    REQUIRE(process != nullptr);
    table.watchExit(process, 5000, [&](ExitStatus status) { statuses.put(status); });
    REQUIRE(statuses.waitFor(1));
    CHECK_EQ(statuses.values()[0].exitCode.value_or(-1), 9);
    return;
  }
  Child child([] { _exit(9); });
  child.release();
  pid_t asNobody = startAsNobody("reaped_status_needs_no_access", child.pid);
  // A zombie until the other process has surely found it; its watch begins before or after the reaping.
  std::this_thread::sleep_for(1000ms);
  child.reap();
  int status = 0;
  waitpid(asNobody, &status, 0);
  CHECK_EQ(status, 0);
}

// The number of an ended process is given to another one (Linux lets root of the pid namespace choose it).
TEST(reused_number_is_another_process) {
  ProcessTable table(quiet());
  pid_t number = 0;
  ProcessPtr first;
  {
    Child child([] {});
    number = child.pid;
    first = table.ofThread(number);
    REQUIRE(first != nullptr);
  }
  CHECK(first->ended());
  struct CloneArguments {
    uint64_t flags, pidfd, childTid, parentTid, exitSignal, stack, stackSize, tls, setTid, setTidSize;
  } arguments{};
  arguments.exitSignal = SIGCHLD;
  arguments.setTid = reinterpret_cast<uint64_t>(&number);
  arguments.setTidSize = 1;
  long pid = syscall(SYS_clone3, &arguments, sizeof arguments);
  if (pid == 0) {
    for (;;) pause();
  }
  if (pid < 0) return;  // not permitted here, or already taken
  CHECK_EQ(pid, static_cast<long>(number));
  auto second = table.ofThread(number);
  REQUIRE(second != nullptr);
  CHECK(second != first);
  CHECK(table.ofPid(number) == second);
  CHECK(first->ended());
  CHECK_EQ(first->currentParent(), 0);
  CHECK(!first->isForkedNotExecedNow());
  CHECK(second->isForkedNotExecedNow());
  kill(number, SIGKILL);
  waitpid(number, nullptr, 0);
}

TEST(a_thousand_watches) {
  constexpr size_t kCount = 1000;
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = std::min<rlim_t>(limit.rlim_max, 8192);
  setrlimit(RLIMIT_NOFILE, &limit);
  size_t before = openDescriptors();
  {
    Inbox<ExitStatus> statuses;
    Inbox<int> ends;
    ProcessTable table(quiet());
    int go[2];
    CHECK_EQ(pipe(go), 0);
    std::vector<pid_t> pids;
    for (size_t i = 0; i < kCount; i++) {
      pid_t pid = fork();
      if (pid == 0) {
        close(go[1]);
        char byte;
        while (read(go[0], &byte, 1) < 0) {
        }
        _exit(static_cast<int>(i % 200));
      }
      pids.push_back(pid);
      auto process = table.ofThread(pid);
      REQUIRE(process != nullptr);
      table.watchEnd(process, [&, i] { ends.put(static_cast<int>(i)); });
      table.watchExit(process, 10000, [&](ExitStatus status) { statuses.put(status); });
    }
    close(go[0]);
    close(go[1]);
    for (pid_t pid : pids) waitpid(pid, nullptr, 0);
    CHECK(ends.waitFor(kCount, 30s));
    CHECK(statuses.waitFor(kCount, 30s));
    CHECK_EQ(ends.values().size(), kCount);
    if (hasPidfdInfo()) {
      long sum = 0;
      for (auto& status : statuses.values()) sum += status.exitCode.value_or(-100000);
      CHECK_EQ(sum, long{199} * 200 / 2 * 5);
    }
  }
  CHECK_EQ(openDescriptors(), before);
}

TEST(watches_added_from_callbacks_and_threads) {
  Inbox<int> ends;
  ProcessTable table(quiet());
  Child child([] {});
  auto process = table.ofPid(child.pid);
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; i++) {
    threads.emplace_back([&] {
      for (int k = 0; k < 100; k++) {
        table.watchEnd(process, [&] { table.watchEnd(process, [&] { ends.put(1); }); });
        table.watchExit(process, 1000, [&](ExitStatus) { ends.put(2); });
        CHECK(table.ofThread(child.pid) == process || process->ended());
      }
    });
  }
  child.release();
  for (auto& thread : threads) thread.join();
  child.reap();
  CHECK(ends.waitFor(800));
  std::this_thread::sleep_for(20ms);
  CHECK_EQ(ends.values().size(), size_t{800});
}

TEST(destroyed_with_watches_pending) {
  std::atomic<int> calls = 0;
  Child child([] {});
  for (int i = 0; i < 50; i++) {
    ProcessTable table(quiet());
    auto process = table.ofPid(child.pid);
    table.watchEnd(process, [&] { calls++; });
    table.watchExit(process, 100000, [&](ExitStatus) { calls++; });
  }
  CHECK_EQ(calls.load(), 0);
}

TEST(environment_variable) {
  Child child([] {
    char* const arguments[] = {const_cast<char*>("sleep"), const_cast<char*>("100"), nullptr};
    char* const environment[] = {const_cast<char*>("A_SITESWAP=no"), const_cast<char*>("SITESWAP=yes=1"),
                                 const_cast<char*>("EMPTY="), nullptr};
    execve("/bin/sleep", arguments, environment);
  });
  ProcessTable table(quiet());
  auto process = table.ofPid(child.pid);
  child.release();
  // The flag falls a little before the new environment is in place.
  for (int i = 0; i < 5000 && !readEnvironmentVariable(child.pid, "EMPTY"); i++) std::this_thread::sleep_for(1ms);
  CHECK_EQ(readEnvironmentVariable(child.pid, "SITESWAP").value_or("?"), "yes=1");
  CHECK_EQ(readEnvironmentVariable(child.pid, "EMPTY").value_or("?"), "");
  CHECK(!readEnvironmentVariable(child.pid, "SITE").has_value());
  CHECK(!readEnvironmentVariable(0x3fffffff, "SITESWAP").has_value());
  kill(child.pid, SIGKILL);
}

}  // namespace
