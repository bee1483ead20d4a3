#include "overlay/neighbours.h"

#include <sys/stat.h>

#include <algorithm>
#include <new>

namespace siteswap::overlay {

void Neighbours::note(const Committed& file) {
  const Committed node{file.manifest, file.entry().parent};
  const uint32_t children = node.entry().childCount;
  std::lock_guard lock(mutex_);
  auto at = std::find_if(latest_.begin(), latest_.end(), [&](const Directory& each) { return each.node == node; });
  if (at == latest_.end()) {
    const uint32_t position = file.index - node.entry().firstChild;
    latest_.push_front({.node = node, .next = (position + 1) % children, .left = children - 1, .count = kFirst});
    if (latest_.size() > kDirectories) latest_.pop_back();
    at = latest_.begin();
  } else {
    latest_.splice(latest_.begin(), latest_, at);
  }
  Directory& directory = *at;
  const uint32_t count = std::min(directory.count, directory.left);
  if (directory.isRunning || count == 0 || running_ == kRunning) return;
  if (!post_([this, node, from = directory.next, count] { fetch(node, from, count); })) return;
  directory.isRunning = true;
  ++running_;
  directory.next = (directory.next + count) % children;
  directory.left -= count;
  directory.count = std::min(directory.count * 2, kMost);
}

void Neighbours::fetch(const Committed& directory, uint32_t from, uint32_t count) {
  const uint32_t children = directory.entry().childCount;
  for (uint32_t i = 0; i < count; ++i) {
    const Committed child = directory.childAt((from + i) % children);
    const Entry& e = child.entry();
    if (!S_ISREG(e.mode) || e.size == 0 || e.size > kMostBytes) continue;
    try {
      fetch_(child);
    } catch (const std::bad_alloc&) {
      break;
    }
  }
  std::lock_guard lock(mutex_);
  --running_;
  for (Directory& each : latest_) {
    if (each.node == directory) each.isRunning = false;
  }
}

}  // namespace siteswap::overlay
