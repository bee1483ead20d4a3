// fuse/init through a session on a fake kernel: kernels of many ages, features switched off, INITs that are wrong.
#include <unistd.h>

#include "check.h"
#include "fake_kernel.h"
#include "scripted_operations.h"

using namespace siteswap::fuse;
using namespace siteswap::test;

TEST(init_too_old) {
  for (const uint32_t minor : {8u, 30u}) {
    Fixture f;
    f.startOnly();
    CHECK_EQ(f.kernel.init(minor, FUSE_ASYNC_READ).error, -EPROTO);
    REQUIRE(f.stopped.wait());
    CHECK(f.reason() == StopReason::kInitFailed);
    CHECK(f.reasonText().find("7." + std::to_string(minor)) != std::string::npos);
    CHECK(!f.ready.wait(0));
  }
}

TEST(init_of_old_and_new_kernels) {
  for (const uint32_t minor : {31u, 34u, 36u, 38u, 43u, 44u, 45u, 99u}) {
    Fixture f;
    f.startOnly();
    // Before 7.36 there is no second word of flags.
    const uint64_t offered = FakeKernel::kAllFlags & (minor < 36 ? 0x3fffffffULL : ~0ULL);
    const Reply reply = f.kernel.init(minor, offered);
    CHECK_EQ(reply.error, 0);
    CHECK_EQ(reply.body.size(), 64u);
    const auto out = reply.as<InitOut>();
    CHECK_EQ(out.major, 7u);
    CHECK_EQ(out.minor, std::min(minor, 45u));
    CHECK_EQ(out.maxWrite, 1u << 20);
    CHECK_EQ(out.maxPages, (1u << 20) / static_cast<unsigned>(sysconf(_SC_PAGESIZE)));
    CHECK_EQ(out.maxReadahead, 128u * 1024);
    CHECK_EQ(out.timeGran, 1u);
    const uint64_t given = out.flags | static_cast<uint64_t>(out.flags2) << 32;
    CHECK_EQ(given & ~offered, 0u);
    CHECK_EQ(given & (FUSE_ATOMIC_O_TRUNC | FUSE_WRITEBACK_CACHE | FUSE_AUTO_INVAL_DATA | FUSE_SETXATTR_EXT), 0u);
    CHECK((given & FUSE_NO_OPEN_SUPPORT) && (given & FUSE_EXPLICIT_INVAL_DATA) && (given & FUSE_PARALLEL_DIROPS));
    CHECK_EQ((out.flags & FUSE_INIT_EXT) != 0, minor >= 36);
    CHECK_EQ(out.flags2 != 0, minor >= 36);
    REQUIRE(f.ready.wait());
    const Negotiated& n = f.session->negotiated();
    CHECK_EQ(n.minor, minor);
    CHECK_EQ(n.flags, given);
    CHECK_EQ(n.epoch, minor >= 44);
    CHECK_EQ(n.resend, minor >= 36);
    CHECK(n.noOpen && n.readdirplus);
    CHECK_EQ(f.session->notifyIncEpoch(), minor >= 44 ? 0 : ENOSYS);
  }
}

TEST(init_ext_not_offered_hides_flags2) {
  Fixture f;
  f.startOnly();
  const auto out = f.kernel.init(40, FakeKernel::kAllFlags & ~static_cast<uint64_t>(FUSE_INIT_EXT)).as<InitOut>();
  CHECK_EQ(out.flags & FUSE_INIT_EXT, 0u);
  CHECK_EQ(out.flags2, 0u);
}

TEST(init_without_max_pages) {
  Fixture f;
  f.startOnly();
  const auto out = f.kernel.init(31, FUSE_ASYNC_READ | FUSE_BIG_WRITES).as<InitOut>();
  CHECK_EQ(out.maxPages, 0u);
  CHECK_EQ(out.maxWrite, 32u * static_cast<unsigned>(sysconf(_SC_PAGESIZE)));
  REQUIRE(f.ready.wait());
  CHECK(!f.session->negotiated().noOpen);
  CHECK(!f.session->negotiated().readdirplus);
}

TEST(init_features_switched_off) {
  SessionOptions options;
  options.disableEpoch = options.disableNoOpen = options.disableReaddirplus = options.disableResend = true;
  Fixture f(options);
  const Negotiated n = f.start();
  CHECK(!n.epoch && !n.noOpen && !n.readdirplus && !n.resend);
  CHECK_EQ(n.flags & (FUSE_NO_OPEN_SUPPORT | FUSE_DO_READDIRPLUS | FUSE_READDIRPLUS_AUTO | FUSE_HAS_RESEND), 0u);
  CHECK_EQ(f.session->notifyIncEpoch(), ENOSYS);
  CHECK_EQ(f.session->notifyResend(), ENOSYS);
  CHECK_EQ(f.kernel.ask(FUSE_OPEN, 2, bytesOf(fuse_open_in{})).error, 0);
  CHECK_EQ(f.kernel.ask(FUSE_FLUSH, 2, bytesOf(fuse_flush_in{})).error, 0);
}

TEST(init_later_major_is_asked_again) {
  Fixture f;
  f.startOnly();
  InitIn in{};
  in.major = 8;
  const Reply reply = f.kernel.ask(FUSE_INIT, 0, bytesOf(in));
  CHECK_EQ(reply.error, 0);
  CHECK_EQ(reply.as<InitOut>().major, 7u);
  CHECK(!f.ready.wait(20));
  CHECK_EQ(f.kernel.init(45, FakeKernel::kAllFlags).error, 0);
  CHECK(f.ready.wait());
}

TEST(init_malformed_missing_or_repeated) {
  {
    Fixture f;
    f.startOnly();
    CHECK_EQ(f.kernel.ask(FUSE_INIT, 0, Bytes(15)).error, -EIO);
    REQUIRE(f.stopped.wait());
    CHECK(f.reason() == StopReason::kInitFailed);
  }
  {
    Fixture f;
    f.startOnly();
    CHECK_EQ(f.kernel.ask(FUSE_LOOKUP, 1, lookupOf("a")).error, -EIO);
    REQUIRE(f.stopped.wait());
    CHECK(f.reason() == StopReason::kProtocolError);
  }
  {
    Fixture f;
    f.start();
    CHECK_EQ(f.kernel.init(31, 0).error, -EIO);
    CHECK_EQ(f.kernel.ask(FUSE_INIT, 0, Bytes(15)).error, -EIO);
    CHECK_EQ(f.session->negotiated().minor, 45u);
    CHECK_EQ(f.kernel.ask(FUSE_LOOKUP, 1, lookupOf("a")).error, 0);
  }
}

TEST(taken_over_session_has_no_init) {
  SessionOptions options;
  options.initAlreadyDone = true;
  options.resumedMinor = 45;
  Fixture f(options);
  f.operations.handler = [&f](RequestPtr request) {
    CHECK(f.ready.wait(0));  // told before the first request
    request->replyEmpty();
  };
  f.startOnly();
  CHECK_EQ(f.kernel.ask(FUSE_LOOKUP, 1, lookupOf("a")).error, 0);
  const Negotiated& n = f.session->negotiated();
  CHECK(n.epoch && n.noOpen && n.resend && n.readdirplus);
  CHECK_EQ(n.maxWrite, 1u << 20);
}
