// Answers each line on stdin with the median time of some calls, in µs: burst BUNDLE THREADS BATCH CALLS
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <string>

#include <paraexport.hpp>

int main(int, char **argv) {
    using Clock = std::chrono::steady_clock;
    paraexport::Options options;
    options.threads = std::atoi(argv[2]);
    const auto batch = static_cast<std::size_t>(std::atoi(argv[3]));
    const auto calls = static_cast<std::size_t>(std::atoi(argv[4]));
    const paraexport::Engine engine{argv[1], options};
    const paraexport::Info &info = engine.info();
    const std::vector<float> images(batch * info.channels * info.height * info.width, 0.5F);
    std::vector<float> logits(batch * info.classes);
    std::vector<double> times(calls);
    std::string line;
    while (std::getline(std::cin, line)) {
        for (double &time : times) {
            const auto start = Clock::now();
            engine.run(images.data(), batch, logits.data());
            time = std::chrono::duration<double, std::micro>(Clock::now() - start).count();
        }
        std::sort(times.begin(), times.end());
        std::printf("%.3f\n", times[calls / 2]);
        std::fflush(stdout);
    }
}
