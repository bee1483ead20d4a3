#include "overlay/manifest_writer.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "sys/unique_fd.h"

namespace siteswap::overlay {

uint32_t ManifestWriter::add(uint32_t parent, std::string_view name, const Entry& entry, std::string_view link,
                             std::string_view xattrs) {
  const auto handle = static_cast<uint32_t>(nodes_.size());
  Node node;
  node.entry = entry;
  node.entry.flags = static_cast<uint16_t>(entry.flags & ~kImported);
  node.entry.firstChild = node.entry.childCount = node.entry.import = 0;
  node.name = name;
  node.link = link;
  node.xattrs = xattrs;
  nodes_.push_back(std::move(node));
  if (handle != 0) nodes_[parent].children.push_back(handle);
  return handle;
}

void ManifestWriter::addImport(std::string_view name, const Committed& target) {
  const uint64_t generation = target.manifest->generation();
  auto [at, isNew] = importIndex_.try_emplace(generation, static_cast<uint32_t>(importGenerations_.size()));
  if (isNew) importGenerations_.push_back(generation);
  const uint32_t handle = add(0, name, target.entry(), {}, {});
  Entry& e = nodes_[handle].entry;
  e.flags = kImported;
  e.import = at->second;
  e.firstChild = target.index;
}

uint32_t ManifestWriter::directoriesIn(uint32_t handle) const {
  uint32_t count = 0;
  for (uint32_t child : nodes_[handle].children) count += S_ISDIR(nodes_[child].entry.mode) ? 1 : 0;
  return count;
}

void ManifestWriter::layOut() {
  if (!order_.empty()) return;
  order_.reserve(nodes_.size());
  order_.push_back(0);
  // Breadth first: the children of each directory become contiguous, and lie behind it.
  for (size_t next = 0; next < order_.size(); ++next) {
    Node& node = nodes_[order_[next]];
    node.position = static_cast<uint32_t>(next);
    std::sort(node.children.begin(), node.children.end(),
              [&](uint32_t a, uint32_t b) { return nodes_[a].name < nodes_[b].name; });
    if (!node.children.empty()) node.entry.firstChild = static_cast<uint32_t>(order_.size());
    if ((node.entry.flags & kImported) == 0) node.entry.childCount = static_cast<uint32_t>(node.children.size());
    for (uint32_t child : node.children) {
      nodes_[child].entry.parent = node.position;
      order_.push_back(child);
    }
  }
}

uint64_t ManifestWriter::numberDensely(uint64_t firstIno) {
  layOut();
  denseFirstIno_ = firstIno;
  std::unordered_map<uint64_t, uint64_t> numberOfGroup;
  for (size_t i = 1; i < order_.size(); ++i) {
    Entry& e = nodes_[order_[i]].entry;
    const uint64_t own = firstIno + i;
    e.ino = e.ino == 0 ? own : numberOfGroup.try_emplace(e.ino, own).first->second;
  }
  nodes_[0].entry.ino = kRootIno;
  return firstIno + order_.size();
}

int ManifestWriter::write(const std::string& path, const Header& wanted) {
  layOut();
  std::string strings;
  std::vector<Entry> entries;
  std::vector<InoIndexRecord> index;
  entries.reserve(order_.size());
  const auto put = [&](const std::string& s) {
    const auto offset = static_cast<uint32_t>(strings.size());
    strings += s;
    return offset;
  };
  for (uint32_t handle : order_) {
    Node& node = nodes_[handle];
    Entry e = node.entry;
    e.name = put(node.name);
    e.nameLen = static_cast<uint16_t>(node.name.size());
    e.link = put(node.link);
    e.linkLen = static_cast<uint32_t>(node.link.size());
    e.xattrs = put(node.xattrs);
    e.xattrsLen = static_cast<uint32_t>(node.xattrs.size());
    if (denseFirstIno_ == 0 && (e.flags & kImported) == 0) index.push_back({e.ino, entries.size()});
    entries.push_back(e);
  }
  if (strings.size() >= (uint64_t{1} << 32)) return EFBIG;
  std::sort(index.begin(), index.end(), [](const InoIndexRecord& a, const InoIndexRecord& b) {
    return a.ino != b.ino ? a.ino < b.ino : a.index < b.index;
  });
  index.erase(std::unique(index.begin(), index.end(),
                          [](const InoIndexRecord& a, const InoIndexRecord& b) { return a.ino == b.ino; }),
              index.end());

  ManifestHeader header{};
  std::memcpy(header.magic, "SITESWAP", 8);
  header.version = kManifestVersion;
  header.generation = wanted.generation;
  header.entryCount = entries.size();
  header.importCount = importGenerations_.size();
  header.inoIndexCount = index.size();
  header.stringsSize = strings.size();
  header.denseFirstIno = denseFirstIno_;
  header.nextIno = wanted.nextIno;
  header.maxMtimeNs = wanted.maxMtimeNs;

  std::string body;
  const auto append = [&](const void* data, size_t sizeBytes) {
    body.append(static_cast<const char*>(data), sizeBytes);
  };
  body.reserve(entries.size() * sizeof(Entry) + index.size() * sizeof(InoIndexRecord) + strings.size() + 64);
  append(entries.data(), entries.size() * sizeof(Entry));
  append(importGenerations_.data(), importGenerations_.size() * sizeof(ImportRecord));
  append(index.data(), index.size() * sizeof(InoIndexRecord));
  append(strings.data(), strings.size());
  header.fileSize = sizeof header + body.size();
  header.checksum = xxh64(body.data(), body.size(), xxh64(&header, sizeof header, 0));

  sys::UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (!fd) return errno;
  const auto writeAll = [&](const char* data, size_t sizeBytes) {
    while (sizeBytes > 0) {
      const ssize_t n = ::write(fd.get(), data, sizeBytes);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return errno;
      data += n;
      sizeBytes -= static_cast<size_t>(n);
    }
    return 0;
  };
  if (int e = writeAll(reinterpret_cast<const char*>(&header), sizeof header)) return e;
  return writeAll(body.data(), body.size());
}

}  // namespace siteswap::overlay
