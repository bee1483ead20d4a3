// One variable out of /proc/<pid>/environ: what the process was started with, not what it set since.

#include <algorithm>
#include <string_view>

#include "process/proc_files.h"
#include "process/process.h"

namespace siteswap::process {

// Far above what exec accepts under any usual stack limit.
constexpr size_t kMaxEnvironmentBytes = 64 * 1024 * 1024;

std::optional<std::string> readEnvironmentVariable(pid_t pid, const std::string& name) {
  auto environment = readProcFile(pid, "environ", kMaxEnvironmentBytes);
  if (!environment) return std::nullopt;
  const std::string key = name + "=";
  for (std::string_view rest = *environment; !rest.empty();) {
    size_t end = std::min(rest.find('\0'), rest.size());
    std::string_view variable = rest.substr(0, end);
    if (variable.starts_with(key)) return std::string(variable.substr(key.size()));
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  return std::nullopt;
}

}  // namespace siteswap::process
