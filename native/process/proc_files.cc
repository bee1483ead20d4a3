#include "process/proc_files.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdio>

namespace siteswap::process {
namespace {

// Takes the next number separated by spaces or tabs off the front of `text`.
template <class T>
bool takeNumber(std::string_view& text, T& value) {
  size_t start = text.find_first_not_of(" \t");
  if (start == std::string_view::npos) return false;
  text.remove_prefix(start);
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc()) return false;
  text.remove_prefix(static_cast<size_t>(end - text.data()));
  return text.empty() || text[0] == ' ' || text[0] == '\t' || text[0] == '\n';
}

bool skipFields(std::string_view& text, int count) {
  for (int i = 0; i < count; i++) {
    size_t start = text.find_first_not_of(' ');
    if (start == std::string_view::npos) return false;
    size_t end = text.find(' ', start);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end);
  }
  return true;
}

std::optional<std::string_view> lineOf(std::string_view text, std::string_view key) {
  while (!text.empty()) {
    size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    if (line.starts_with(key)) return line.substr(key.size());
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return std::nullopt;
}

}  // namespace

std::optional<Stat> parseStat(std::string_view text) {
  Stat stat{};
  if (!takeNumber(text, stat.pid)) return std::nullopt;
  // The command stands in parentheses and may hold any byte, ") " too; no later field holds a parenthesis.
  size_t close = text.rfind(')');
  if (close == std::string_view::npos || text.size() < close + 4) return std::nullopt;
  stat.state = text[close + 2];
  text.remove_prefix(close + 3);
  // Fields by their number in proc_pid_stat(5): 4 ppid, 9 flags, 22 starttime, 26 startcode, 27 endcode, 28 startstack,
  // 45 start_data, 46 end_data, 47 start_brk, 52 exit_code.
  if (!takeNumber(text, stat.parentPid)) return std::nullopt;
  if (!skipFields(text, 4) || !takeNumber(text, stat.flags)) return std::nullopt;
  if (!skipFields(text, 12) || !takeNumber(text, stat.startTicks)) return std::nullopt;
  if (!skipFields(text, 3) || !takeNumber(text, stat.startCode)) return std::nullopt;
  if (!takeNumber(text, stat.endCode) || !takeNumber(text, stat.startStack)) return std::nullopt;
  if (!skipFields(text, 16) || !takeNumber(text, stat.startData)) return std::nullopt;
  if (!takeNumber(text, stat.endData) || !takeNumber(text, stat.startBrk)) return std::nullopt;
  if (!skipFields(text, 4) || !takeNumber(text, stat.exitCode)) return std::nullopt;
  return stat;
}

std::optional<Status> parseStatus(std::string_view text) {
  // The kernel escapes newlines in the "Name:" line, so a command can't forge a line.
  Status status{};
  auto group = lineOf(text, "Tgid:");
  auto uids = lineOf(text, "Uid:");
  if (!group || !uids) return std::nullopt;
  if (!takeNumber(*group, status.threadGroup) || !takeNumber(*uids, status.uid)) return std::nullopt;
  return status;
}

std::optional<std::string> readProcFile(pid_t id, const char* name, size_t limitBytes) {
  char path[64];
  std::snprintf(path, sizeof path, "/proc/%d/%s", id, name);
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return std::nullopt;
  std::string text;
  bool failed = false;
  while (text.size() < limitBytes) {
    char chunk[4096];
    ssize_t got = read(fd, chunk, std::min(sizeof chunk, limitBytes - text.size()));
    if (got < 0 && errno == EINTR) continue;
    failed = got < 0;
    if (got <= 0) break;
    text.append(chunk, static_cast<size_t>(got));
  }
  close(fd);
  if (failed) return std::nullopt;
  return text;
}

std::optional<Stat> readStat(pid_t pid) {
  auto text = readProcFile(pid, "stat");
  return text ? parseStat(*text) : std::nullopt;
}

std::optional<Status> readStatus(pid_t tid) {
  auto text = readProcFile(tid, "status");
  return text ? parseStatus(*text) : std::nullopt;
}

bool isThreadOf(pid_t tid, pid_t pid) {
  char path[64];
  std::snprintf(path, sizeof path, "/proc/%d/task/%d", pid, tid);
  return access(path, F_OK) == 0;
}

}  // namespace siteswap::process
