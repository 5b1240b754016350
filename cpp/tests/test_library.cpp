#include <doctest/doctest.h>

#include "error.hpp"
#include "runtimes/known.hpp"
#include "runtimes/library.hpp"
#include "runtimes/shared_object.hpp"

using namespace paraexport::core;

TEST_CASE("libraries are recognised with any version") {
#if defined(__linux__)
    CHECK(is_shared_object("libonnxruntime.so", "libonnxruntime"));
    CHECK(is_shared_object("libonnxruntime.so.1.32.0", "libonnxruntime"));
    CHECK_FALSE(is_shared_object("libonnxruntime_providers_shared.so", "libonnxruntime"));
    CHECK_FALSE(is_shared_object("libonnxruntime.so.bak", "libonnxruntime"));
#endif
}

TEST_CASE("a missing library is named with what was tried and the remedy") {
    const LibraryNames names{"Nothing", "PARAEXPORT_NOTHING", {"libnothing"}, {}, "install it"};
    CHECK_THROWS_AS((Library{names, ""}), Error);
    try {
        const Library library{names, "/nowhere/libnothing.so"};
    } catch (const Error &error) {
        const std::string text = error.what();
        CHECK(error.status() == PARAEXPORT_MISSING);
        CHECK(text.find("Nothing cannot be loaded (expected one of /nowhere/libnothing.so, got ") == 0);
        CHECK(text.find("install it, or set PARAEXPORT_NOTHING") != std::string::npos);
    }
}

TEST_CASE("versions are compared by number") {
    Runtime runtime{"onnxruntime", "1.19", "", "", {}, {}, {}, {}};
    for (const char *version : {"1.19", "1.19.0", "1.32.1+cpu", "2"}) {
        CHECK_NOTHROW(require_version(runtime, version, "x"));
    }
    for (const char *version : {"1.9", "1.18.9", "0.99", "", "x"}) {
        CHECK_THROWS_WITH_AS(require_version(runtime, version, "x"), doctest::Contains("onnxruntime is too old"),
                             Error);
    }
}

TEST_CASE("unknown settings are refused by name") {
    const Known known{"onnxruntime", "model.onnx", "CPU", {"a", "b"}};
    Runtime runtime{"onnxruntime", "1", "model.onnx", "CPU", {{"a", "1"}}, {{"b", "1"}}, {}, {}};
    CHECK_NOTHROW(known.require(runtime, "x"));
    runtime.settings["evil"] = "1";
    CHECK_THROWS_WITH(known.require(runtime, "x"),
                      "x: unknown runtime setting (expected some of a, b, got evil); "
                      "update paraexport, or build the bundle again");
}
