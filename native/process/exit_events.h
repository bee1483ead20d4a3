// Exit statuses by the kernel's process connector (cn_proc): for kernels before 6.15, where a pidfd does not tell them.
// Root may listen on any kernel that was built with it, others from Linux 6.6 on; in the first pid and network
// namespace only. What is told is a hint that may be lost (a full socket), never wrong.
#pragma once

#include <functional>
#include <memory>

#include "process/process.h"

namespace siteswap::process {

class ExitEvents {
 public:
  // Null when this host has none.
  static std::unique_ptr<ExitEvents> open();
  ~ExitEvents();
  ExitEvents(const ExitEvents&) = delete;
  ExitEvents& operator=(const ExitEvents&) = delete;

  int fd() const { return fd_; }
  // All that is there: processes (their main threads) that ended, and how. Never blocks.
  void drain(const std::function<void(pid_t, ExitStatus)>& onExit);

 private:
  explicit ExitEvents(int fd) : fd_(fd) {}
  const int fd_;
};

}  // namespace siteswap::process
