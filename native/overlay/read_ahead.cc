#include "overlay/read_ahead.h"

#include <algorithm>
#include <cerrno>
#include <new>
#include <utility>

#include "fuse/session.h"

namespace siteswap::overlay {

void ReadAhead::Window::answer(const Waiter& waiter) const {
  waiter.request->replyData(bytes.get() + (waiter.range.offset - begin), waiter.range.sizeBytes);
}

ReadAhead::Run* ReadAhead::find(const Range& range, WindowPtr& window) {
  for (auto run = runs_.begin(); run != runs_.end(); ++run) {
    if (run->ino != range.ino) continue;
    const auto at =
        std::find_if(run->windows.begin(), run->windows.end(), [&](const WindowPtr& each) { return each->has(range); });
    if (at != run->windows.end()) window = *at;
    if (!window && run->next != range.offset) continue;
    runs_.splice(runs_.begin(), runs_, run);
    return &runs_.front();
  }
  return nullptr;
}

ReadAhead::Run& ReadAhead::begin(const Range& range) {
  Run& run = runs_.emplace_front();
  run.ino = range.ino;
  forgetOldest(false);
  return run;
}

// The two kinds apart: whoever reads here and there begins a run with each request.
void ReadAhead::forgetOldest(bool withWindows) {
  const auto isOfThem = [=](const Run& run) { return run.windows.empty() != withWindows; };
  if (static_cast<size_t>(std::count_if(runs_.begin(), runs_.end(), isOfThem)) <= kRuns) return;
  runs_.erase(std::prev(std::find_if(runs_.rbegin(), runs_.rend(), isOfThem).base()));
}

bool ReadAhead::answer(fuse::RequestPtr& request, const Range& range) {
  Waiter waiter{nullptr, range};
  WindowPtr window;
  {
    std::lock_guard lock(mutex_);
    Run* const run = find(range, window);
    if (!window) return false;
    waiter.request = std::move(request);
    moveWindows(*run, range.offset + range.sizeBytes);
    if (!window->isFilled) {
      window->waiters.push_back(std::move(waiter));
      return true;
    }
  }
  window->answer(waiter);
  return true;
}

void ReadAhead::note(const Range& range, const Source& source, bool waits) {
  std::lock_guard lock(mutex_);
  WindowPtr window;
  Run* const known = find(range, window);
  Run& run = known != nullptr ? *known : begin(range);
  run.bytes += range.sizeBytes;
  run.next = range.offset + range.sizeBytes;
  if (!waits || run.bytes <= kRunBytes) return;
  run.source = source;
  run.windows.clear();
  moveWindows(run, run.next);
  forgetOldest(true);
}

// Lets go what ends before `from`, and has the rest filled. A window that somebody waits for stays until it is filled:
// who fills it holds it.
void ReadAhead::moveWindows(Run& run, uint64_t from) {
  run.next = from;
  std::erase_if(run.windows, [&](const WindowPtr& window) { return window->end <= from; });
  uint64_t ahead = run.windows.empty() ? from : run.windows.back()->end;
  while (run.windows.size() < kWindows && ahead < run.source.size) {
    auto window = std::make_shared<Window>();
    window->begin = ahead;
    window->end = ahead = std::min(ahead + kWindowBytes, run.source.size);
    if (!post_([this, window, source = run.source] { fill(window, source); })) break;
    run.windows.push_back(std::move(window));
  }
  if (run.windows.empty()) run.source = {};
}

void ReadAhead::fill(const WindowPtr& wanted, const Source& source) {
  {
    std::lock_guard lock(mutex_);
    // Its run went elsewhere or was forgotten, and nobody waits: only who has this filled still holds it.
    if (wanted.use_count() == 1 && wanted->waiters.empty()) return;
  }
  Window& window = *wanted;
  const size_t sizeBytes = window.end - window.begin;
  std::unique_ptr<char[]> bytes(new (std::nothrow) char[sizeBytes]);
  size_t done = 0;
  const int error = bytes ? source.read(bytes.get(), sizeBytes, window.begin, false, done) : ENOMEM;
  std::vector<Waiter> waiters;
  {
    std::lock_guard lock(mutex_);
    if (error != 0) window.end = window.begin + done;
    window.bytes = std::move(bytes);
    window.isFilled = true;
    waiters.swap(window.waiters);
  }
  for (Waiter& waiter : waiters) {
    if (window.has(waiter.range)) {
      window.answer(waiter);
    } else {
      fuse::Session::resubmit(std::move(waiter.request));
    }
  }
}

}  // namespace siteswap::overlay
