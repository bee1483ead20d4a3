// Time, in nanoseconds.
#pragma once

#include <time.h>

#include <cstdint>

namespace siteswap::sys {

constexpr int64_t kNsPerSecond = 1'000'000'000;

constexpr int64_t toNs(const timespec& t) {
  return int64_t{t.tv_sec} * kNsPerSecond + t.tv_nsec;
}

inline int64_t clockNs(clockid_t clock) {
  timespec t;
  ::clock_gettime(clock, &t);
  return toNs(t);
}

// Since 1970, as file times are.
inline int64_t realtimeNs() {
  return clockNs(CLOCK_REALTIME);
}
// For intervals: never set back.
inline int64_t monotonicNs() {
  return clockNs(CLOCK_MONOTONIC);
}

}  // namespace siteswap::sys
