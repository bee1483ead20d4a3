#include "sandbox/options.h"

#include <charconv>
#include <limits>
#include <stdexcept>

namespace siteswap::sandbox {
namespace {

template <class T>
T parseNumber(const std::string& option, const std::string& text) {
  T value{};
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < 0) {
    throw std::invalid_argument(option + " needs a number, not '" + text + "'");
  }
  return value;
}

uint32_t parseId(const std::string& option, const std::string& text) {
  // -1 means "leave it as it is" to setresuid(2).
  const auto id = parseNumber<uint32_t>(option, text);
  if (id == std::numeric_limits<uint32_t>::max()) throw std::invalid_argument(option + ": no such id");
  return id;
}

}  // namespace

Options parseOptions(const std::vector<std::string>& arguments) {
  Options options;
  bool hasUid = false, hasGid = false;
  size_t at = 0;
  for (; at < arguments.size() && arguments[at] != "--"; at += 2) {
    const std::string& name = arguments[at];
    if (at + 1 == arguments.size()) throw std::invalid_argument(name + " needs a value");
    const std::string& value = arguments[at + 1];
    if (name == "--uid") {
      options.uid = parseId(name, value);
      hasUid = true;
    } else if (name == "--gid") {
      options.gid = parseId(name, value);
      hasGid = true;
    } else if (name == "--time-ms") {
      options.timeMs = parseNumber<int64_t>(name, value);
    } else if (name == "--memory-bytes") {
      options.memoryBytes = parseNumber<uint64_t>(name, value);
    } else if (name == "--processes") {
      options.processes = parseNumber<size_t>(name, value);
    } else if (name == "--output-bytes") {
      options.outputBytes = parseNumber<size_t>(name, value);
    } else if (name == "--scratch") {
      options.scratch = value;
    } else if (name == "--tree") {
      options.tree = value;
    } else if (name == "--env") {
      options.environment.push_back(value);
    } else {
      throw std::invalid_argument("no such option: " + name);
    }
  }
  if (at < arguments.size()) options.command.assign(arguments.begin() + static_cast<long>(at) + 1, arguments.end());
  if (options.command.empty()) throw std::invalid_argument("there is no command");
  // Nobody becomes root, and nothing is unlimited, by leaving out an option.
  if (!hasUid || !hasGid) throw std::invalid_argument("--uid and --gid are needed");
  if (options.timeMs == 0 || options.memoryBytes == 0 || options.processes == 0 || options.outputBytes == 0) {
    throw std::invalid_argument("all limits are needed, and none may be 0");
  }
  if (!options.scratch.starts_with('/')) throw std::invalid_argument("--scratch needs an absolute path");
  return options;
}

}  // namespace siteswap::sandbox
