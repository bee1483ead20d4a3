// siteswap-sandbox: runs one command contained. Started by src/verifier/sandbox.ts; see supervisor.h.
// With --own-view DIR FD -- CMD…: becomes CMD, which sees the FUSE device FD mounted over DIR. Started by
// src/daemon/verification.ts.
#include <unistd.h>

#include <cerrno>
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

int runInOwnView(const std::string& directory, const std::string& device, std::vector<std::string> command) {
  const int fd = std::stoi(device);
  mountOwnView(directory, fd);
  // Whoever serves it holds it.
  close(fd);
  std::vector<char*> words;
  for (std::string& word : command) words.push_back(word.data());
  words.push_back(nullptr);
  execv(words[0], words.data());
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
    return siteswap::sandbox::supervise(siteswap::sandbox::parseOptions(arguments));
  } catch (const std::exception& error) {
    const std::string line = std::string("siteswap-sandbox: ") + error.what() + "\n";
    (void)!write(STDERR_FILENO, line.data(), line.size());
    return 2;
  }
}
