#include "overlay/later.h"

#include <new>
#include <utility>

namespace siteswap::overlay {

void Later::run(std::function<void()> work) {
  {
    std::lock_guard lock(mutex_);
    waiting_.push_back(std::move(work));
    if (!isRunning_) isRunning_ = post_([this] { runAll(); });
    if (isRunning_) return;
  }
  runAll();
}

void Later::runAll() {
  for (;;) {
    std::function<void()> work;
    {
      std::lock_guard lock(mutex_);
      if (waiting_.empty()) {
        isRunning_ = false;
        return;
      }
      work = std::move(waiting_.front());
      waiting_.pop_front();
    }
    try {
      work();
    } catch (const std::bad_alloc&) {
      // Space that stays used until the next start; what comes after it is still done.
    }
  }
}

}  // namespace siteswap::overlay
