#include "overlay/xattr.h"

#include <sys/xattr.h>

#include <cstdint>
#include <cstring>
#include <vector>

namespace siteswap::overlay {

std::string encodeXattrs(const Xattrs& xattrs) {
  std::string blob;
  for (const auto& [name, value] : xattrs) {
    const auto valueLen = static_cast<uint32_t>(value.size());
    blob += static_cast<char>(name.size());
    blob.append(reinterpret_cast<const char*>(&valueLen), sizeof valueLen);
    blob += name;
    blob += value;
  }
  return blob;
}

namespace {

// Calls `each(name, value)` until it returns false.
template <class Each>
void forEachXattr(std::string_view blob, Each each) {
  while (blob.size() >= 5) {
    const size_t nameLen = static_cast<unsigned char>(blob[0]);
    uint32_t valueLen;
    std::memcpy(&valueLen, blob.data() + 1, sizeof valueLen);
    if (blob.size() - 5 < nameLen + valueLen) break;
    if (!each(blob.substr(5, nameLen), blob.substr(5 + nameLen, valueLen))) break;
    blob.remove_prefix(5 + nameLen + valueLen);
  }
}

}  // namespace

Xattrs decodeXattrs(std::string_view blob) {
  Xattrs xattrs;
  forEachXattr(blob, [&](std::string_view name, std::string_view value) {
    xattrs.emplace(name, value);
    return true;
  });
  return xattrs;
}

std::optional<std::string_view> findXattr(std::string_view blob, std::string_view name) {
  std::optional<std::string_view> found;
  forEachXattr(blob, [&](std::string_view each, std::string_view value) {
    if (each == name) found = value;
    return !found;
  });
  return found;
}

Xattrs readXattrs(const std::string& procPath) {
  Xattrs xattrs;
  ssize_t listed = ::llistxattr(procPath.c_str(), nullptr, 0);
  if (listed <= 0) return xattrs;
  std::vector<char> names(static_cast<size_t>(listed));
  listed = ::llistxattr(procPath.c_str(), names.data(), names.size());
  for (const char* name = names.data(); listed > 0 && name < names.data() + listed; name += std::strlen(name) + 1) {
    const ssize_t length = ::lgetxattr(procPath.c_str(), name, nullptr, 0);
    if (length < 0) continue;
    std::string value(static_cast<size_t>(length), '\0');
    const ssize_t got = ::lgetxattr(procPath.c_str(), name, value.data(), value.size());
    if (got < 0) continue;
    value.resize(static_cast<size_t>(got));
    xattrs.emplace(name, std::move(value));
  }
  return xattrs;
}

}  // namespace siteswap::overlay
