// Builds a manifest file from a tree in memory. Called by: scan (the lower), merge (a commit), tests.
#pragma once

#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "overlay/manifest.h"

namespace siteswap::overlay {

class ManifestWriter {
 public:
  // `entry.parent`, child ranges, string offsets and lengths are filled in by write(); the rest is the caller's.
  // Returns a handle. The first one added is the root; a parent is added before its children.
  uint32_t add(uint32_t parent, std::string_view name, const Entry& entry, std::string_view link,
               std::string_view xattrs);
  // A root entry that is directory `target` of another generation's manifest.
  void addImport(std::string_view name, const Committed& target);
  Entry& entry(uint32_t handle) { return nodes_[handle].entry; }
  uint32_t size() const { return static_cast<uint32_t>(nodes_.size()); }
  uint32_t directoriesIn(uint32_t handle) const;

  struct Header {
    uint64_t generation;
    uint64_t nextIno;
    int64_t maxMtimeNs;
  };
  // Not 0: numbers are given out here, in file order from this one on (`entry.ino` then says which entries share a
  // number: equal non-zero values are hard links of one another). Returns the number after the last one used.
  uint64_t numberDensely(uint64_t firstIno);
  // Writes the file (O_EXCL). Returns 0 or a positive errno. The caller syncs and renames.
  int write(const std::string& path, const Header& header);

 private:
  struct Node {
    Entry entry;
    std::string name, link, xattrs;
    std::vector<uint32_t> children;
    uint32_t position = 0;
  };
  void layOut();

  std::vector<Node> nodes_;
  std::vector<uint32_t> order_;  // handles in file order
  std::vector<uint64_t> importGenerations_;
  std::unordered_map<uint64_t, uint32_t> importIndex_;
  uint64_t denseFirstIno_ = 0;
};

}  // namespace siteswap::overlay
