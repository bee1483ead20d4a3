// Out of memory: whose request it is gets an error, and everybody else is served.
#include <atomic>
#include <cstdlib>
#include <new>

#include "check.h"
#include "fuse/session.h"
#include "scripted_operations.h"

using namespace siteswap;
using namespace siteswap::test;
using namespace std::string_literals;

namespace {

std::atomic<size_t> leastFailing{SIZE_MAX};  // allocations from this size on fail,
thread_local bool isSpared = false;          // but on this thread

void* allocate(size_t sizeBytes) {
  void* const memory = !isSpared && sizeBytes >= leastFailing ? nullptr : std::malloc(sizeBytes);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}

}  // namespace

void* operator new(size_t sizeBytes) {
  return allocate(sizeBytes);
}
void* operator new[](size_t sizeBytes) {
  return allocate(sizeBytes);
}
// Inlined, they look to the compiler as if they did not belong to the above.
[[gnu::noinline]] void operator delete(void* memory) noexcept {
  std::free(memory);
}
[[gnu::noinline]] void operator delete[](void* memory) noexcept {
  std::free(memory);
}
[[gnu::noinline]] void operator delete(void* memory, size_t) noexcept {
  std::free(memory);
}
[[gnu::noinline]] void operator delete[](void* memory, size_t) noexcept {
  std::free(memory);
}

namespace {

Bytes writeOf(size_t sizeBytes) {
  fuse_write_in in{};
  in.size = static_cast<uint32_t>(sizeBytes);
  return bytesOf(in, std::string(sizeBytes, 'w'));
}

}  // namespace

TEST(a_request_that_there_is_no_memory_for) {
  isSpared = true;
  Fixture f;
  f.start();
  leastFailing = 30'000;
  CHECK_EQ(f.kernel.ask(FUSE_WRITE, 1, writeOf(40'000)).error, -ENOMEM);
  CHECK_EQ(f.kernel.ask(FUSE_STATFS, 1, {}).error, 0);
  leastFailing = SIZE_MAX;
  CHECK_EQ(f.kernel.ask(FUSE_WRITE, 1, writeOf(40'000)).error, 0);
}

TEST(no_memory_to_read_the_next_request_into) {
  isSpared = true;
  Fixture f;
  std::mutex mutex;
  fuse::RequestPtr kept;
  f.operations.handler = [&](fuse::RequestPtr request) {
    if (request->opcode() != FUSE_WRITE) return request->replyEmpty();
    std::lock_guard lock(mutex);
    kept = std::move(request);
  };
  f.start();
  leastFailing = 1 << 20;
  // It keeps the buffer that it was read into.
  const uint64_t large = f.kernel.send(FUSE_WRITE, 1, writeOf(f.kernel.largestBody()));
  const uint64_t next = f.kernel.send(FUSE_STATFS, 1, {});
  CHECK(!f.kernel.wait(next, 50));
  leastFailing = SIZE_MAX;
  CHECK_EQ(f.kernel.wait(next).value_or(Reply{0, -ETIMEDOUT, {}}).error, 0);
  std::lock_guard lock(mutex);
  REQUIRE(kept != nullptr);
  kept->replyEmpty();
  kept = nullptr;
  CHECK_EQ(f.kernel.wait(large).value_or(Reply{0, -ETIMEDOUT, {}}).error, 0);
}

TEST(it_ends_while_there_is_no_memory) {
  isSpared = true;
  Fixture f;
  fuse::RequestPtr kept;
  f.operations.handler = [&](fuse::RequestPtr request) { kept = std::move(request); };
  f.start();
  leastFailing = 1 << 20;
  const uint64_t large = f.kernel.send(FUSE_WRITE, 1, writeOf(f.kernel.largestBody()));
  CHECK(!f.kernel.wait(large, 50));
  f.session->stop();
  leastFailing = SIZE_MAX;
  REQUIRE(kept != nullptr);
  kept->replyEmpty();
  kept = nullptr;
}

TEST(a_handler_that_gets_no_memory) {
  isSpared = true;
  Fixture f;
  f.operations.handler = [&](fuse::RequestPtr request) {
    const std::vector<std::byte> much(50'000);
    request->replyEmpty();
  };
  f.start();
  leastFailing = 30'000;
  CHECK_EQ(f.kernel.ask(FUSE_STATFS, 1, {}).error, -EIO);
  leastFailing = SIZE_MAX;
  CHECK_EQ(f.kernel.ask(FUSE_STATFS, 1, {}).error, 0);
}
