// A tiny test harness: TEST(name) { … CHECK(…) … } in any number; main() comes with the header, which therefore only
// one unit of a program may include (Makefile).
//
// A failing check is printed and counted, and the test goes on; REQUIRE leaves the test. The program prints one line at
// the end ("ok session_test: 31 tests, 5210 checks") and exits with 1 when anything failed. Its arguments: the file
// whose tests are run, without .cc, and a part of the names of those that are meant. Checks may be made from any
// thread.
#pragma once

#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

namespace check {

struct Test {
  std::string_view file;  // without folder and .cc
  const char* name;
  void (*body)();
};

inline std::vector<Test>& tests() {
  static std::vector<Test> all;
  return all;
}
inline std::atomic<long> checks{0};
inline std::atomic<long> failures{0};
inline std::atomic<const char*> running{""};

struct Registration {
  Registration(std::string_view path, const char* name, void (*body)()) {
    const std::string_view file = path.substr(path.rfind('/') + 1);
    tests().push_back({file.substr(0, file.rfind('.')), name, body});
  }
};

// A file has hundreds of checks, and their code costs its compiler a tenth to a quarter: a check is a call, neither is
// inlined, and what a failing one says is put together out of the way.
[[gnu::noinline, gnu::cold]] inline void fail(const char* file, int line, const char* what) {
  ++failures;
  std::fprintf(stderr, "%s:%d: in %s: %s\n", file, line, running.load(), what);
}

[[gnu::noinline]] inline bool verify(bool holds, const char* file, int line, const char* what) {
  ++checks;
  if (!holds) fail(file, line, what);
  return holds;
}

// For words that are made at run time.
inline bool verify(bool holds, const char* file, int line, const std::string& what) {
  return verify(holds, file, line, what.c_str());
}

template <class T>
std::string show(const T& value) {
  if constexpr (requires(std::ostringstream & out) { out << value; }) {
    std::ostringstream out;
    out << value;
    return out.str();
  } else if constexpr (std::is_enum_v<T>) {
    return std::to_string(static_cast<long long>(value));
  } else {
    return "?";
  }
}

template <class A, class B>
[[gnu::noinline, gnu::cold]] void failUnequal(const A& a, const B& b, const char* file, int line, const char* what) {
  fail(file, line, std::string(what).append(": ").append(show(a)).append(" != ").append(show(b)).c_str());
}

template <class A, class B>
[[gnu::noinline]] bool verifyEqual(const A& a, const B& b, const char* file, int line, const char* what) {
  bool holds;
  if constexpr (std::is_integral_v<A> && std::is_integral_v<B>) {
    holds = static_cast<long long>(a) == static_cast<long long>(b);
  } else {
    holds = a == b;
  }
  ++checks;
  if (!holds) failUnequal(a, b, file, line, what);
  return holds;
}

// The seed of random tests: CHECK_SEED, else a new one. Print it when something fails.
inline unsigned long seed() {
  const char* given = std::getenv("CHECK_SEED");
  if (given != nullptr) return std::strtoul(given, nullptr, 0);
  unsigned long value = 0;
  std::FILE* random = std::fopen("/dev/urandom", "r");
  if (random != nullptr) {
    if (std::fread(&value, sizeof value, 1, random) != 1) value = 1;
    std::fclose(random);
  }
  return value & 0xffffffff;
}

inline int main(int argc, char** argv) {
  signal(SIGPIPE, SIG_IGN);
  // A deadlock is a failure, not a hang.
  const char* limit = std::getenv("CHECK_TIMEOUT_S");
  signal(SIGALRM, [](int) {
    const char* name = running.load();
    (void)!write(2, "timed out in ", 13);
    (void)!write(2, name, std::strlen(name));
    (void)!write(2, "\n", 1);
    _exit(124);
  });
  alarm(limit == nullptr ? 240 : static_cast<unsigned>(std::atoi(limit)));
  const char* file = argc > 1 ? argv[1] : "";
  int ran = 0;
  for (const Test& test : tests()) {
    if (test.file != file || (argc > 2 && std::strstr(test.name, argv[2]) == nullptr)) continue;
    running = test.name;
    test.body();
    ++ran;
  }
  const bool good = failures == 0 && ran > 0;
  std::printf("%s %s: %d tests, %ld checks", good ? "ok" : "FAILED", file, ran, checks.load());
  if (failures > 0) std::printf(", %ld failed", failures.load());
  std::printf("\n");
  return good ? 0 : 1;
}

}  // namespace check

#define TEST(name)                                                                \
  static void test_##name();                                                      \
  static const check::Registration register_##name{__FILE__, #name, test_##name}; \
  static void test_##name()
#define CHECK(condition) check::verify(static_cast<bool>(condition), __FILE__, __LINE__, #condition)
#define CHECK_EQ(a, b) check::verifyEqual(a, b, __FILE__, __LINE__, #a " == " #b)
#define REQUIRE(condition) \
  if (!CHECK(condition)) return

int main(int argc, char** argv) {
  return check::main(argc, argv);
}
