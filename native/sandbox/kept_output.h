// What CMD printed: all of it, or its beginning and its end. Memory is bounded however much is printed.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace siteswap::sandbox {

class KeptOutput {
 public:
  explicit KeptOutput(size_t limitBytes) : headLimit_(limitBytes / 2), tailLimit_(limitBytes - limitBytes / 2) {}

  void append(std::string_view text) {
    const size_t toHead = std::min(headLimit_ - head_.size(), text.size());
    head_.append(text.substr(0, toHead));
    text.remove_prefix(toHead);
    tail_.append(text);
    // Now and then, so that many small pieces cost no more than a few large ones.
    if (tail_.size() >= 2 * tailLimit_) trim();
  }

  std::string text() {
    trim();
    if (leftOut_ == 0) return head_ + tail_;
    return head_ + "\n[... " + std::to_string(leftOut_) + " bytes left out ...]\n" + tail_;
  }

 private:
  void trim() {
    if (tail_.size() <= tailLimit_) return;
    const size_t excess = tail_.size() - tailLimit_;
    tail_.erase(0, excess);
    leftOut_ += excess;
  }

  size_t headLimit_, tailLimit_;
  std::string head_, tail_;
  uint64_t leftOut_ = 0;
};

}  // namespace siteswap::sandbox
