#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>
#if defined(__linux__)
#include <sys/stat.h>

#include <cstdlib>
#endif

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

#if defined(__linux__)
namespace {

namespace fs = std::filesystem;

/// A folder of the test that is removed in the end.
struct Folder {
    fs::path path;
    Folder() {
        std::string name = (fs::temp_directory_path() / "paraexport-XXXXXX").string();
        path = mkdtemp(name.data());
    }
    Folder(const Folder &) = delete;
    Folder &operator=(const Folder &) = delete;
    ~Folder() { fs::remove_all(path); }

    void write(const std::string &name) const {
        fs::create_directories((path / name).parent_path());
        std::ofstream{path / name} << "not a library";
    }
};

std::string message(const LibraryNames &names, const std::string &given) {
    try {
        const Library library{names, given};
    } catch (const Error &error) {
        return error.what();
    }
    return {};
}

const LibraryNames MADE_UP{"Thing", "PARAEXPORT_THING", {"libthing"}, {"thing/capi"}, "install it"};

}  // namespace

TEST_CASE("versions in a folder are compared by number, and what is no file is left out") {
    const Folder folder;
    for (const char *name : {"libthing.so", "libthing.so.1.9.0", "libthing.so.1.23.0"}) {
        folder.write(name);
    }
    CHECK(mkfifo((folder.path / "libthing.so.9").c_str(), 0600) == 0);
    const std::string at = folder.path.string() + "/libthing.so";
    const std::string text = message(MADE_UP, folder.path.string());
    CHECK(text.find("expected one of " + at + ".1.23.0, " + at + ".1.9.0, " + at + ", got " + at + ".1.23.0: ") !=
          std::string::npos);
    CHECK(message(MADE_UP, at + ".9").find("got not a regular file") != std::string::npos);
}

TEST_CASE("the folder of a package or of an environment leads to the library") {
    const Folder folder;
    const std::string package = "lib/python3.12/site-packages/thing";
    folder.write(package + "/capi/libthing.so.2");
    const std::string file = (folder.path / package / "capi/libthing.so.2").string();
    for (const fs::path &given : {folder.path, folder.path / package, folder.path / package / "capi"}) {
        CHECK(message(MADE_UP, given.string()).find("one of " + file + ", got") != std::string::npos);
    }
    CHECK(message(MADE_UP, "/nowhere")
              .find("if it was installed with pip, activate its environment, or set PARAEXPORT_THING to its folder "
                    "thing") != std::string::npos);
}

TEST_CASE("a library that is refused is passed over, and the error gives the first reason") {
    LibraryNames names{"C", "PARAEXPORT_C", {"libc", "libm"}, {}, "install it"};
    names.refusal = [](const Library &library) -> std::string { return library.has("cos") ? "" : "no cosine"; };
    const Folder folder;
    const Library c{LibraryNames{"C", "X", {"libc"}, {}, ""}, "libc.so.6"}, m{LibraryNames{"M", "X", {"libm"}, {}, ""},
                                                                              "libm.so.6"};
    fs::create_symlink(c.path(), folder.path / "libc.so.6");
    CHECK(message(names, folder.path.string()).find("/libc.so.6: no cosine); install it") != std::string::npos);
    fs::create_symlink(m.path(), folder.path / "libm.so.5");
    CHECK(Library{names, folder.path.string()}.path() == m.path());
}
#endif
