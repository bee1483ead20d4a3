#include "fuse/leader_pool.h"

#include <chrono>
#include <exception>
#include <utility>

#include "sys/wake_signal.h"

namespace siteswap::fuse {
namespace {

// The pool that the calling thread leads, if any.
thread_local const LeaderPool* ledByThisThread = nullptr;

}  // namespace

LeaderPool::LeaderPool(Callbacks callbacks) : callbacks_(std::move(callbacks)) {
  threads_.reserve(kMaxThreads);  // no thread is lost for want of memory
}

LeaderPool::~LeaderPool() {
  stop();
}

int LeaderPool::start() {
  sys::installWakeSignal();
  std::lock_guard lock(mutex_);
  const int error = spawnThread();
  started_ = error == 0;
  return error;
}

void LeaderPool::stop() {
  std::vector<pthread_t> threads;
  {
    std::unique_lock lock(mutex_);
    if (!started_) return;
    ending_ = true;
    wake_.notify_all();
    // The leader may be about to block, having looked at ending_ just before: so the signal is sent until it is seen.
    auto patience = std::chrono::microseconds(200);
    while (!ended_) {
      if (hasLeader_ && waiting_) sys::sendWakeSignal(leader_);
      allEnded_.wait_for(lock, patience);
      patience = std::min(patience * 2, std::chrono::microseconds(20'000));
    }
    threads.swap(threads_);
  }
  for (const pthread_t thread : threads) pthread_join(thread, nullptr);
}

void LeaderPool::resign() {
  if (ledByThisThread != this) return;
  ledByThisThread = nullptr;
  std::lock_guard lock(mutex_);
  hasLeader_ = false;
  if (!ending_) getHelp();
}

bool LeaderPool::post(std::function<void()> work) {
  std::lock_guard lock(mutex_);
  if (ended_ || (ending_ && alive_ == 0)) return false;
  work_.push_back(std::move(work));
  if (started_) getHelp();
  return true;
}

void LeaderPool::getHelp() {
  if (idle_ > 0) {
    wake_.notify_one();
  } else if (alive_ < kMaxThreads) {
    const int error = spawnThread();
    if (error != 0) callbacks_.log("no more threads (errno " + std::to_string(error) + "): requests wait for one");
  }
}

int LeaderPool::spawnThread() {
  const sys::WakeSignalOnly mask;  // inherited by the new thread
  pthread_t thread;
  const int error = pthread_create(&thread, nullptr, threadMain, this);
  if (error != 0) return error;
  pthread_setname_np(thread, "siteswap-fuse");
  threads_.push_back(thread);
  ++alive_;
  return 0;
}

void* LeaderPool::threadMain(void* self) {
  static_cast<LeaderPool*>(self)->run();
  return nullptr;
}

void LeaderPool::run() {
  std::unique_lock lock(mutex_);
  for (;;) {
    const Role role = chooseRole(lock);
    if (role == Role::kEnd) break;
    if (role == Role::kLead) {
      lead(lock);
    } else {
      work(lock);
    }
  }
  if (--alive_ > 0) return;
  lock.unlock();
  callbacks_.ended();
  lock.lock();
  ended_ = true;
  allEnded_.notify_all();
}

LeaderPool::Role LeaderPool::chooseRole(std::unique_lock<std::mutex>& lock) {
  for (;;) {
    const bool canLead = !hasLeader_ && !ending_;
    const bool alone = idle_ == 0 && alive_ >= kMaxThreads;
    if (canLead && !(alone && workFirst_ && !work_.empty())) return Role::kLead;
    if (!work_.empty()) return Role::kWork;
    if (ending_) return Role::kEnd;
    ++idle_;
    wake_.wait(lock);
    --idle_;
  }
}

void LeaderPool::lead(std::unique_lock<std::mutex>& lock) {
  hasLeader_ = true;
  leader_ = pthread_self();
  workFirst_ = true;
  if (!work_.empty()) getHelp();
  lock.unlock();
  ledByThisThread = this;
  bool goesOn = true;
  while (goesOn && ledByThisThread == this && !ending()) goesOn = callbacks_.step();
  lock.lock();
  if (ledByThisThread == this) {
    ledByThisThread = nullptr;
    hasLeader_ = false;
  }
  if (!goesOn) {
    ending_ = true;
    wake_.notify_all();
  }
}

void LeaderPool::work(std::unique_lock<std::mutex>& lock) {
  workFirst_ = false;
  std::function<void()> work = std::move(work_.front());
  work_.pop_front();
  if (!work_.empty() || (!hasLeader_ && !ending_)) getHelp();
  lock.unlock();
  try {
    work();
  } catch (const std::exception& error) {
    callbacks_.log(std::string("bug: posted work threw: ") + error.what());
  }
  work = nullptr;  // what it holds is let go outside the lock
  lock.lock();
}

}  // namespace siteswap::fuse
