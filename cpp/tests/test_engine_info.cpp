#include <doctest/doctest.h>

#include "error.hpp"
#include "runtimes/tensorrt/engine_info.hpp"

using namespace paraexport::core;

namespace {

constexpr const char *INFO = R"({"runtime": "TensorRT", "version": "10.13.3.9", "built_for": ["8.9"], "built_on": "x",
    "profiles": [{"min": 1, "opt": 1, "max": 8}, {"min": 4, "opt": 32, "max": 64}],
    "options": {"version_compatible": false, "tf32": false}})";

}  // namespace

TEST_CASE("engine.json is read") {
    const EngineInfo info = parse_engine_info(INFO, "engine.json");
    CHECK(info.version == "10.13.3.9");
    CHECK(info.profiles.size() == 2);
    CHECK_FALSE(info.stripped);
    for (const char *bad : {"", "{}", "[]", R"({"runtime": 1})"}) {
        CHECK_THROWS_AS(parse_engine_info(bad, "engine.json"), Error);
    }
}

TEST_CASE("the profile with the nearest optimum is used") {
    const EngineInfo info = parse_engine_info(INFO, "engine.json");
    CHECK(nearest_profile(info.profiles, 1) == 0);
    CHECK(nearest_profile(info.profiles, 5) == 0);
    CHECK(nearest_profile(info.profiles, 7) == 1);
    CHECK(nearest_profile(info.profiles, 64) == 1);
    CHECK_THROWS_AS(nearest_profile(info.profiles, 65), Error);
}

TEST_CASE("an engine for another GPU or version is named") {
    EngineInfo info = parse_engine_info(INFO, "engine.json");
    CHECK(obstacles(info, "10.13.3.9", "8.9").empty());
    CHECK(obstacles(info, "10.13.3.9", "9.0") == "it was compiled for compute capability 8.9, and the GPU has 9.0");
    CHECK(obstacles(info, "10.14.0.1", "8.9") ==
          "it was compiled by TensorRT 10.13.3.9, and 10.14.0.1 is here: it runs only on the same version");
    info.version_compatible = info.hardware_compatible = true;
    CHECK(obstacles(info, "10.14.0.1", "9.0").empty());
    CHECK_FALSE(obstacles(info, "10.9.0.1", "9.0").empty());
}
