// The kernel's end of a FUSE connection, over a socket pair: what the device would deliver is sent as one message, and
// answers and notifications come back as one message each. So INIT, malformed packets, interrupts and every way to stop
// are tests without root or a mount. May be used from several threads.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstring>
#include <map>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "fuse/protocol.h"

namespace siteswap::test {

using Bytes = std::vector<std::byte>;

// The bytes of any plain structs and of strings, one after the other. Strings get no NUL: write it ("name\0"s).
inline void append(Bytes& out, const void* data, size_t size) {
  const auto* bytes = static_cast<const std::byte*>(data);
  out.insert(out.end(), bytes, bytes + size);
}
template <class... Parts>
Bytes bytesOf(const Parts&... parts) {
  Bytes out;
  const auto one = [&out](const auto& part) {
    using T = std::decay_t<decltype(part)>;
    if constexpr (std::is_same_v<T, std::string> || std::is_same_v<T, Bytes>) {
      append(out, part.data(), part.size());
    } else {
      static_assert(std::is_trivially_copyable_v<T>);
      append(out, &part, sizeof part);
    }
  };
  (one(parts), ...);
  return out;
}
// What a LOOKUP asks.
inline Bytes lookupOf(const std::string& name) {
  return bytesOf(name, '\0');
}

struct Reply {
  uint64_t unique = 0;
  int error = 0;  // as on the wire: negated errno; a notification's code when unique is 0
  Bytes body;
  template <class T>
  T as() const {
    T value{};
    std::memcpy(&value, body.data(), std::min(body.size(), sizeof value));
    return value;
  }
};

class FakeKernel {
 public:
  FakeKernel();
  ~FakeKernel();

  // What the Session takes for /dev/fuse.
  int deviceFd() const { return device_; }

  // One message, as it is.
  void sendRaw(const Bytes& packet);
  // One WRITE's data at most: 1 MiB, or less where net.core.wmem_max is small.
  size_t largestBody() const;
  // A header before `body`; the unique is the next even number, unless given.
  uint64_t send(uint32_t opcode, uint64_t nodeid, const Bytes& body, std::optional<uint64_t> unique = {},
                uint32_t tid = 0);
  // The answer to `unique`; nothing when none comes in time.
  std::optional<Reply> wait(uint64_t unique, int timeoutMs = 20'000);
  // send() and wait(); an answer that never comes is an error of -ETIMEDOUT.
  Reply ask(uint32_t opcode, uint64_t nodeid, const Bytes& body);
  // The next notification in order.
  std::optional<Reply> waitNotification(int timeoutMs = 20'000);
  // Answers that came so far and nobody waited for.
  size_t unclaimed();

  // INIT as a kernel of 7.<minor> sends it. `flags` may have flags2 in its upper half.
  Reply init(uint32_t minor, uint64_t flags);
  // All that Linux 6.18 offers.
  static constexpr uint64_t kAllFlags = 0x000005fd73fffffbULL;
  // Unmounts: the server's read ends.
  void close();

 private:
  void receive();

  int kernel_ = -1;
  int device_ = -1;
  std::mutex mutex_;
  std::condition_variable arrived_;
  std::map<uint64_t, Reply> replies_;
  std::vector<Reply> notifications_;
  uint64_t nextUnique_ = 2;
  bool closed_ = false;
  std::thread receiver_;
};

}  // namespace siteswap::test
