// The sandbox's parts, and a few runs of the whole in a process of its own. What it holds back is tested in TypeScript
// (test/unit/verifier-sandbox.test.ts), with interpreters and as other users.
#include <dirent.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <sched.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "check.h"
#include "sandbox/kept_output.h"
#include "sandbox/options.h"
#include "sandbox/scratch.h"
#include "sandbox/supervisor.h"

namespace {

using siteswap::sandbox::emptyDirectory;
using siteswap::sandbox::KeptOutput;
using siteswap::sandbox::Options;
using siteswap::sandbox::parseOptions;
using siteswap::sandbox::supervise;

const std::vector<std::string> kNumbers = {"--uid",          "0",    "--gid",       "0",   "--time-ms",      "1000",
                                           "--memory-bytes", "1000", "--processes", "100", "--output-bytes", "1000"};

std::vector<std::string> with(std::vector<std::string> arguments, const std::vector<std::string>& more) {
  arguments.insert(arguments.end(), more.begin(), more.end());
  return arguments;
}

bool refused(const std::vector<std::string>& arguments) {
  try {
    parseOptions(arguments);
    return false;
  } catch (const std::invalid_argument&) {
    return true;
  }
}

std::string temporaryDirectory() {
  std::string path = std::filesystem::temp_directory_path() / "siteswap-sandbox-native-XXXXXX";
  return mkdtemp(path.data()) == nullptr ? "" : path;
}

struct Run {
  int exitCode;
  std::string output, result;
};

std::string readToEnd(int fd) {
  std::string text;
  char chunk[4096];
  for (ssize_t size; (size = read(fd, chunk, sizeof chunk)) > 0;) text.append(chunk, static_cast<size_t>(size));
  close(fd);
  return text;
}

constexpr int kNotPrepared = 98;

// `go`: what is written to the supervisor before its descriptor 0 ends. `prepare`: done first in the supervisor's
// process; when it can't be, the exit code is kNotPrepared.
Run run(Options options, const std::vector<std::string>& command, bool keepOpen, const std::string& go,
        bool (*prepare)() = nullptr) {
  options.command = command;
  int control[2], printed[2], results[2];
  if (pipe(control) != 0 || pipe(printed) != 0 || pipe(results) != 0) std::abort();
  const pid_t child = fork();
  if (child == 0) {
    for (const int fd : {control[1], printed[0], results[0]}) close(fd);
    // Out of the way of the numbers that they are to have.
    const int in = fcntl(control[0], F_DUPFD, 100), out = fcntl(printed[1], F_DUPFD, 100),
              result = fcntl(results[1], F_DUPFD, 100);
    dup2(in, 0);
    dup2(out, 1);
    dup2(result, 3);
    if (prepare != nullptr && !prepare()) _exit(kNotPrepared);
    try {
      _exit(supervise(options));
    } catch (const std::exception& error) {
      _exit(99);
    }
  }
  for (const int fd : {control[0], printed[1], results[1]}) close(fd);
  (void)!write(control[1], go.data(), go.size());
  if (!keepOpen) close(control[1]);
  Run outcome;
  outcome.output = readToEnd(printed[0]);
  outcome.result = readToEnd(results[0]);
  int status = 0;
  waitpid(child, &status, 0);
  if (keepOpen) close(control[1]);
  outcome.exitCode = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  return outcome;
}

Options optionsIn(const std::string& directory) {
  Options options;
  options.uid = getuid();
  options.gid = getgid();
  options.timeMs = 20'000;
  options.memoryBytes = uint64_t{1} << 46;  // a sanitizer's own maps count, and are larger than any real limit
  options.processes = 100;
  options.outputBytes = 10'000;
  options.scratch = directory + "/scratch";
  options.environment = {"PATH=/usr/bin:/bin"};
  return options;
}

bool writeProcFile(const char* path, const std::string& text) {
  const int fd = open(path, O_WRONLY | O_CLOEXEC);
  const bool done = fd >= 0 && write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size());
  close(fd);
  return done;
}

// Root has groups to lose then; others have those that they have.
bool haveGroups() {
  const gid_t some = 4711;
  return geteuid() != 0 || setgroups(1, &some) == 0;
}

// As `unshare --user --map-root-user` does.
bool enterUserNamespace() {
  const std::string uid = std::to_string(getuid()), gid = std::to_string(getgid());
  return haveGroups() && unshare(CLONE_NEWUSER) == 0 && writeProcFile("/proc/self/setgroups", "deny") &&
         writeProcFile("/proc/self/uid_map", "0 " + uid + " 1") &&
         writeProcFile("/proc/self/gid_map", "0 " + gid + " 1");
}

bool loseTheRightToDropGroups() {
  __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
  __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {};
  if (geteuid() != 0 || !haveGroups() || syscall(SYS_capget, &header, data) != 0) return false;
  data[0].permitted &= ~(1U << CAP_SETGID);
  data[0].effective = data[0].permitted;
  return syscall(SYS_capset, &header, data) == 0;
}

bool contains(const std::string& text, const char* part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST(options) {
  const auto options = parseOptions(
      with(kNumbers, {"--scratch", "/tmp/x", "--env", "A=1", "--env", "B=", "--", "/bin/echo", "--uid", "5"}));
  CHECK_EQ(options.timeMs, 1000);
  CHECK_EQ(options.processes, 100U);
  CHECK_EQ(options.scratch, "/tmp/x");
  CHECK(options.environment == (std::vector<std::string>{"A=1", "B="}));
  CHECK(options.command == (std::vector<std::string>{"/bin/echo", "--uid", "5"}));
}

TEST(options_refused) {
  const std::vector<std::string> end = {"--scratch", "/tmp/x", "--", "true"};
  CHECK(!refused(with(kNumbers, end)));
  CHECK(refused({}));
  CHECK(refused(end));
  CHECK(refused(with(kNumbers, {"--scratch", "/tmp/x"})));
  CHECK(refused(with(kNumbers, {"--scratch", "/tmp/x", "--"})));
  CHECK(refused(with(kNumbers, {"--scratch", "relative", "--", "true"})));
  CHECK(refused(with(kNumbers, {"--scratch"})));
  for (const char* number : {"", "-1", "1x", "4294967295", "4294967296", "99999999999999999999"}) {
    CHECK(refused(with(kNumbers, with({"--uid", number}, end))));
  }
  CHECK(refused(with(kNumbers, with({"--time-ms", "0"}, end))));
  CHECK(refused(with(kNumbers, with({"--other", "1"}, end))));
}

TEST(kept_output) {
  std::mt19937 random(static_cast<unsigned>(check::seed()));
  for (int round = 0; round < 300; ++round) {
    const size_t limit = 1 + random() % 64;
    KeptOutput kept(limit);
    std::string all;
    for (int part = static_cast<int>(random() % 40); part > 0; --part) {
      const std::string text(random() % 20, static_cast<char>('a' + random() % 26));
      kept.append(text);
      all += text;
    }
    std::string expected = all;
    if (all.size() > limit) {
      const size_t head = limit / 2, tail = limit - head;
      expected = all.substr(0, head) + "\n[... " + std::to_string(all.size() - limit) + " bytes left out ...]\n" +
                 all.substr(all.size() - tail);
    }
    CHECK_EQ(kept.text(), expected);
  }
}

TEST(a_deep_directory_is_emptied_without_leaving_it) {
  const std::string top = temporaryDirectory();
  REQUIRE(!top.empty());
  std::filesystem::create_directory(top + "/outside");
  close(creat((top + "/outside/kept").c_str(), 0600));
  std::filesystem::create_directory(top + "/inside");
  const int inside = open((top + "/inside").c_str(), O_RDONLY | O_DIRECTORY);
  int at = dup(inside);
  // Deeper than a path may be long, and than descriptors may be open.
  for (int depth = 0; depth < 3000; ++depth) {
    CHECK_EQ(mkdirat(at, "d", 0700), 0);
    if (depth % 100 == 0) CHECK_EQ(symlinkat("../../outside", at, "link"), 0);
    close(openat(at, "file", O_CREAT | O_WRONLY, 0));
    const int below = openat(at, "d", O_RDONLY | O_DIRECTORY);
    REQUIRE(below >= 0);
    if (depth % 7 == 0) fchmod(at, 0);
    close(at);
    at = below;
  }
  close(at);
  CHECK_EQ(symlinkat((top + "/outside").c_str(), inside, "absolute"), 0);
  // An own directory below can have any name that is wanted for another one.
  CHECK_EQ(mkdirat(inside, ".moved-0", 0700), 0);
  CHECK(emptyDirectory(inside));
  close(inside);
  CHECK(std::filesystem::is_empty(top + "/inside"));
  CHECK(std::filesystem::exists(top + "/outside/kept"));
  std::filesystem::remove_all(top);
}

TEST(a_command_runs) {
  const std::string top = temporaryDirectory();
  const Run told = run(optionsIn(top), {"sh", "-c", "echo hello; echo there >&2; echo x >file; exit 3"}, true, "g");
  CHECK_EQ(told.exitCode, 0);
  CHECK_EQ(told.output, "hello\nthere\n");
  CHECK(contains(told.result, "{\"ready\":true}\n"));
  CHECK(contains(told.result, "\"kind\":\"exited\",\"code\":3"));
  CHECK(std::filesystem::is_empty(top));
  std::filesystem::remove_all(top);
}

TEST(a_command_runs_where_groups_can_not_be_dropped) {
  const std::string top = temporaryDirectory();
  Options options = optionsIn(top);
  options.uid = options.gid = 0;
  const Run told = run(options, {"sh", "-c", "grep CapEff /proc/self/status"}, true, "g", enterUserNamespace);
  std::filesystem::remove_all(top);
  if (told.exitCode == kNotPrepared) return;  // the host lets nobody make a user namespace
  CHECK(contains(told.result, "\"kind\":\"exited\",\"code\":0"));
  // Of root's rights it has the one to read.
  CHECK_EQ(told.output, "CapEff:\t0000000000000004\n");
}

TEST(groups_that_are_only_not_dropped_are_the_sandbox_s_failure) {
  const std::string top = temporaryDirectory();
  const Run told = run(optionsIn(top), {"echo", "hello"}, true, "g", loseTheRightToDropGroups);
  std::filesystem::remove_all(top);
  if (told.exitCode == kNotPrepared) return;  // only root has that right
  CHECK_EQ(told.output, "");
  CHECK(contains(told.result, "\"kind\":\"sandbox-failed\""));
  CHECK(contains(told.result, "\"reason\":\"setgroups: Operation not permitted\""));
}

TEST(it_is_not_started_without_the_word) {
  const std::string top = temporaryDirectory();
  const Run told = run(optionsIn(top), {"sh", "-c", "echo hello"}, false, "");
  CHECK_EQ(told.exitCode, 1);
  CHECK_EQ(told.output, "");
  CHECK_EQ(told.result, "{\"ready\":true}\n");
  CHECK(std::filesystem::is_empty(top));
  std::filesystem::remove_all(top);
}

TEST(it_ends_with_the_one_that_started_it) {
  const std::string top = temporaryDirectory();
  // Without an end of its own it would take longer than this test may.
  const Run told = run(optionsIn(top), {"sh", "-c", "sleep 1000 & setsid sleep 1000 & wait"}, false, "g");
  CHECK_EQ(told.exitCode, 1);
  CHECK_EQ(told.result, "{\"ready\":true}\n");
  CHECK(std::filesystem::is_empty(top));
  std::filesystem::remove_all(top);
}

TEST(too_many_processes_and_too_much_time) {
  const std::string top = temporaryDirectory();
  Options options = optionsIn(top);
  options.processes = 4;
  const Run many = run(options, {"sh", "-c", "for i in 1 2 3 4 5 6; do setsid sleep 1000 & done; wait"}, true, "g");
  CHECK(contains(many.result, "\"kind\":\"too-many-processes\""));
  options.timeMs = 200;
  const Run slow = run(options, {"sleep", "1000"}, true, "g");
  CHECK(contains(slow.result, "\"kind\":\"timed-out\""));
  CHECK(std::filesystem::is_empty(top));
  std::filesystem::remove_all(top);
}

TEST(what_can_not_be_started_says_why) {
  const std::string top = temporaryDirectory();
  const Run missing = run(optionsIn(top), {"/nowhere \"quoted\"\n"}, true, "g");
  CHECK_EQ(missing.exitCode, 0);
  CHECK(contains(
      missing.result,
      "\"kind\":\"failed-to-start\",\"code\":null,\"signal\":null,\"reason\":\"/nowhere \\\"quoted\\\"?: No such"));
  std::filesystem::remove_all(top);
}
