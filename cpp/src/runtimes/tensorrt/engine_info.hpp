/// `engine.json`: how the engine of a bundle was compiled, and whether it can run here.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace paraexport::core {

/// A range of batch sizes, and the one that its kernels were chosen for.
struct Profile {
    std::size_t min, opt, max;
};

struct EngineInfo {
    std::string runtime, version;
    std::vector<std::string> built_for;  ///< compute capabilities; empty for all that the runtime knows
    std::vector<Profile> profiles;
    bool version_compatible = false, hardware_compatible = false, stripped = false;
};

/// Throws an Error for a file of another form.
EngineInfo parse_engine_info(std::string_view content, const std::string &where);

/// The profile for a batch: among those that accept it, the one with the nearest optimum, as a ratio.
std::size_t nearest_profile(const std::vector<Profile> &profiles, std::size_t batch);

/// Why the engine cannot run with this version and on a GPU with this compute capability; empty if it can.
std::string obstacles(const EngineInfo &info, const std::string &version, const std::string &capability);

}  // namespace paraexport::core
