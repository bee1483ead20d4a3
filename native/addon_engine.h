// The engine as a JavaScript object: one session, one overlay. See src/native/binding.ts for the contract.
#pragma once

#include <napi.h>

namespace siteswap::addon {

// createEngine(options, onEvent)
Napi::Value createEngine(const Napi::CallbackInfo& info);

}  // namespace siteswap::addon
