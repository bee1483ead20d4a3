// Leader/follower threads: at most one thread, the leader, waits for the next thing and serves it itself; the others
// are parked, or run posted work, or are busy with what they read as leader before they resigned.
//
// Invariants: exactly one leader whenever a thread is free to be it (threads are made on demand, up to kMaxThreads,
// and kept); posted work runs in order of posting, as threads come free; no lock is held while a step or work runs.
// When all threads are busy, the first to come free takes leading and posted work in turn, so neither starves.
// Threads take no signal but the wake-up signal, so Node's handlers stay on Node's threads.
// Used by Session only.
#pragma once

#include <pthread.h>

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <string>
#include <vector>

namespace siteswap::fuse {

class LeaderPool {
 public:
  static constexpr size_t kMaxThreads = 16;

  struct Callbacks {
    std::function<bool()> step;   // the leader waits and serves; false ends the pool
    std::function<void()> ended;  // once, from the last thread
    std::function<void(const std::string&)> log;
  };

  explicit LeaderPool(Callbacks callbacks);
  ~LeaderPool();

  // 0, or an errno when not even the first thread could be made (then `ended` is not called).
  int start();
  // Ends and joins all threads: a leader between enterWait() and leaveWait() is woken by a signal.
  void stop();
  // The calling thread, if it leads, lets another one lead.
  void resign();
  // False, and `work` dropped, once the threads are gone.
  bool post(std::function<void()> work);

  bool ending() const { return ending_.load(std::memory_order_relaxed); }
  // Around the leader's blocking system call, which then fails with EINTR when the pool ends. It must look at
  // ending() after enterWait() and before blocking.
  void enterWait() { waiting_.store(true); }
  void leaveWait() { waiting_.store(false); }

 private:
  enum class Role { kLead, kWork, kEnd };

  static void* threadMain(void* self);
  void run();
  Role chooseRole(std::unique_lock<std::mutex>& lock);
  void lead(std::unique_lock<std::mutex>& lock);
  void work(std::unique_lock<std::mutex>& lock);
  void getHelp();     // lock held
  int spawnThread();  // lock held

  const Callbacks callbacks_;
  std::mutex mutex_;  // guards everything below but the atomics
  std::condition_variable wake_;
  std::condition_variable allEnded_;
  std::deque<std::function<void()>> work_;
  std::vector<pthread_t> threads_;
  size_t alive_ = 0;
  size_t idle_ = 0;
  bool started_ = false;
  bool ended_ = false;
  bool hasLeader_ = false;
  bool workFirst_ = false;  // whose turn it is when one thread must do both
  pthread_t leader_{};
  std::atomic<bool> ending_{false};
  std::atomic<bool> waiting_{false};
};

}  // namespace siteswap::fuse
