/// Finds the files that an ONNX model names for its weights.
#pragma once

#include <set>
#include <string>
#include <string_view>

namespace paraexport::core {

/// The names of all files with weights, in any graph, function or attribute of the model. A tensor without a name for
/// its file gives an empty one.
///
/// A runtime that gets a model from memory looks for these files in the current folder, where anything may be.
///
/// Throws std::invalid_argument if the bytes are no protobuf message.
std::set<std::string> external_files(std::string_view model);

}  // namespace paraexport::core
