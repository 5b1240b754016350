/// Gives out handles of engines, and recognises those that were closed.
#pragma once

#include <memory>

#include "engine.hpp"
#include "paraexport.h"

namespace paraexport::core {

/// A new handle for the engine. It is a number, not an address, and is never used again.
paraexport_engine *add_handle(std::shared_ptr<const Engine> engine);
/// The engine, kept alive as long as the result; throws an Error for null and for closed handles.
std::shared_ptr<const Engine> engine_of(const paraexport_engine *handle);
/// Forget the handle. The engine ends with its last call. Throws an Error for a handle that is closed already.
void remove_handle(const paraexport_engine *handle);

}  // namespace paraexport::core
