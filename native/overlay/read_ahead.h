// Reading ahead in large committed files that are read from front to back and have to come from the disk.
//
// The kernel asks for 128 KiB at a time, twice at most, and each would wait for the disk. So once a run of such
// requests is seen, other threads read the next windows of the file meanwhile, and most requests are answered from
// memory at once. (More read-ahead in the kernel is no way: a page fault in a mapped file reads as much around
// itself.) What is read here and there makes no run, nor does what the page cache has. Who reads elsewhere in the same
// file has a run of his own.
//
// A window can't go out of date: committed bytes never change.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <vector>

#include "fuse/request.h"
#include "overlay/backing.h"

namespace siteswap::overlay {

class ReadAhead {
 public:
  static constexpr uint64_t kLeastBytes = 2 << 20;  // of a file that this is for
  static constexpr uint64_t kRunBytes = 1 << 20;  // more than this in sequence is a run; one read() is often that large
  static constexpr size_t kWindowBytes = 1 << 20;
  static constexpr size_t kWindows = 2;  // ahead of a run
  static constexpr size_t kRuns = 4;     // the latest ones with windows, and as many that are none yet

  struct Range {
    uint64_t ino, offset;
    size_t sizeBytes;  // of it; ends within the file
  };
  // Runs it on another thread, soon. False: never.
  using Post = std::function<bool(std::function<void()> work)>;

  explicit ReadAhead(Post post) : post_(std::move(post)) {}

  // True: a window has the range, and the request is answered, now or when the window is filled. (If that fails, it is
  // dispatched again, and will find no window.)
  bool answer(fuse::RequestPtr& request, const Range& range);
  // In the order of the requests: this one is answered otherwise, and `waits` for the disk or not.
  void note(const Range& range, const Source& source, bool waits);

 private:
  struct Waiter {
    fuse::RequestPtr request;
    Range range;
  };
  struct Window {
    uint64_t begin, end;  // once filled: without what could not be read
    bool isFilled = false;
    std::unique_ptr<char[]> bytes;
    std::vector<Waiter> waiters;  // until it is filled

    bool has(const Range& range) const { return begin <= range.offset && range.offset + range.sizeBytes <= end; }
    void answer(const Waiter& waiter) const;
  };
  using WindowPtr = std::shared_ptr<Window>;
  struct Run {
    uint64_t ino = 0;
    uint64_t next = 0;             // where its latest request ended
    uint64_t bytes = 0;            // in sequence until there
    Source source;                 // with windows only
    std::list<WindowPtr> windows;  // one behind the other
  };

  // The run that goes on with `range`: it has a window for it, or ends where it begins. It is the latest now.
  Run* find(const Range& range, WindowPtr& window);  // mutex_
  Run& begin(const Range& range);                    // mutex_
  void forgetOldest(bool withWindows);               // mutex_
  void moveWindows(Run& run, uint64_t from);         // mutex_
  void fill(const WindowPtr& window, const Source& source);

  const Post post_;
  std::mutex mutex_;     // leaf, but for what `post` locks
  std::list<Run> runs_;  // latest first
};

}  // namespace siteswap::overlay
