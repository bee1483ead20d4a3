// siteswap-sandbox: runs one command contained. Started by src/verifier/sandbox.ts; see supervisor.h.
// With --own-view DIR FD -- CMD…: becomes CMD, which sees the FUSE device FD mounted over DIR. Started by
// src/daemon/verification.ts.
// With --own-root DIR -- CMD…: becomes CMD, which sees the own root of its transaction over DIR where that can be had.
// Started by src/cli/commands/run.ts.
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <stdexcept>
#include <string>
#include <vector>

#include "sandbox/namespaces.h"
#include "sandbox/options.h"
#include "sandbox/supervisor.h"

namespace siteswap::sandbox {
namespace {

constexpr int kNotFound = 127;
constexpr int kNotExecutable = 126;

std::vector<char*> wordsOf(std::vector<std::string>& command) {
  std::vector<char*> words;
  for (std::string& word : command) words.push_back(word.data());
  words.push_back(nullptr);
  return words;
}

// What it says and how it ends is as when the command is started without it (src/cli/child.ts).
int runFromOwnRoot(const std::string& directory, std::vector<std::string> command) {
  if (const char* token = getenv("SITESWAP_TRANSACTION"); token != nullptr) bindOwnRoot(directory, token);
  execvp(command[0].c_str(), wordsOf(command).data());
  const int error = errno;
  const std::string why = error == ENOENT ? "command not found" : std::strerror(error);
  const std::string line = "siteswap: " + command[0] + ": " + why + "\n";
  (void)!write(STDERR_FILENO, line.data(), line.size());
  return error == ENOENT ? kNotFound : kNotExecutable;
}

int runInOwnView(const std::string& directory, const std::string& device, std::vector<std::string> command) {
  const int fd = std::stoi(device);
  mountOwnView(directory, fd);
  // Whoever serves it holds it.
  close(fd);
  execv(command[0].c_str(), wordsOf(command).data());
  throw std::runtime_error(command[0] + ": " + std::strerror(errno));
}

}  // namespace
}  // namespace siteswap::sandbox

int main(int argc, char** argv) {
  const std::vector<std::string> arguments(argv + 1, argv + argc);
  try {
    if (arguments == std::vector<std::string>{"--capabilities"}) return siteswap::sandbox::printCapabilities();
    if (arguments.size() > 4 && arguments[0] == "--own-view" && arguments[3] == "--") {
      return siteswap::sandbox::runInOwnView(arguments[1], arguments[2], {arguments.begin() + 4, arguments.end()});
    }
    if (arguments.size() > 3 && arguments[0] == "--own-root" && arguments[2] == "--") {
      return siteswap::sandbox::runFromOwnRoot(arguments[1], {arguments.begin() + 3, arguments.end()});
    }
    return siteswap::sandbox::supervise(siteswap::sandbox::parseOptions(arguments));
  } catch (const std::exception& error) {
    const std::string line = std::string("siteswap-sandbox: ") + error.what() + "\n";
    (void)!write(STDERR_FILENO, line.data(), line.size());
    return 2;
  }
}
