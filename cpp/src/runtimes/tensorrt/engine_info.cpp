#include "runtimes/tensorrt/engine_info.hpp"

#include <algorithm>
#include <stdexcept>

#include "bundle/schema.hpp"
#include "error.hpp"
#include "runtimes/known.hpp"

namespace paraexport::core {
namespace {

constexpr Type BOOL{Type::BOOL}, INT{Type::INT}, STR{Type::STR};
constexpr Type STRINGS{Type::ARRAY, &STR};
constexpr Field PROFILE_FIELDS[] = {{"min", &INT}, {"opt", &INT}, {"max", &INT}, {}};
constexpr Type PROFILE{Type::OBJECT, nullptr, 0, PROFILE_FIELDS}, PROFILES{Type::ARRAY, &PROFILE};
constexpr Field OPTION_FIELDS[] = {
    {"version_compatible", &BOOL, false}, {"hardware_compatible", &BOOL, false}, {"stripped", &BOOL, false}, {}};
constexpr Type OPTIONS{Type::OBJECT, nullptr, 0, OPTION_FIELDS};
/// Only the fields that decide how an engine runs. The others describe it.
constexpr Field FIELDS[] = {{"runtime", &STR},       {"version", &STR},     {"built_for", &STRINGS},
                            {"profiles", &PROFILES}, {"options", &OPTIONS}, {}};
constexpr Type ENGINE_INFO{Type::OBJECT, nullptr, 0, FIELDS};

Error malformed(const std::string &where, const std::string &got) {
    return bad_input({"malformed", where, {}, got, "build the bundle again"});
}

}  // namespace

EngineInfo parse_engine_info(std::string_view content, const std::string &where) {
    Json raw;
    try {
        raw = parse_json(content);
    } catch (const std::invalid_argument &error) {
        throw malformed(where, on_one_line(error.what()));
    }
    if (const std::string error = type_error(raw, ENGINE_INFO); !error.empty()) {
        throw malformed(where, error);
    }
    EngineInfo info;
    info.runtime = raw.find("runtime")->string;
    info.version = raw.find("version")->string;
    for (const Json &capability : raw.find("built_for")->items) {
        info.built_for.push_back(capability.string);
    }
    for (const Json &profile : raw.find("profiles")->items) {
        const auto batch = [&](const char *name) { return profile.find(name)->integer; };
        if (batch("min") < 1 || batch("opt") < batch("min") || batch("max") < batch("opt")) {
            throw malformed(where, "a profile that is out of order");
        }
        info.profiles.push_back({static_cast<std::size_t>(batch("min")), static_cast<std::size_t>(batch("opt")),
                                 static_cast<std::size_t>(batch("max"))});
    }
    const auto option = [&](const char *name) {
        const Json *value = raw.find("options")->find(name);
        return value != nullptr && value->boolean;
    };
    info.version_compatible = option("version_compatible");
    info.hardware_compatible = option("hardware_compatible");
    info.stripped = option("stripped");
    return info;
}

std::size_t nearest_profile(const std::vector<Profile> &profiles, std::size_t batch) {
    std::size_t best = profiles.size();
    double smallest = 0;
    for (std::size_t i = 0; i < profiles.size(); ++i) {
        const auto [low, high] = std::minmax(batch, profiles[i].opt);
        const double ratio = static_cast<double>(high) / static_cast<double>(low);
        if (batch >= profiles[i].min && batch <= profiles[i].max && (best == profiles.size() || ratio < smallest)) {
            best = i;
            smallest = ratio;
        }
    }
    if (best == profiles.size()) {
        throw bad_input({"no profile accepts the batch",
                         {},
                         {},
                         std::to_string(batch),
                         "use another batch size, or build with a --profile for it"});
    }
    return best;
}

std::string obstacles(const EngineInfo &info, const std::string &version, const std::string &capability) {
    std::string reasons;
    const auto add = [&](const std::string &reason) { reasons += (reasons.empty() ? "" : "; ") + reason; };
    const std::string versions =
        "it was compiled by " + info.runtime + " " + info.version + ", and " + version + " is here";
    if (info.version_compatible) {
        if (is_older(version, info.version)) {
            add(versions + ": it runs on the same and later versions");
        }
    } else if (version != info.version) {
        add(versions + ": it runs only on the same version");
    }
    const bool fits = (info.hardware_compatible && !is_older(capability, "8.0")) || info.built_for.empty() ||
                      std::find(info.built_for.begin(), info.built_for.end(), capability) != info.built_for.end();
    if (!fits) {
        std::string built;
        for (const std::string &one : info.built_for) {
            built += (built.empty() ? "" : " and ") + one;
        }
        add("it was compiled for compute capability " + built + ", and the GPU has " + capability);
    }
    return reasons;
}

}  // namespace paraexport::core
