// fuse/session on a fake kernel: dispatch, threads, every way to stop. (INIT: init_test.cc.)
#include <fcntl.h>
#include <unistd.h>

#include "check.h"
#include "fake_kernel.h"
#include "fuse/opcodes.h"
#include "scripted_operations.h"

using namespace siteswap::fuse;
using namespace siteswap::test;
using namespace std::string_literals;

namespace {

// The argument and names of a row, as short as they may be.
Bytes soundBody(const OpcodeRow& row) {
  Bytes body(row.wireBytes);
  for (int i = 0; i < row.names; ++i) append(body, "n\0", 2);
  return body;
}

}  // namespace

// --- dispatch ------------------------------------------------------------------------------------------------------

TEST(every_row) {
  SessionOptions options;
  options.trace = true;
  Fixture f(options);
  std::atomic<int> served{0};
  f.operations.handler = [&](RequestPtr request) {
    ++served;
    const OpcodeRow& row = *findOpcode(request->opcode());
    CHECK_EQ(std::string(request->opcodeName()), row.name);
    for (int i = 0; i < row.names; ++i) CHECK_EQ(request->name(i), "n");
    row.replies ? request->replyEmpty() : request->replyNone();
  };
  f.start();
  int expected = 0;
  for (const OpcodeRow& row : opcodeTable()) {
    if (row.opcode == FUSE_INIT || row.opcode == FUSE_DESTROY) continue;
    const bool off = row.opcode == FUSE_OPEN || row.opcode == FUSE_FLUSH;
    const bool handled = row.handling == Handling::kOperation && !off;
    expected += handled ? 1 : 0;
    const uint64_t unique = f.kernel.send(row.opcode, 5, soundBody(row));
    if (row.replies) {
      const auto reply = f.kernel.wait(unique);
      REQUIRE(reply);
      CHECK_EQ(-reply->error, handled ? 0 : off ? ENOSYS : row.error);
      CHECK(reply->body.empty());
    } else {
      // Served before the next one, which is answered.
      CHECK_EQ(f.kernel.ask(FUSE_STATFS, 1, {}).error, 0);
      ++expected;
    }
    CHECK(f.session->requestCount(row.opcode) >= 1);
  }
  CHECK_EQ(served.load(), expected);
  CHECK_EQ(f.kernel.ask(FUSE_IOCTL, 5, Bytes(32)).error, -ENOTTY);
  for (const uint32_t unknown : {0u, 7u, 54u, 63u, 64u, 4096u, 1048576u, UINT32_MAX}) {
    CHECK_EQ(f.kernel.ask(unknown, 1, Bytes(8)).error, -ENOSYS);
  }
  CHECK_EQ(f.session->requestCount(0), 8u);
  CHECK(f.logged("LOOKUP unique") > 0);
}

TEST(every_row_malformed) {
  Fixture f;
  f.operations.handler = [](RequestPtr request) {
    CHECK_EQ(request->opcode(), static_cast<uint32_t>(FUSE_STATFS));
    request->replyEmpty();
  };
  f.start();
  for (const OpcodeRow& row : opcodeTable()) {
    if (row.handling == Handling::kErrno || row.opcode == FUSE_INIT) continue;
    std::vector<Bytes> bodies;
    Bytes cut = soundBody(row);
    if (!cut.empty()) {
      cut.pop_back();
      bodies.push_back(cut);
      Bytes withoutNul = soundBody(row);
      withoutNul.back() = std::byte{'x'};
      if (row.names > 0) bodies.push_back(withoutNul);
    }
    for (const Bytes& body : bodies) {
      const uint64_t unique = f.kernel.send(row.opcode, 1, body);
      if (row.replies) CHECK_EQ(f.kernel.wait(unique).value_or(Reply{}).error, -EIO);
    }
    // Lies about the length, both ways.
    for (const uint32_t lie : {0u, 39u, 100'000u, UINT32_MAX}) {
      fuse_in_header header{};
      header.len = lie;
      header.opcode = row.opcode;
      header.unique = 1'000'000 + row.opcode * 16 + lie % 16;
      f.kernel.sendRaw(bytesOf(header, soundBody(row)));
      if (row.replies) CHECK_EQ(f.kernel.wait(header.unique).value_or(Reply{}).error, -EIO);
    }
  }
  CHECK_EQ(f.kernel.ask(FUSE_STATFS, 1, {}).error, 0);
  CHECK_EQ(f.kernel.unclaimed(), 0u);
  CHECK(!f.reason());
}

TEST(packet_without_header_ends_the_session) {
  for (const size_t size : {1u, 39u}) {
    Fixture f;
    f.start();
    f.kernel.sendRaw(Bytes(size));
    REQUIRE(f.stopped.wait());
    CHECK(f.reason() == StopReason::kProtocolError);
  }
}

TEST(arguments_and_answers) {
  Fixture f;
  f.operations.handler = [](RequestPtr request) {
    CHECK_EQ(request->nodeid(), 9u);
    switch (request->opcode()) {
      case FUSE_RENAME:
      case FUSE_RENAME2: {
        const auto& in = request->arg<fuse_rename2_in>();
        CHECK_EQ(in.newdir, 44u);
        CHECK_EQ(in.flags, request->opcode() == FUSE_RENAME2 ? 2u : 0u);
        CHECK_EQ(request->name(0), "from");
        CHECK_EQ(request->name(1), "to");
        return request->replyEmpty();
      }
      case FUSE_SETXATTR: {
        const auto& in = request->arg<fuse_setxattr_in>();
        CHECK_EQ(in.size, 3u);
        CHECK_EQ(in.flags, 1u);
        CHECK_EQ(in.setxattr_flags, 0u);
        CHECK_EQ(request->name(), "user.k");
        CHECK_EQ(request->payload().size(), 3u);
        return request->replyEmpty();
      }
      case FUSE_READ: {
        const char* text = "gathered";
        const iovec parts[] = {{const_cast<char*>(text), 4}, {const_cast<char*>(text) + 4, 4}};
        return request->replyVector(parts, 2);
      }
      default:
        CHECK_EQ(request->arg<fuse_setattr_in>().valid, 0u);  // more than LOOKUP has: zeros and a log line
        return request->reply(fuse_getxattr_out{77, 0});
    }
  };
  f.start();
  CHECK_EQ(f.kernel.ask(FUSE_RENAME, 9, bytesOf(fuse_rename_in{44}, "from\0to\0"s)).error, 0);
  CHECK_EQ(f.kernel.ask(FUSE_RENAME2, 9, bytesOf(fuse_rename2_in{44, 2, 0}, "from\0to\0"s)).error, 0);
  CHECK_EQ(f.kernel.ask(FUSE_SETXATTR, 9, bytesOf(uint32_t{3}, uint32_t{1}, "user.k\0\0\1\2"s)).error, 0);
  const Reply read = f.kernel.ask(FUSE_READ, 9, bytesOf(fuse_read_in{}));
  CHECK_EQ(std::string(reinterpret_cast<const char*>(read.body.data()), read.body.size()), "gathered");
  CHECK_EQ(f.kernel.ask(FUSE_LOOKUP, 9, lookupOf("x")).as<fuse_getxattr_out>().size, 77u);
  CHECK_EQ(f.logged("bug:"), 1u);
}

TEST(large_writes_keep_their_bytes_while_others_are_read) {
  Fixture f;
  std::mutex mutex;
  std::vector<RequestPtr> parked;
  f.operations.handler = [&](RequestPtr request) {
    std::lock_guard lock(mutex);
    parked.push_back(std::move(request));
  };
  f.start();
  for (int round = 0; round < 3; ++round) {
    std::vector<uint64_t> uniques;
    for (int i = 0; i < 8; ++i) {
      const size_t size = i % 2 == 0 ? f.kernel.largestBody() : 64u * 1024 - 80 + static_cast<size_t>(i);
      fuse_write_in in{};
      in.size = static_cast<uint32_t>(size);
      uniques.push_back(f.kernel.send(FUSE_WRITE, static_cast<uint64_t>(i),
                                      bytesOf(in, std::string(size, static_cast<char>('a' + i)))));
    }
    for (;;) {
      std::lock_guard lock(mutex);
      if (parked.size() == 8) break;
    }
    std::lock_guard lock(mutex);
    for (const RequestPtr& request : parked) {
      const auto data = request->payload();
      const auto expected = static_cast<std::byte>('a' + request->nodeid());
      CHECK_EQ(data.size(), request->arg<fuse_write_in>().size);
      CHECK_EQ(static_cast<size_t>(std::count(data.begin(), data.end(), expected)), data.size());
      request->reply(fuse_write_out{static_cast<uint32_t>(data.size()), 0});
    }
    parked.clear();
    for (const uint64_t unique : uniques) CHECK_EQ(f.kernel.wait(unique).value_or(Reply{0, 1, {}}).error, 0);
  }
}

TEST(unanswered_and_twice_answered) {
  Fixture f;
  f.operations.handler = [](RequestPtr request) {
    if (request->name() == "drop") return;
    if (request->name() == "none") return request->replyNone();
    if (request->name() == "throw") throw std::runtime_error("on purpose");
    request->replyError(EPERM);
    request->replyEmpty();
    request->replyError(EIO);
  };
  f.start();
  CHECK_EQ(f.kernel.ask(FUSE_LOOKUP, 1, lookupOf("drop")).error, -EIO);
  CHECK_EQ(f.kernel.ask(FUSE_LOOKUP, 1, lookupOf("none")).error, -EIO);
  CHECK_EQ(f.kernel.ask(FUSE_LOOKUP, 1, lookupOf("throw")).error, -EIO);
  CHECK_EQ(f.kernel.ask(FUSE_LOOKUP, 1, lookupOf("twice")).error, -EPERM);
  f.session->stop();
  CHECK_EQ(f.kernel.unclaimed(), 0u);
  CHECK_EQ(f.logged("nobody answered it: LOOKUP"), 3u);
  CHECK_EQ(f.logged("answered twice"), 2u);
  CHECK_EQ(f.logged("on purpose"), 1u);
}

TEST(resent_requests_are_answered_with_their_bit) {
  Fixture f;
  f.operations.handler = [](RequestPtr request) {
    CHECK(request->unique() & kResentBit);
    request->replyError(ENOENT);
  };
  f.start();
  const uint64_t unique = f.kernel.send(FUSE_LOOKUP, 1, lookupOf("a"), 12 | kResentBit);
  CHECK_EQ(f.kernel.wait(unique).value_or(Reply{}).error, -ENOENT);
}

TEST(notification_bytes) {
  Fixture f;
  f.start();
  CHECK_EQ(f.session->notifyIncEpoch(), 0);
  CHECK_EQ(f.session->notifyInvalInode(0x0102030405060708, -1, 0), 0);
  CHECK_EQ(f.session->notifyInvalEntry(1, "ab"), 0);
  CHECK_EQ(f.session->notifyResend(), 0);
  const auto next = [&](int code) {
    const Reply reply = f.kernel.waitNotification().value_or(Reply{});
    CHECK_EQ(reply.error, code);
    CHECK_EQ(reply.unique, 0u);
    return std::string(reinterpret_cast<const char*>(reply.body.data()), reply.body.size());
  };
  CHECK_EQ(next(8), "");
  CHECK_EQ(next(2), "\x08\x07\x06\x05\x04\x03\x02\x01\xff\xff\xff\xff\xff\xff\xff\xff\0\0\0\0\0\0\0\0"s);
  CHECK_EQ(next(3), "\1\0\0\0\0\0\0\0\2\0\0\0\0\0\0\0ab\0"s);
  CHECK_EQ(next(7), "");
}

// --- threads -------------------------------------------------------------------------------------------------------

TEST(resigned_handler_holds_nobody_up) {
  Fixture f;
  Gate gate;
  f.operations.handler = [&](RequestPtr request) {
    if (request->name() == "slow") {
      request->resign();
      request->resign();
      gate.wait();
    }
    request->resign();
    request->replyEmpty();
  };
  f.start();
  const uint64_t slow = f.kernel.send(FUSE_LOOKUP, 1, lookupOf("slow"));
  for (int i = 0; i < 100; ++i) CHECK_EQ(f.kernel.ask(FUSE_LOOKUP, 1, lookupOf("quick")).error, 0);
  CHECK(!f.kernel.wait(slow, 0));
  gate.open();
  CHECK_EQ(f.kernel.wait(slow).value_or(Reply{0, 1, {}}).error, 0);
}

TEST(more_slow_handlers_than_threads) {
  Fixture f;
  Gate gate;
  std::atomic<int> inside{0}, most{0}, posted{0};
  f.operations.handler = [&](RequestPtr request) {
    request->resign();
    const int now = ++inside;
    int seen = most;
    while (now > seen && !most.compare_exchange_weak(seen, now)) {
    }
    gate.wait();
    --inside;
    request->replyEmpty();
  };
  f.start();
  std::vector<uint64_t> uniques;
  for (int i = 0; i < 40; ++i) {
    uniques.push_back(f.kernel.send(FUSE_LOOKUP, 1, lookupOf("slow")));
    CHECK(f.session->post([&] { ++posted; }));
  }
  for (int i = 0; i < 5000 && most <= 4; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  gate.open();
  for (const uint64_t unique : uniques) CHECK(f.kernel.wait(unique));
  f.session->stop();
  CHECK_EQ(posted.load(), 40);
  CHECK(most > 4 && most <= 16);
}

TEST(posted_work_runs_while_the_leader_reads) {
  Fixture f;
  f.start();
  for (int i = 0; i < 200; ++i) {
    Gate done;
    CHECK(f.session->post([&] { done.open(); }));
    REQUIRE(done.wait());
    CHECK_EQ(f.kernel.ask(FUSE_STATFS, 1, {}).error, 0);
  }
  CHECK(f.session->post([] { throw std::runtime_error("posted"); }));
  f.session->stop();
  CHECK_EQ(f.logged("posted work threw: posted"), 1u);
  CHECK(!f.session->post([] {}));
}

TEST(posted_work_blocking_does_not_hold_requests_up) {
  Fixture f;
  f.start();
  Gate gate;
  for (int i = 0; i < 3; ++i) f.session->post([&] { gate.wait(); });
  for (int i = 0; i < 50; ++i) CHECK_EQ(f.kernel.ask(FUSE_STATFS, 1, {}).error, 0);
  gate.open();
}

TEST(resubmitted_requests_start_again) {
  Fixture f;
  std::mutex mutex;
  RequestPtr parked;
  Gate isParked;
  f.operations.handler = [&](RequestPtr request) {
    if (!request->beganMembership) {
      std::lock_guard lock(mutex);
      parked = std::move(request);
      return isParked.open();
    }
    CHECK_EQ(request->name(), "parked");
    request->replyError(EEXIST);
  };
  f.start();
  const uint64_t unique = f.kernel.send(FUSE_LOOKUP, 1, lookupOf("parked"));
  REQUIRE(isParked.wait());
  {
    std::lock_guard lock(mutex);
    parked->beganMembership = true;
    Session::resubmit(std::move(parked));
  }
  CHECK_EQ(f.kernel.wait(unique).value_or(Reply{}).error, -EEXIST);
  CHECK_EQ(f.session->requestCount(FUSE_LOOKUP), 1u);
}

TEST(interrupt_of_a_parked_request) {
  Fixture f;
  std::mutex mutex;
  std::map<uint64_t, RequestPtr> parked;
  f.operations.handler = [&](RequestPtr request) {
    std::lock_guard lock(mutex);
    const uint64_t unique = request->unique();
    parked.emplace(unique, std::move(request));
  };
  f.operations.onInterrupt = [&](uint64_t unique) {
    std::lock_guard lock(mutex);
    const auto found = parked.extract(unique);
    if (!found.empty()) found.mapped()->replyError(EINTR);
  };
  f.start();
  const uint64_t first = f.kernel.send(FUSE_LOOKUP, 1, lookupOf("a"));
  const uint64_t second = f.kernel.send(FUSE_LOOKUP, 1, lookupOf("b"));
  f.kernel.send(FUSE_INTERRUPT, 0, bytesOf(fuse_interrupt_in{12345}));  // one that nobody knows
  f.kernel.send(FUSE_INTERRUPT, 0, bytesOf(fuse_interrupt_in{first}));
  CHECK_EQ(f.kernel.wait(first).value_or(Reply{}).error, -EINTR);
  CHECK(!f.kernel.wait(second, 0));
  f.kernel.send(FUSE_INTERRUPT, 0, bytesOf(fuse_interrupt_in{second}));
  CHECK_EQ(f.kernel.wait(second).value_or(Reply{}).error, -EINTR);
}

// --- stopping ------------------------------------------------------------------------------------------------------

TEST(peer_closes) {
  Fixture f;
  f.start();
  f.kernel.close();
  REQUIRE(f.stopped.wait());
  CHECK(f.reason() == StopReason::kPeerClosed);
  f.session->stop();
  f.session->stop();
  CHECK_EQ(f.stops(), 1);
}

TEST(destroy_ends_it) {
  Fixture f;
  f.start();
  CHECK_EQ(f.kernel.ask(FUSE_DESTROY, 0, {}).error, 0);
  REQUIRE(f.stopped.wait());
  CHECK(f.reason() == StopReason::kUnmounted);
}

TEST(device_that_can_not_be_read) {
  Fixture f;
  f.options.deviceFd = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  f.startOnly();
  REQUIRE(f.stopped.wait());
  CHECK(f.reason() == StopReason::kDeviceError);
  close(f.options.deviceFd);
}

TEST(never_started) {
  Fixture f;
  f.session = std::make_unique<Session>(f.options, f.operations);
  f.session->stop();
  f.session.reset();
  CHECK_EQ(f.stops(), 0);
}

TEST(stop_with_requests_in_handlers_and_parked) {
  Fixture f;
  Gate inHandler, gate;
  std::mutex mutex;
  std::vector<RequestPtr> parked;
  f.operations.handler = [&](RequestPtr request) {
    if (request->name() == "park") {
      std::lock_guard lock(mutex);
      return parked.push_back(std::move(request));
    }
    request->resign();
    inHandler.open();
    gate.wait();
    request->replyEmpty();
  };
  f.start();
  const uint64_t park = f.kernel.send(FUSE_LOOKUP, 1, lookupOf("park"));
  const uint64_t slow = f.kernel.send(FUSE_LOOKUP, 1, lookupOf("slow"));
  REQUIRE(inHandler.wait());
  std::thread opener([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(30));
    gate.open();
  });
  f.session->stop();  // waits for the handler
  opener.join();
  CHECK(f.reason() == StopReason::kRequested);
  CHECK_EQ(f.kernel.wait(slow).value_or(Reply{0, 1, {}}).error, 0);
  CHECK(!f.kernel.wait(park, 0));
  // Given back after the end: answered, not lost.
  Session::resubmit(std::move(parked.at(0)));
  CHECK_EQ(f.kernel.wait(park).value_or(Reply{}).error, -EIO);
  // Sent after the end: left for the next server, which takes the descriptor over.
  const uint64_t late = f.kernel.send(FUSE_LOOKUP, 1, lookupOf("late"));
  CHECK(!f.kernel.wait(late, 20));
  SessionOptions again = f.options;
  again.initAlreadyDone = true;
  again.resumedMinor = 45;
  f.operations.handler = nullptr;
  Session successor(again, f.operations);
  successor.start(nullptr);
  CHECK_EQ(f.kernel.wait(late).value_or(Reply{0, 1, {}}).error, 0);
  successor.stop();
}

TEST(stop_never_misses_the_reader) {
  for (int i = 0; i < 1000; ++i) {
    Fixture f;
    if (i % 2 == 0) {
      f.start();
      // Traffic, so that stop() meets the reader anywhere in its loop.
      for (int k = 0; k < i % 7; ++k) f.kernel.send(FUSE_LOOKUP, 1, lookupOf("a"));
      if (i % 4 == 0) f.session->post([] {});
    } else {
      f.startOnly();  // before INIT
    }
    f.session->stop();
    CHECK_EQ(f.stops(), 1);
    CHECK(f.reason() == StopReason::kRequested);
  }
}

TEST(stop_on_a_device_that_does_not_block) {
  Fixture f;
  fcntl(f.kernel.deviceFd(), F_SETFL, O_NONBLOCK);
  f.start();
  for (int i = 0; i < 20; ++i) CHECK_EQ(f.kernel.ask(FUSE_STATFS, 1, {}).error, 0);
  std::this_thread::sleep_for(std::chrono::milliseconds(5));
  f.session->stop();
  CHECK(f.reason() == StopReason::kRequested);
}

TEST(signals_stay_on_their_threads) {
  static std::atomic<int> got{0};
  signal(SIGUSR1, [](int) { ++got; });
  Fixture f;
  f.operations.handler = [](RequestPtr request) {
    sigset_t mask;
    pthread_sigmask(SIG_SETMASK, nullptr, &mask);
    CHECK(sigismember(&mask, SIGUSR1) == 1 && sigismember(&mask, SIGCHLD) == 1 && sigismember(&mask, SIGPROF) == 1);
    CHECK(sigismember(&mask, SIGSEGV) == 0);
    request->replyEmpty();
  };
  f.start();
  CHECK_EQ(f.kernel.ask(FUSE_STATFS, 1, {}).error, 0);
  sigset_t mine;
  pthread_sigmask(SIG_SETMASK, nullptr, &mine);
  CHECK(sigismember(&mine, SIGUSR1) == 0);
  raise(SIGUSR1);
  CHECK_EQ(got.load(), 1);
  signal(SIGUSR1, SIG_DFL);
}
