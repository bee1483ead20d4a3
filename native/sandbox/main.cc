// siteswap-sandbox: runs one command contained. Started by src/verifier/sandbox.ts; see supervisor.h.
#include <unistd.h>

#include <exception>
#include <string>
#include <vector>

#include "sandbox/options.h"
#include "sandbox/supervisor.h"

int main(int argc, char** argv) {
  const std::vector<std::string> arguments(argv + 1, argv + argc);
  try {
    if (arguments == std::vector<std::string>{"--capabilities"}) return siteswap::sandbox::printCapabilities();
    return siteswap::sandbox::supervise(siteswap::sandbox::parseOptions(arguments));
  } catch (const std::exception& error) {
    const std::string line = std::string("siteswap-sandbox: ") + error.what() + "\n";
    (void)!write(STDERR_FILENO, line.data(), line.size());
    return 2;
  }
}
