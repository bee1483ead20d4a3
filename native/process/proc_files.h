// What /proc tells about a process: pure parsers of the file formats, and the read of a small file.
// Used by identity.cc and watch.cc. Parsers answer nothing for text that no kernel writes.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace siteswap::process {

// PF_FORKNOEXEC of linux/sched.h: forked, and has not called exec since.
constexpr uint64_t kForkedNotExeced = 0x40;
constexpr uint64_t kKernelThread = 0x200000;

// /proc/<pid>/stat, see proc_pid_stat(5).
struct Stat {
  pid_t pid;
  char state;
  pid_t parentPid;
  uint64_t flags;
  uint64_t startTicks;
  uint64_t startCode, endCode, startStack, startData, endData, startBrk;  // 0 (startCode, endCode: 1) when not for us
  int exitCode;  // wait(2) format; 0 unless a zombie that we have ptrace access to
};

// /proc/<tid>/status.
struct Status {
  pid_t threadGroup;
  uid_t uid;  // real
};

std::optional<Stat> parseStat(std::string_view text);
std::optional<Status> parseStatus(std::string_view text);

// The whole file, at most `limitBytes` of it; nothing when it can't be opened or the process went away.
std::optional<std::string> readProcFile(pid_t id, const char* name, size_t limitBytes = 16 * 1024);

std::optional<Stat> readStat(pid_t pid);
std::optional<Status> readStatus(pid_t tid);
// Is `tid` one of the threads of `pid`?
bool isThreadOf(pid_t tid, pid_t pid);

}  // namespace siteswap::process
