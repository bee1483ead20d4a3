// The standard headers that most files here and in native/ include, precompiled once for each variant: a quarter of the
// compiler's time. The addon is built without it, and so are missing #includes found.
#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <thread>
#include <unordered_map>
#include <vector>
