// What may take long and nobody waits for, such as the end of a large file: done on another thread, one after the other
// in order. Used by Overlay.
#pragma once

#include <deque>
#include <functional>
#include <mutex>

namespace siteswap::overlay {

class Later {
 public:
  // Runs it on another thread, soon. False: never.
  using Post = std::function<bool(std::function<void()> work)>;

  explicit Later(Post post) : post_(std::move(post)) {}

  // At the end, when there are no other threads any more, on this one. So `work` takes no lock that a caller may hold.
  void run(std::function<void()> work);

 private:
  void runAll();

  const Post post_;
  std::mutex mutex_;  // leaf, but for what `post` locks
  std::deque<std::function<void()>> waiting_;
  bool isRunning_ = false;  // or is about to
};

}  // namespace siteswap::overlay
