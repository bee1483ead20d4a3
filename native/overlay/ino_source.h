// Inode numbers of this server's start: from a range that the store reserved, so none is ever given out twice.
// A transaction takes them in blocks: the block tells whose a number is.
#pragma once

#include <atomic>
#include <cstdint>

namespace siteswap::overlay {

inline constexpr unsigned kInoBlockBits = 10;

class InoSource {
 public:
  InoSource(uint64_t first, uint64_t count) : next_((first + blockMask()) & ~blockMask()), end_(first + count) {}
  // The first number of a block of 2^kInoBlockBits, or 0 when the range is used up.
  uint64_t takeBlock() {
    const uint64_t first = next_.fetch_add(blockMask() + 1);
    return first + blockMask() < end_ ? first : 0;
  }
  static uint64_t blockOf(uint64_t ino) { return ino >> kInoBlockBits; }

 private:
  static constexpr uint64_t blockMask() { return (uint64_t{1} << kInoBlockBits) - 1; }
  std::atomic<uint64_t> next_;
  const uint64_t end_;
};

}  // namespace siteswap::overlay
