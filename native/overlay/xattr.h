// Extended attributes as one blob: a sequence of { u8 nameLen; u32 valueLen; name; value }. In manifests and journals.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>

namespace siteswap::overlay {

using Xattrs = std::map<std::string, std::string>;

std::string encodeXattrs(const Xattrs& xattrs);
// What is not well formed ends the list: a damaged blob gives fewer attributes, never a read out of bounds.
Xattrs decodeXattrs(std::string_view blob);
// The value of one of them, in the blob.
std::optional<std::string_view> findXattr(std::string_view blob, std::string_view name);
// All extended attributes of an open file (O_PATH is not enough) or of a path; without what may not be read.
Xattrs readXattrs(const std::string& procPath);

}  // namespace siteswap::overlay
