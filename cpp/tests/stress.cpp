// Uses a bundle in every way at once, for the sanitizers: stress BUNDLE [THREADS [CALLS]]
#include <dlfcn.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <thread>
#include <vector>

#include "paraexport.hpp"

// OpenVINO loads its threads with RTLD_DEEPBIND, which AddressSanitizer refuses. The flag makes no difference here.
extern "C" __attribute__((visibility("default"))) void *dlopen(const char *file, int mode) {
    using Dlopen = void *(*)(const char *, int);
    static const auto real = reinterpret_cast<Dlopen>(dlsym(RTLD_NEXT, "dlopen"));
    return real(file, mode & ~RTLD_DEEPBIND);
}

namespace {

std::atomic<int> wrong{0};

void expect(bool holds, const char *what) {
    if (!holds) {
        std::fprintf(stderr, "wrong: %s\n", what);
        ++wrong;
    }
}

std::vector<float> images_of(const paraexport::Info &info, std::size_t count, unsigned seed) {
    std::vector<float> images(count * info.channels * info.height * info.width);
    for (float &value : images) {
        seed = seed * 1664525u + 1013904223u;
        value = static_cast<float>(seed >> 8) / 8388608.0F - 1;
    }
    return images;
}

void use(const paraexport::Engine &engine, unsigned seed, int calls) {
    const paraexport::Info &info = engine.info();
    const std::size_t count = 1 + seed % 3;
    const std::vector<float> images = images_of(info, count, seed), expected = engine(images.data(), count);
    std::vector<unsigned char> bytes(std::size_t{97} * 61 * 3);
    for (std::size_t i = 0; i < bytes.size(); ++i) {
        bytes[i] = static_cast<unsigned char>(i * 31 + seed);
    }
    for (int call = 0; call < calls; ++call) {
        expect(engine(images.data(), count) == expected, "logits changed");
        expect(!engine.classify({bytes.data(), 97 - seed % 50, 61, 3}, 2).empty(), "no label");
        expect(paraexport_verify("/nowhere") == PARAEXPORT_BAD_INPUT, "nothing was verified");
    }
}

/// The files of the bundle in memory.
std::vector<std::pair<std::string, std::string>> contents_of(const char *bundle) {
    std::vector<std::pair<std::string, std::string>> contents;
    for (const auto &entry : std::filesystem::directory_iterator(bundle)) {
        std::ifstream stream{entry.path(), std::ios::binary};
        contents.emplace_back(entry.path().filename().string(),
                              std::string{std::istreambuf_iterator<char>{stream}, {}});
    }
    return contents;
}

void open_damaged(const char *bundle) {
    auto contents = contents_of(bundle);
    std::vector<paraexport::File> files;
    for (const auto &[name, content] : contents) {
        files.push_back({name, content.data(), content.size()});
    }
    expect(paraexport::Engine{files}.check() < 1, "golden data from memory");
    for (auto &named : contents) {
        if (named.second.empty()) {
            continue;
        }
        named.second[named.second.size() / 2] ^= 1;
        try {
            const paraexport::Engine engine{files};
            expect(false, "a damaged file was accepted");
        } catch (const paraexport::Failure &failure) {
            expect(failure.status() == PARAEXPORT_BAD_INPUT, "another status for damage");
        }
        named.second[named.second.size() / 2] ^= 1;
    }
}

}  // namespace

int main(int argc, char **argv) {
    const int threads = argc > 2 ? std::atoi(argv[2]) : 8, calls = argc > 3 ? std::atoi(argv[3]) : 20;
    try {
        paraexport::Options options;
        options.threads = 1;
        paraexport::Engine engine{argv[1], options};
        expect(engine.check() < 1, "golden data");
        std::vector<std::thread> running;
        for (int number = 0; number < threads; ++number) {
            running.emplace_back([&, number] { use(engine, static_cast<unsigned>(number), calls); });
        }
        for (int opening = 0; opening < 3; ++opening) {  // while the others run
            const paraexport::Engine other{argv[1], options};
            expect(other.info().classes == engine.info().classes, "other classes");
        }
        for (std::thread &thread : running) {
            thread.join();
        }
        open_damaged(argv[1]);
    } catch (const paraexport::Failure &failure) {
        std::fprintf(stderr, "%s\n", failure.what());
        return failure.status();
    }
    std::puts(wrong == 0 ? "all as expected" : "failed");
    return wrong == 0 ? 0 : 1;
}
