// Measures the time of one call: latency BUNDLE [BATCH [SECONDS [THREADS]]]
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "paraexport.hpp"

/// The number in an argument, or the end of the program.
static double number(const char *text, double least, double most, bool whole) {
    char *end = nullptr;
    const double value = std::strtod(text, &end);
    if (end == text || *end != '\0' || !(value >= least && value <= most) || (whole && std::floor(value) != value)) {
        std::fprintf(stderr, "%s: not a%s number from %g to %g\n", text, whole ? " whole" : "", least, most);
        std::exit(2);
    }
    return value;
}

int main(int argc, char **argv) {
    if (argc < 2 || argc > 5) {
        std::fprintf(stderr, "usage: latency BUNDLE [BATCH [SECONDS [THREADS]]]\n");
        return 2;
    }
    try {
        using Clock = std::chrono::steady_clock;
        const auto batch = static_cast<std::size_t>(argc > 2 ? number(argv[2], 1, 1 << 20, true) : 1);
        const double seconds = argc > 3 ? number(argv[3], 0, 1e6, false) : 2;
        paraexport::Options options;
        options.threads = argc > 4 ? static_cast<int>(number(argv[4], 0, 1 << 20, true)) : 0;

        const auto before = Clock::now();
        const paraexport::Engine engine{argv[1], options};
        const double open_ms = std::chrono::duration<double, std::milli>(Clock::now() - before).count();
        const paraexport::Info &info = engine.info();
        std::printf("%s %s, %s %s, opened in %.1f ms\n", info.target.c_str(), info.runtime_version.c_str(),
                    info.precision.c_str(), info.layout.c_str(), open_ms);

        const std::vector<float> images(batch * info.channels * info.height * info.width, 0.5F);
        std::vector<float> logits(batch * info.classes);
        std::vector<double> milliseconds;
        for (int warm_up = 0; warm_up < 20; ++warm_up) {
            engine.run(images.data(), batch, logits.data());
        }
        const auto end =
            Clock::now() + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>{seconds});
        while (Clock::now() < end || milliseconds.empty()) {
            const auto start = Clock::now();
            engine.run(images.data(), batch, logits.data());
            milliseconds.push_back(std::chrono::duration<double, std::milli>(Clock::now() - start).count());
        }
        std::sort(milliseconds.begin(), milliseconds.end());
        const auto percentile = [&](double share) {
            return milliseconds[static_cast<std::size_t>(share * static_cast<double>(milliseconds.size() - 1))];
        };
        std::printf("batch %zu, %zu calls, ms: p50 %.3f, p90 %.3f, p99 %.3f, max %.3f\n", batch, milliseconds.size(),
                    percentile(0.5), percentile(0.9), percentile(0.99), milliseconds.back());
        return 0;
    } catch (const paraexport::Failure &failure) {
        std::fprintf(stderr, "%s\n", failure.what());
        return failure.status();
    }
}
