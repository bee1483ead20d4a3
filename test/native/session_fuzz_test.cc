// Random packets: whatever comes, the server answers or ignores it, and ends only by a named reason. CHECK_SEED
// repeats.
#include <random>

#include "check.h"
#include "fake_kernel.h"
#include "fuse/opcodes.h"
#include "scripted_operations.h"

using namespace siteswap::fuse;
using namespace siteswap::test;

namespace {

using Generator = std::mt19937_64;

uint32_t below(Generator& random, uint32_t limit) {
  return static_cast<uint32_t>(random() % limit);
}

// Values that break arithmetic, more often than chance would bring them.
uint64_t nasty(Generator& random) {
  constexpr uint64_t kValues[] = {0, 1, 2, 40, 0x7fffffff, 0x80000000, 0xffffffff, 1ULL << 63, ~0ULL};
  return below(random, 2) == 0 ? kValues[below(random, std::size(kValues))] : random();
}

Bytes randomPacket(Generator& random, uint64_t unique) {
  const auto table = opcodeTable();
  const OpcodeRow& row = table[below(random, static_cast<uint32_t>(table.size()))];
  Bytes body(row.wireBytes);
  for (std::byte& byte : body) byte = static_cast<std::byte>(below(random, 3) == 0 ? random() : 0);
  if (body.size() >= 8 && below(random, 2) == 0) {
    const uint64_t value = nasty(random);
    std::memcpy(body.data() + below(random, static_cast<uint32_t>(body.size() / 8)) * 8, &value, sizeof value);
  }
  for (int i = 0; i < row.names; ++i) {
    for (uint32_t k = below(random, 20); k > 0; --k) body.push_back(static_cast<std::byte>(random()));
    if (below(random, 10) > 0) body.push_back(std::byte{0});
  }
  const uint32_t extra = below(random, 4) == 0 ? below(random, 200'000) : below(random, 64);
  if (below(random, 2) == 0) body.resize(body.size() + extra, std::byte{0x5a});
  if (below(random, 5) == 0) body.resize(below(random, static_cast<uint32_t>(body.size()) + 1));
  // Half of the writes are sound, so that handlers see big payloads too.
  if (row.opcode == FUSE_WRITE && below(random, 2) == 0 && body.size() >= sizeof(fuse_write_in)) {
    const auto size = static_cast<uint32_t>(body.size() - sizeof(fuse_write_in));
    std::memcpy(body.data() + offsetof(fuse_write_in, size), &size, sizeof size);
  }
  fuse_in_header header{};
  header.len = below(random, 20) == 0 ? static_cast<uint32_t>(nasty(random))
                                      : static_cast<uint32_t>(sizeof header + body.size());
  header.opcode = below(random, 30) == 0 ? static_cast<uint32_t>(nasty(random)) : row.opcode;
  // It would end the session, with nobody left to read what follows.
  if (header.opcode == FUSE_DESTROY) header.opcode = FUSE_STATFS;
  header.unique = unique;
  header.nodeid = nasty(random);
  header.pid = static_cast<uint32_t>(nasty(random));
  return bytesOf(header, body);
}

}  // namespace

TEST(random_packets) {
  const unsigned long seed = check::seed();
  Generator random(seed);
  uint64_t sum = 0;
  for (int round = 0; round < 20; ++round) {
    Fixture f;
    std::atomic<uint64_t> touched{0};
    std::mutex mutex;
    std::vector<RequestPtr> parked;
    f.operations.handler = [&](RequestPtr request) {
      // Reads every byte that a handler may read.
      uint64_t bytes = request->describe().size();
      for (const char c : request->name(0)) bytes += static_cast<unsigned char>(c);
      for (const char c : request->name(1)) bytes += static_cast<unsigned char>(c);
      for (const std::byte b : request->payload()) bytes += static_cast<uint64_t>(b);
      touched += bytes;
      const bool replies = findOpcode(request->opcode())->replies;
      switch (request->unique() / 2 % 6) {
        case 0:
          request->resign();
          break;
        case 1: {
          std::lock_guard lock(mutex);
          return parked.push_back(std::move(request));
        }
        case 2:
          if (!request->beganMembership) {
            request->beganMembership = true;
            return Session::resubmit(std::move(request));
          }
          break;
        case 3:
          return;
        default:
          break;
      }
      replies ? request->replyData("body", 4) : request->replyNone();
    };
    f.start();
    for (uint64_t i = 0; i < 2000; ++i) f.kernel.sendRaw(randomPacket(random, 1000 + i * 2));
    f.session->stop();
    parked.clear();
    const auto reason = f.reason();
    const bool good = CHECK(reason == StopReason::kRequested) && CHECK_EQ(f.logged("bug:"), 0u);
    if (!good) {
      std::fprintf(stderr, "CHECK_SEED=%lu, round %d\n", seed, round);
      return;
    }
    sum += touched;
  }
  CHECK(sum > 0);
}
